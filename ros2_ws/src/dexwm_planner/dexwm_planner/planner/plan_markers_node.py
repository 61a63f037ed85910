"""The node `plan_markers`: what the planner has planned, as markers for RViz."""

from __future__ import annotations

import sys

import numpy as np
import rclpy
from dexwm_msgs.msg import Plan
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from dexwm.robot.joints import JOINTS
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.cell_config import CellConfigError, load_cell_config
from dexwm_franka_bringup.description import MeshesNotFoundError, robot_description
from dexwm_planner.planner.plan_markers import BASE_FRAME, plan_markers, read_visuals

PLAN_TOPIC = '/planner/plan'
TOPIC = '/plan_markers'

_LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


class PlanMarkersNode(Node):
    """Listens to plans and shows them; nothing else depends on it."""

    def __init__(self) -> None:
        """Reads the robot.

        Raises:
            CellConfigError: if the cell's file cannot be used.
            MeshesNotFoundError: if there are no meshes of the robot.
        """
        super().__init__('plan_markers')
        descriptor = ParameterDescriptor(
            description="the cell's YAML file; empty: the one of dexwm_franka_bringup",
            read_only=True,
        )
        cell_config = self.declare_parameter('cell_config', '', descriptor).value
        description = robot_description(load_cell_config(cell_config or None))
        self._robot = RobotModel.from_urdf(description)
        self._visuals = read_visuals(description)
        self._markers = self.create_publisher(MarkerArray, TOPIC, _LATCHED)
        self.create_subscription(Plan, PLAN_TOPIC, self._show, _LATCHED)

    def _show(self, plan: Plan) -> None:
        if sorted(plan.joint_names) != sorted(JOINTS) or not plan.waypoints:
            self.get_logger().warning('a plan without waypoints, or for another robot: not shown')
            return
        order = [list(plan.joint_names).index(name) for name in JOINTS]
        waypoints = np.array([point.positions for point in plan.waypoints])[:, order]
        start = np.array(plan.observed_positions)
        if start.shape == (len(JOINTS),):
            start = start[order]
        # Without a stamp: a plan stays in view however old it is.
        header = Header(frame_id=BASE_FRAME)
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
