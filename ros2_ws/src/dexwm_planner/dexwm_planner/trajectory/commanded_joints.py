"""Where the trajectory node commands the joints to be, for those who must know it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState

from dexwm.robot.joints import JOINTS

TOPIC = '/trajectory/commanded'


class CommandedJoints:
    """Keeps the newest message of `TOPIC`, which is latched.

    Args:
        node: to subscribe from.
    """

    def __init__(self, node: Node):
        self._positions: NDArray[np.float64] | None = None
        node.create_subscription(
            JointState,
            TOPIC,
            self._keep,
            QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL),
            callback_group=ReentrantCallbackGroup(),
        )

    @property
    def positions(self) -> NDArray[np.float64] | None:
        """(23,) rad, canonical order; None before they are known."""
        return self._positions

    def _keep(self, message: JointState) -> None:
        known = dict(zip(message.name, message.position, strict=True))
        self._positions = np.array([known[name] for name in JOINTS])
