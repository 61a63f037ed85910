"""The node `plan_markers`: what may move next, as markers for RViz.

That is the plan that waits for a person's confirmation, which may be a part of what was planned or
the closing of the hand; where none waits, the planner's last plan.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import rclpy
from dexwm_msgs.msg import Plan
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from dexwm.robot.joints import JOINTS
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.cell_config import CellConfigError, load_cell_config
from dexwm_franka_bringup.description import MeshesNotFoundError, robot_description
from dexwm_planner.planner.plan_markers import BASE_FRAME, plan_markers, read_visuals

PLAN_TOPIC = '/planner/plan'
WAITING_TOPIC = '/trajectory/waiting_plan'
TOPIC = '/plan_markers'

_LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


class PlanMarkersNode(Node):
    """Listens to plans and shows them; nothing else depends on it."""

    def __init__(self, **node_arguments: Any) -> None:
        """Reads the robot.

        Raises:
            CellConfigError: if the cell's file cannot be used.
            MeshesNotFoundError: if there are no meshes of the robot.
        """
        super().__init__('plan_markers', **node_arguments)
        descriptor = ParameterDescriptor(
            description="the cell's YAML file; empty: the one of dexwm_franka_bringup",
            read_only=True,
        )
        cell_config = self.declare_parameter('cell_config', '', descriptor).value
        description = robot_description(load_cell_config(cell_config or None))
        self._robot = RobotModel.from_urdf(description)
        self._visuals = read_visuals(description)
        self._markers = self.create_publisher(MarkerArray, TOPIC, _LATCHED)
        self._planned = self._waiting = Plan()
        self.create_subscription(Plan, PLAN_TOPIC, self._on_plan, _LATCHED)
        self.create_subscription(Plan, WAITING_TOPIC, self._on_waiting, _LATCHED)

    def _on_plan(self, plan: Plan) -> None:
        self._planned = plan
        self._show()

    def _on_waiting(self, plan: Plan) -> None:
        self._waiting = plan
        self._show()

    def _show(self) -> None:
        # Without a stamp: a plan stays in view however old it is.
        header = Header(frame_id=BASE_FRAME)
        plan = self._waiting if self._waiting.waypoints else self._planned
        if not plan.waypoints:
            nothing = Marker(header=header, action=Marker.DELETEALL)
            self._markers.publish(MarkerArray(markers=[nothing]))
            return
        if sorted(plan.joint_names) != sorted(JOINTS):
            self.get_logger().warning('a plan for another robot: not shown')
            return
        order = [list(plan.joint_names).index(name) for name in JOINTS]
        waypoints = np.array([point.positions for point in plan.waypoints])[:, order]
        start = np.array(plan.observed_positions)
        if start.shape == (len(JOINTS),):
            start = start[order]
        self._markers.publish(plan_markers(self._robot, self._visuals, start, waypoints, header))


def main() -> int:
    """Runs the node until SIGINT or SIGTERM."""
    rclpy.init()
    try:
        node = PlanMarkersNode()
    except (CellConfigError, MeshesNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
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
