"""Brings up an FR3 with an Allegro hand: `ros2 launch dexwm_franka_bringup fr3_allegro.launch.py`.

Needs franka_ros2 and its dependencies in the sourced workspace. Order matters: the arm is told its
load and collision thresholds first, and only then a controller takes it.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from dexwm_franka_bringup.cell_config import PACKAGE, load_cell_config
from dexwm_franka_bringup.control_description import franka_control, with_ros2_control
from dexwm_franka_bringup.description import robot_description

ARGUMENTS = (
    ('robot_ip', '172.16.0.2', 'Address of the robot.', None),
    ('use_fake_hardware', 'false', "ros2_control's mock instead of an arm.", ('true', 'false')),
    ('hand', 'can', 'can (the Allegro hand on a CAN bus) or none.', ('can', 'none')),
    ('can_channel', 'can0', 'Network interface of the hand.', None),
    ('cell_config', '', "The cell's YAML file; empty: the installed one.", None),
    ('camera_calibration', '', "Camera pose of the tool calibrate; empty: cell_config's.", None),
    ('arm_config', '', 'Load and collision thresholds; empty: the installed arm.yaml.', None),
)


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name, default_value=default, description=text, choices=choices
                )
                for name, default, text, choices in ARGUMENTS
            ),
            OpaqueFunction(function=_start),
        ]
    )


def _start(context: LaunchContext) -> list:
    values = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    fake = values['use_fake_hardware'] == 'true'
    cell = load_cell_config(values['cell_config'], values['camera_calibration'])
    description = with_ros2_control(
        robot_description(cell), franka_control(values['robot_ip'], fake)
    )
    controllers = str(Path(get_package_share_directory(PACKAGE)) / 'config/fr3_controllers.yaml')
    controller = _spawner('fr3_arm_controller')
    actions = [
        Node(
            package='robot_state_publisher',
            executable='robot_state_publisher',
            parameters=[{'robot_description': description}],
            output='screen',
        ),
        Node(
            package='controller_manager',
            executable='ros2_control_node',
            parameters=[
                controllers,
                {'robot_type': 'fr3', 'arm_prefix': '', 'load_gripper': False},
            ],
            output='screen',
            # An arm without its controllers is not started again by itself.
            on_exit=Shutdown(reason='ros2_control_node ended'),
        ),
        _spawner('joint_state_broadcaster'),
    ]
    if values['hand'] == 'can':
        actions.append(
            Node(
                package='allegro_driver',
                executable='hand',
                name='hand',
                parameters=[{'channel': values['can_channel']}],
                output='screen',
                on_exit=Shutdown(reason='the driver of the hand ended'),
            )
        )
    if fake:
        return [*actions, controller]

    configure = Node(
        package=PACKAGE,
        executable='configure_arm',
        parameters=[{'arm_config': values['arm_config']}],
        output='screen',
    )

    def configured(event: ProcessExited, _: LaunchContext) -> list:
        if event.returncode == 0:
            return [controller]
        reason = 'the arm was not configured: no controller is started'
        return [LogInfo(msg=reason), Shutdown(reason=reason)]

    return [
        *actions,
        _spawner('franka_robot_state_broadcaster'),
        RegisterEventHandler(OnProcessExit(target_action=configure, on_exit=configured)),
        configure,
    ]


def _spawner(controller: str) -> Node:
    return Node(
        package='controller_manager',
        executable='spawner',
        arguments=[controller],
        output='screen',
    )
