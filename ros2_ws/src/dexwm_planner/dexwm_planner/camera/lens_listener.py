"""The distortion that the camera's CameraInfo tells."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo

from dexwm.calibration.lens import Lens
from dexwm_planner.planner.planner_inputs import CAMERA_INFO_TOPIC, lens_of


class LensListener:
    """Keeps the newest CameraInfo of a node's camera."""

    def __init__(self, node: Node) -> None:
        self._newest: CameraInfo | None = None
        node.create_subscription(
            CameraInfo, CAMERA_INFO_TOPIC, self._on_camera_info, qos_profile_sensor_data
        )

    def lens(self) -> Lens | None:
        """The camera's distortion; None until it was told. A CameraInfo without one has none.

        Raises:
            LensError: The message's model is not known, or its coefficients do not fit it.
        """
        return None if self._newest is None else lens_of(self._newest)

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._newest = message
