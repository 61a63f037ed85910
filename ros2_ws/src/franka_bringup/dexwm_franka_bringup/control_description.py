"""Our robot's description with the ros2_control part of Franka's.

How franka_ros2's hardware component is called and what it wants to know differs between its
versions. So that part is taken from the installed franka_description, not written down here.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import xacro
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from dexwm.robot.joints import ARM_JOINTS

_ROBOT = 'fr3'


class ControlDescriptionError(ValueError):
    """Franka's description is absent or is not one of this arm."""


def franka_description(robot_ip: str, fake_hardware: bool) -> str:
    """Franka's URDF of the arm alone with its ros2_control part.

    Args:
        robot_ip: address of the robot.
        fake_hardware: whether ros2_control's mock components stand in for it.

    Raises:
        ControlDescriptionError: The package franka_description is not installed.
    """
    try:
        share = Path(get_package_share_directory('franka_description'))
    except PackageNotFoundError as error:
        raise ControlDescriptionError(
            'franka_description is not installed: build franka_ros2 with its dependencies and '
            'source its workspace'
        ) from error
    path = share / 'robots' / _ROBOT / f'{_ROBOT}.urdf.xacro'
    mappings = {
        'robot_type': _ROBOT,
        'arm_prefix': '',
        'hand': 'false',
        'ros2_control': 'true',
        'robot_ip': robot_ip,
        'use_fake_hardware': str(fake_hardware).lower(),
        'fake_sensor_commands': 'false',
    }
    urdf: str = xacro.process_file(str(path), mappings=mappings).toxml()
    return urdf


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
            f'ros2_control commands the joints {commanded}, expected {list(ARM_JOINTS)}: use a '
            'franka_description for the FR3, without prefix'
        )
    root.extend(parts)
    return ElementTree.tostring(root, encoding='unicode')
