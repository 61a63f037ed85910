"""Tells franka_ros2 load and collision thresholds, before a controller runs.

Its services take them only while no controller has the arm, so the launch file runs this first
and starts the controller when it has ended well.
"""

from __future__ import annotations

import sys
from typing import Any

import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from dexwm_franka_bringup.arm_config import ArmConfigError, load_arm_config

TIMEOUT = 30.0
"""How long to wait for Franka's services, and for each answer (s)."""


class ConfigurationFailed(RuntimeError):
    """The robot did not take its configuration; the message says what it answered."""


def configure(node: Node) -> None:
    """Calls the services one after the other.

    Raises:
        ArmConfigError: The file cannot be used.
        ConfigurationFailed: A service is absent or refuses.
    """
    descriptor = ParameterDescriptor(
        description="the arm's YAML file; empty: the installed one", read_only=True
    )
    config = load_arm_config(node.declare_parameter('arm_config', '', descriptor).value)
    try:
        from franka_msgs.srv import SetFullCollisionBehavior, SetLoad
    except ImportError as error:
        raise ConfigurationFailed(
            f'franka_msgs is not installed ({error}): build franka_ros2 and source its workspace'
        ) from error
    requests: tuple[tuple[Any, str, dict[str, Any]], ...] = (
        (SetLoad, 'set_load', config.load_request()),
        (SetFullCollisionBehavior, 'set_full_collision_behavior', config.collision_request()),
    )
    for kind, name, fields in requests:
        client = node.create_client(kind, f'/service_server/{name}')
        if not client.wait_for_service(TIMEOUT):
            raise ConfigurationFailed(
                f'there is no service /service_server/{name} after {TIMEOUT:g} s: is the robot '
                'reachable, unlocked, and FCI active?'
            )
        future = client.call_async(kind.Request(**fields))
        rclpy.spin_until_future_complete(node, future, timeout_sec=TIMEOUT)
        if not future.done():
            raise ConfigurationFailed(f'{name} did not answer within {TIMEOUT:g} s')
        answer = future.result()
        if not answer.success:
            raise ConfigurationFailed(
                f'{name} was refused: {answer.error}. It must be called while no controller has '
                'the arm'
            )
        node.get_logger().info(f'{name}: done')


def main() -> int:
    """Configures the arm once; 1 where that failed."""
    rclpy.init()
    node = Node('configure_arm')
    try:
        configure(node)
        return 0
    except (ArmConfigError, ConfigurationFailed) as error:
        node.get_logger().fatal(str(error))
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 1
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    sys.exit(main())
