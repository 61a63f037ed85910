"""Configuration for franka_ros2: what can be checked without it."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import rclpy
import yaml
from rclpy.context import Context
from rclpy.node import Node

from dexwm.robot.joints import ARM_JOINTS, HOME
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.arm_config import ArmConfigError, load_arm_config
from dexwm_franka_bringup.configure_arm import ConfigurationFailed, configure
from dexwm_franka_bringup.control_description import (
    ControlDescriptionError,
    franka_control,
    with_ros2_control,
)
from dexwm_franka_bringup.description import robot_description

PACKAGE = Path(__file__).parent.parent
CONTROLLERS = PACKAGE / 'config' / 'fr3_controllers.yaml'
LAUNCH_FILE = PACKAGE / 'launch' / 'fr3_allegro.launch.py'


@pytest.fixture
def controllers():
    return {
        name: node['ros__parameters']
        for name, node in yaml.safe_load(CONTROLLERS.read_text())['/**'].items()
    }


def franka_urdf(joints=ARM_JOINTS):
    """As franka_description had it before franka_ros2 3.4, in short."""
    interfaces = ''.join(
        f'<joint name="{name}"><command_interface name="effort"/>'
        '<state_interface name="position"/></joint>'
        for name in joints
    )
    return (
        '<robot name="fr3"><link name="base"/><ros2_control name="FrankaHardwareInterface" '
        'type="system"><hardware><plugin>franka_hardware/FrankaHardwareInterface</plugin>'
        f'<param name="robot_ip">172.16.0.2</param></hardware>{interfaces}</ros2_control></robot>'
    )


FR3_CONTROL = """
  <ros2_control name="${arm_prefix}FrankaHardwareInterface" type="system">
    <hardware>
      <xacro:if value="${use_fake_hardware}"><plugin>mock</plugin></xacro:if>
      <xacro:unless value="${use_fake_hardware}">
        <plugin>Franka</plugin><param name="robot_ip">${robot_ip}</param>
      </xacro:unless>
    </hardware>
    <xacro:arm_joint number="${1}"/>
    <gpio name="vx"><command_interface name="cartesian_velocity"/></gpio>
  </ros2_control>
"""
ARM_JOINT = """
  <xacro:macro name="arm_joint" params="number">
    <joint name="${arm_prefix}${robot_type}_joint${number}">
      <command_interface name="position"/><command_interface name="effort"/>
      <state_interface name="position"/>
    </joint>
    <xacro:if value="${number != 7}"><xacro:arm_joint number="${number + 1}"/></xacro:if>
  </xacro:macro>
"""
# franka_hardware's from 3.4 on, in short; the joints come from a macro there, too.
HARDWARE_MACRO = f"""
<robot xmlns:xacro="http://www.ros.org/wiki/xacro">
  {ARM_JOINT}
  <xacro:macro name="franka_arm_ros2_control"
               params="robot_type robot_ip:='' use_fake_hardware:=false arm_prefix:=''">
    {FR3_CONTROL}
  </xacro:macro>
</robot>
"""
# franka_description's, in short; it has a control part before 3.4 only.
FR3_URDF = f"""
<robot name="fr3" xmlns:xacro="http://www.ros.org/wiki/xacro">
  <xacro:arg name="robot_type" default="fr3"/>
  <xacro:arg name="arm_prefix" default=""/>
  <xacro:arg name="robot_ip" default=""/>
  <xacro:arg name="use_fake_hardware" default="false"/>
  <xacro:arg name="ros2_control" default="false"/>
  <link name="fr3_link0"/>
  {ARM_JOINT}
  <xacro:property name="robot_type" value="$(arg robot_type)"/>
  <xacro:property name="arm_prefix" value="$(arg arm_prefix)"/>
  <xacro:property name="robot_ip" value="$(arg robot_ip)"/>
  <xacro:property name="use_fake_hardware" value="$(arg use_fake_hardware)"/>
  <xacro:if value="$(arg ros2_control)">%s</xacro:if>
</robot>
"""


# The controllers


def test_ros_itself_reads_the_parameters():
    """rcl's parser knows less YAML than PyYAML: no aliases, no lists of two types."""
    context = Context()
    arguments = ['--ros-args', '--params-file', str(CONTROLLERS)]
    rclpy.init(context=context, args=arguments)
    try:
        node = Node(
            'fr3_arm_controller',
            context=context,
            automatically_declare_parameters_from_overrides=True,
        )
        assert tuple(node.get_parameter('joints').value) == ARM_JOINTS
        assert node.get_parameter('gains.fr3_joint5.p').value == 250.0
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)


