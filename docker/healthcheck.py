"""Healthy (exit code 0) if a status on /diagnostics is neither an error nor stale.

python3 healthcheck.py "planner: plans"
"""

import sys
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node

WAIT = 10.0
"""How long to wait for the status (s); nodes report once a second."""


def main(name: str) -> int:
    """Waits for the status called `name`; 0 if it is well."""
    rclpy.init()
    node = Node('healthcheck')
    found: list[DiagnosticStatus] = []

    def take(message: DiagnosticArray) -> None:
        found.extend(status for status in message.status if status.name == name)

    node.create_subscription(DiagnosticArray, '/diagnostics', take, 10)
    end = time.monotonic() + WAIT
    while not found and time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.2)
    node.destroy_node()
    rclpy.shutdown()
    if not found:
        print(f'no status {name!r} on /diagnostics')
        return 1
    print(found[-1].message)
    return int(found[-1].level not in (DiagnosticStatus.OK, DiagnosticStatus.WARN))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
