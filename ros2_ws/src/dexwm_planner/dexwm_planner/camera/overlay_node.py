"""The node `overlay`: the hand's keypoints, from joints and calibration, on the live picture.

Where marks sit beside the fingers, camera pose, joint zeros or mount are not what they are said
to be: the quickest check before a motion.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import numpy as np
import rclpy
from numpy.typing import NDArray
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dexwm.calibration.lens import Lens, LensError
from dexwm.geometry.camera import CameraIntrinsics
from dexwm.geometry.rotations import inverse_pose, transform_points
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.cell_config import CAMERA_FRAME, load_cell_config
from dexwm_franka_bringup.description import robot_description
from dexwm_franka_bringup.image_conversion import array_to_image
from dexwm_planner.camera.lens_listener import LensListener
from dexwm_planner.planner.plan_overlay import draw_keypoints
from dexwm_planner.planner.planner_inputs import PlannerInputs, StaleInputError

_TELL_PERIOD = 5.0
_TIMEOUTS = {'image_timeout': 1.0, 'joint_state_timeout': 0.5, 'max_skew': 0.2}


class OverlayNode(Node):
    """Publishes `~/image`.

    Raises:
        CellConfigError: The configuration or the calibration cannot be used.
    """

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__('overlay', **node_arguments)
        cell = load_cell_config(
            self._text('cell_config', "the cell's YAML file; empty: the installed one"),
            self._text('camera_calibration', "of the tool calibrate; empty: cell_config's pose"),
        )
        span = FloatingPointRange(from_value=0.1, to_value=60.0)
        descriptor = ParameterDescriptor(
            description='pictures a second', read_only=True, floating_point_range=[span]
        )
        rate = self.declare_parameter('rate', 5.0, descriptor).value
        if cell.calibration is not None and (stale := cell.calibration.stale(datetime.now(UTC))):
            self.get_logger().warning(stale)
        self._T_camera_from_base = inverse_pose(cell.camera.T_base_from_camera)
        self._model = RobotModel.from_urdf(robot_description(cell, meshes=False))
        self._publisher = self.create_publisher(Image, '~/image', 1)
        self._lens = LensListener(self)
        self._inputs = PlannerInputs(self, **_TIMEOUTS)
        self._last_ns = 0
        self.create_timer(1.0 / rate, self._draw)

    def destroy_node(self) -> None:
        """Stops listening, then ends the node."""
        self._inputs.close()
        super().destroy_node()

    def _text(self, name: str, description: str) -> str:
        descriptor = ParameterDescriptor(description=description, read_only=True)
        return str(self.declare_parameter(name, '', descriptor).value)

    def _draw(self) -> None:
        try:
            seen = self._inputs.newest()
            lens = self._lens.lens() or Lens()
        except (LensError, StaleInputError) as error:
            self.get_logger().warning(str(error), throttle_duration_sec=_TELL_PERIOD)
            return
        if seen.stamp_ns == self._last_ns:
            return
        self._last_ns = seen.stamp_ns
        keypoints = self._model.keypoints(seen.joint_positions)
        pixels = keypoint_pixels(keypoints, self._T_camera_from_base, seen.intrinsics, lens)
        stamp = Time(nanoseconds=seen.stamp_ns).to_msg()
        header = Header(stamp=stamp, frame_id=CAMERA_FRAME)
        self._publisher.publish(array_to_image(draw_keypoints(seen.image, pixels), 'rgb8', header))


def keypoint_pixels(
    keypoints_base: NDArray[np.float64],
    T_camera_from_base: NDArray[np.float64],
    intrinsics: CameraIntrinsics,
    lens: Lens,
) -> NDArray[np.float64]:
    """Where points appear in a picture as it comes from the camera.

    Args:
        keypoints_base: (n, 3), m.
        T_camera_from_base: (4, 4), optical frame, m.
        intrinsics: of the picture.
        lens: its distortion.

    Returns:
        (n, 2) columns and rows, pixels; NaN for points behind the camera.
    """
    pixels = intrinsics.project(transform_points(T_camera_from_base, keypoints_base))
    known = np.isfinite(pixels).all(axis=1)
    pixels[known] = lens.distorted(pixels[known], intrinsics)
    return pixels


def main() -> int:
    """Runs the node; 1 where it cannot start."""
    rclpy.init()
    node = None
    try:
        node = OverlayNode()
        rclpy.spin(node)
    except ValueError as error:
        print(f'overlay: {error}', file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