def test_the_controller_is_the_one_that_the_trajectory_node_expects(controllers):
    manager, arm = controllers['controller_manager'], controllers['fr3_arm_controller']
    assert manager['update_rate'] == 1000
    assert manager['overruns'] == {'manage': False, 'print_warnings': False}
    kind = manager['fr3_arm_controller']['type']
    assert kind == 'joint_trajectory_controller/JointTrajectoryController'
    assert set(controllers) - {'controller_manager'} <= set(manager)
    assert tuple(arm['joints']) == ARM_JOINTS
    assert (arm['command_interfaces'], arm['state_interfaces']) == (
        ['effort'],
        ['position', 'velocity'],
    )
    assert arm['interpolate_from_desired_state'] is True
    for joint in ARM_JOINTS:
        assert set(arm['constraints'][joint]) == {'trajectory', 'goal'}


def test_gains_are_franka_s(controllers):
    gains = controllers['fr3_arm_controller']['gains']
    assert tuple(gains) == ARM_JOINTS
    assert [gains[j]['p'] for j in ARM_JOINTS] == [600, 600, 600, 600, 250, 150, 50]
    assert [gains[j]['d'] for j in ARM_JOINTS] == [30, 30, 30, 30, 10, 10, 5]
    assert {gains[j]['i'] for j in ARM_JOINTS} == {0.0}
    assert {gains[j]['i_clamp'] for j in ARM_JOINTS} == {1.0}


def test_states_come_slowly_enough_for_python(controllers):
    broadcaster = controllers['joint_state_broadcaster']
    assert tuple(broadcaster['joints']) == ARM_JOINTS
    assert 50 <= broadcaster['update_rate'] <= 200
    assert 20 <= controllers['franka_robot_state_broadcaster']['update_rate'] <= 100


# The description


def test_the_control_part_is_added_to_our_robot():
    ours = robot_description(meshes=False)
    both = with_ros2_control(ours, franka_urdf())
    root = ElementTree.fromstring(both)
    (control,) = root.findall('ros2_control')
    assert control.find('hardware/param').text == '172.16.0.2'
    # It is still the robot with the hand, for everybody else.
    model = RobotModel.from_urdf(both)
    np.testing.assert_array_equal(
        model.keypoints(HOME), RobotModel.from_urdf(ours).keypoints(HOME)
    )


