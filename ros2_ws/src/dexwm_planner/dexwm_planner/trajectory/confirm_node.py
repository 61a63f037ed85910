"""The node `confirm`: asks a person at the terminal whether a plan may be executed."""

from __future__ import annotations

import sys
import threading

import rclpy
from dexwm_msgs.msg import MotionState
from dexwm_msgs.srv import ConfirmPlan
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile

_LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
_YES, _NO = ('y', 'yes'), ('n', 'no')


class ConfirmNode(Node):
    """Shows each question of the trajectory node once, and passes the answers on.

    Without a terminal, as under `ros2 launch`, it tells how else to answer.
    """

    def __init__(self) -> None:
        super().__init__('confirm')
        self._interactive = sys.stdin is not None and sys.stdin.isatty()
        self._plan_id = ''
        self._client = self.create_client(ConfirmPlan, '/trajectory/confirm')
        self.create_subscription(MotionState, '/trajectory/state', self._on_state, _LATCHED)
        if self._interactive:
            threading.Thread(target=self._read, name='terminal', daemon=True).start()

    def _on_state(self, message: MotionState) -> None:
        before, self._plan_id = self._plan_id, message.confirm_plan_id
        if not self._plan_id or self._plan_id == before:
            return
        question = (
            f'{message.confirm_task or "a plan"}, {message.confirm_waypoints} waypoints: execute '
            f'it ({message.confirm_seconds_left:.0f} s to answer)?'
        )
        how = (
            'y or n, then Enter'
            if self._interactive
            else 'ros2 service call /trajectory/confirm dexwm_msgs/srv/ConfirmPlan '
            f'"{{plan_id: \'{self._plan_id}\', accept: true}}"'
        )
        self.get_logger().warning(f'{question} {how}')

    def _read(self) -> None:
        for line in sys.stdin:
            answer, plan_id = line.strip().lower(), self._plan_id
            if not plan_id:
                self.get_logger().info('no plan waits for an answer')
            elif answer in _YES + _NO:
                request = ConfirmPlan.Request(plan_id=plan_id, accept=answer in _YES)
                self._client.call_async(request).add_done_callback(
                    lambda future: self._tell(future.result())
                )
            else:
                self.get_logger().warning('y or n, then Enter')

    def _tell(self, answer: ConfirmPlan.Response) -> None:
        if not answer.success:
            self.get_logger().warning(answer.message)


def main() -> int:
    """Run the node until it is told to stop."""
    rclpy.init()
    node = ConfirmNode()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
