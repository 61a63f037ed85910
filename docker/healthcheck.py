"""Healthy (exit code 0) if a status on /diagnostics is neither an error nor stale.

With the name of a joint, its states must come on /joint_states as well: an arm under franka_ros2
has no status, but its joint states end with its controllers.

python3 healthcheck.py "planner: plans"
python3 healthcheck.py "hand: can" fr3_joint1
"""

import sys
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from sensor_msgs.msg import JointState

WAIT = 10.0
"""How long to wait for the status (s); nodes report once a second."""


def main(name: str, joint: str = '') -> int:
    """Waits for the status called `name` and the state of `joint`; 0 if all is well."""
    rclpy.init()
    node = Node('healthcheck')
    found: list[DiagnosticStatus] = []
    joints = {''}

    def take(message: DiagnosticArray) -> None:
        found.extend(status for status in message.status if status.name == name)

    node.create_subscription(DiagnosticArray, '/diagnostics', take, 10)
    node.create_subscription(JointState, '/joint_states', lambda m: joints.update(m.name), 10)
    end = time.monotonic() + WAIT
    while not (found and joint in joints) and time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.2)
    node.destroy_node()
    rclpy.shutdown()
    if not found:
        print(f'no status {name!r} on /diagnostics')
        return 1
    if joint not in joints:
        print(f'no state of {joint} on /joint_states')
        return 1
    print(found[-1].message)
    return int(found[-1].level not in (DiagnosticStatus.OK, DiagnosticStatus.WARN))


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