@pytest.mark.parametrize(
    'franka',
    [
        '<robot name="fr3"/>',
        franka_urdf(ARM_JOINTS[:6]),
        franka_urdf([f'left_{name}' for name in ARM_JOINTS]),
    ],
    ids=['none', 'six joints', 'prefix'],
)
def test_another_arm_s_control_part_is_refused(franka):
    with pytest.raises(ControlDescriptionError, match='without prefix'):
        with_ros2_control(robot_description(meshes=False), franka)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs files of a ROS package, beside what is installed."""

    def write(package, files):
        index = tmp_path / 'share/ament_index/resource_index/packages'
        index.mkdir(parents=True, exist_ok=True)
        (index / package).touch()
        for name, text in files.items():
            path = tmp_path / 'share' / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{tmp_path}:{os.environ["AMENT_PREFIX_PATH"]}')
    return write


@pytest.mark.parametrize(
    ('fake', 'content'), [(False, ['Franka', '172.16.0.9']), (True, ['mock'])]
)
@pytest.mark.parametrize('version', ['3.3', '3.4'])
def test_the_control_part_is_found_where_a_version_has_it(install, version, fake, content):
    hardware = {'ros2_control/franka_arm.ros2_control.xacro': HARDWARE_MACRO}
    control = '' if version == '3.4' else FR3_CONTROL
    install('franka_hardware', hardware if version == '3.4' else {'package.xml': ''})
    install('franka_description', {'robots/fr3/fr3.urdf.xacro': FR3_URDF % control})
    both = with_ros2_control(robot_description(meshes=False), franka_control('172.16.0.9', fake))
    (control,) = ElementTree.fromstring(both).findall('ros2_control')
    assert control.get('name') == 'FrankaHardwareInterface'
    assert [part.text for part in control.find('hardware')] == content


@pytest.mark.parametrize('installed', [(), ('franka_hardware',)])
def test_without_franka_s_packages_the_message_says_what_to_build(
    install, installed, tmp_path, monkeypatch
):
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    for package in installed:
        install(package, {'package.xml': ''})
    with pytest.raises(ControlDescriptionError, match=r'not installed: build franka_ros2'):
        franka_control('172.16.0.2', False)


# Load and thresholds


def test_the_load_is_that_of_mount_and_hand():
    """Mass, centre of mass and inertia summed up link by link over the description."""
    urdf = robot_description(meshes=False)
    model = RobotModel.from_urdf(urdf)
    flange = np.linalg.inv(model.frame_pose(HOME, 'fr3_link8'))
    masses, centres, inertias = [], [], []
    for link in ElementTree.fromstring(urdf).findall('link'):
        inertial = link.find('inertial')
        if inertial is None or link.get('name').startswith('fr3_'):
            continue
        pose = flange @ model.frame_pose(HOME, link.get('name'))
        origin = inertial.find('origin')
        offset = '0 0 0' if origin is None else origin.get('xyz')
        centres.append(pose[:3, :3] @ [float(v) for v in offset.split()] + pose[:3, 3])
        masses.append(float(inertial.find('mass').get('value')))
        xx, xy, xz, yy, yz, zz = (
            float(inertial.find('inertia').get(f'i{axes}'))
            for axes in ('xx', 'xy', 'xz', 'yy', 'yz', 'zz')
        )
        inertia = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        inertias.append(pose[:3, :3] @ inertia @ pose[:3, :3].T)
    centre = np.average(centres, axis=0, weights=masses)
    total = sum(
        inertia + mass * (r @ r * np.eye(3) - np.outer(r, r))
        for mass, r, inertia in zip(masses, centres - centre, inertias, strict=True)
    )
    config = load_arm_config()
    assert config.mass == pytest.approx(sum(masses), abs=1e-3)
    np.testing.assert_allclose(config.center_of_mass, centre, atol=2e-4)
    np.testing.assert_allclose(config.inertia, total, atol=2e-5)


def test_requests_are_as_franka_s_services_want_them():
    config = load_arm_config()
    load = config.load_request()
    assert set(load) == {'mass', 'center_of_mass', 'load_inertia'}
    assert (len(load['center_of_mass']), len(load['load_inertia'])) == (3, 9)
    collision = config.collision_request()
    assert set(collision) == {
        f'{bound}_{part}_thresholds_{phase}'
        for bound in ('lower', 'upper')
        for part in ('torque', 'force')
        for phase in ('acceleration', 'nominal')
    }
    for name, values in collision.items():
        assert len(values) == (7 if 'torque' in name else 6)


@pytest.mark.parametrize(
    ('section', 'key', 'value', 'message'),
    [
        ('load', 'mass', 3.5, 'an FR3 carries 3'),
        ('load', 'mass', -1.0, 'an FR3 carries 3'),
        ('load', 'inertia', [0.0] * 9, 'positive definite'),
        ('load', 'inertia', [1, 0.5, 0, 0, 1, 0, 0, 0, 1], 'symmetric'),
        ('load', 'center_of_mass', [0, 0], 'center_of_mass must be 3'),
        ('collision', 'torques', [1.0] * 7, r'collision.torques must be at least contact.torques'),
        ('contact', 'forces', [float('nan')] * 6, 'forces must be 6 finite'),
    ],
)
def test_values_that_make_no_sense(section, key, value, message, tmp_path):
    content = yaml.safe_load((PACKAGE / 'config' / 'arm.yaml').read_text())
    content[section][key] = value
    path = tmp_path / 'arm.yaml'
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ArmConfigError, match=message):
        load_arm_config(path)
    del content[section][key]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ArmConfigError, match=f"'{key}' is missing"):
        load_arm_config(path)


def test_without_franka_msgs_the_arm_is_not_configured():
    if subprocess.run([sys.executable, '-c', 'import franka_msgs']).returncode == 0:
        pytest.skip('franka_msgs is installed')
    context = Context()
    rclpy.init(context=context)
    try:
        node = Node('configure_arm', context=context, use_global_arguments=False)
        with pytest.raises(ConfigurationFailed, match='build franka_ros2'):
            configure(node)
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)


# The launch file


def test_the_launch_file_compiles():
    compile(LAUNCH_FILE.read_text(), LAUNCH_FILE, 'exec')


def test_the_launch_file_declares_its_arguments():
    pytest.importorskip('launch_ros', reason='the ROS packages launch and launch_ros are missing')
    from launch.launch_description_sources import (
        get_launch_description_from_python_launch_file,
    )

    description = get_launch_description_from_python_launch_file(str(LAUNCH_FILE))
    declared = {argument.name for argument in description.get_launch_arguments()}
    assert {'robot_ip', 'hand', 'camera_calibration', 'arm_config'} <= declared
