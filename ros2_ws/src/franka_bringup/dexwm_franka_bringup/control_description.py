"""Our robot's description with the ros2_control part of Franka's.

How franka_ros2's hardware component is called and what it wants to know differs between its
versions. So that part is taken from the installed packages of Franka, not written down here.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import xacro
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from dexwm.robot.joints import ARM_JOINTS
from dexwm_franka_bringup.cell_config import PACKAGE

_ROBOT = 'fr3'


class ControlDescriptionError(ValueError):
    """Franka's packages are absent or describe another arm."""


def franka_control(robot_ip: str, fake_hardware: bool) -> str:
    """A URDF with Franka's ros2_control part.

    From version 3.4 of franka_ros2 on its package franka_hardware has that part, as a macro;
    before, franka_description had it in the URDF of the arm.

    Args:
        robot_ip: address of the robot.
        fake_hardware: whether ros2_control's mock components stand in for it.

    Raises:
        ControlDescriptionError: The package that has it is not installed.
    """
    mappings = {'robot_ip': robot_ip, 'use_fake_hardware': str(fake_hardware).lower()}
    if (_share('franka_hardware') / 'ros2_control' / 'franka_arm.ros2_control.xacro').is_file():
        path = _share(PACKAGE) / 'urdf' / 'fr3_control.urdf.xacro'
    else:
        path = _share('franka_description') / 'robots' / _ROBOT / f'{_ROBOT}.urdf.xacro'
        mappings |= {
            'robot_type': _ROBOT,
            'arm_prefix': '',
            'hand': 'false',
            'ros2_control': 'true',
            'fake_sensor_commands': 'false',
        }
    urdf: str = xacro.process_file(str(path), mappings=mappings).toxml()
    return urdf


def _share(package: str) -> Path:
    try:
        return Path(get_package_share_directory(package))
    except PackageNotFoundError as error:
        raise ControlDescriptionError(
            f'{package} is not installed: build franka_ros2 with its dependencies and source its '
            'workspace'
        ) from error


def with_ros2_control(description: str, franka: str) -> str:
    """A description with the ros2_control elements of another.

    Args:
        description: URDF of our robot.
        franka: URDF that has them.

    Raises:
        ControlDescriptionError: It has none, or they do not command exactly the arm's joints.
    """
    root = ElementTree.fromstring(description)
    parts = ElementTree.fromstring(franka).findall('ros2_control')
    commanded = [
        str(joint.get('name'))
        for part in parts
        for joint in part.findall('joint')
        if joint.find('command_interface') is not None
    ]
    if sorted(commanded) != sorted(ARM_JOINTS):
        raise ControlDescriptionError(
            f'ros2_control commands the joints {commanded}, expected {list(ARM_JOINTS)}: use '
            'packages of franka_ros2 and franka_description that belong together, for the FR3, '
            'without prefix'
        )
    root.extend(parts)
    return ElementTree.tostring(root, encoding='unicode')
