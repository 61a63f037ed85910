"""Ways in which pieces of motion reach the joint trajectory controllers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from builtin_interfaces.msg import Duration, Time
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMessage
from trajectory_msgs.msg import JointTrajectoryPoint

from dexwm.control.motion import Chunk
from dexwm.control.outcome import Outcome

_SECOND = 1_000_000_000


class CommandOutput(Protocol):
    """Sends pieces of motion of all joints to the controllers that move them."""

    @property
    def horizon(self) -> float | None:
        """How much motion a piece should hold (s); None: as the parameters say."""

    def missing(self) -> str:
        """Which controller is absent, and what that means; empty if all are there."""

    def send(self, chunk: Chunk, now_ns: Callable[[], int]) -> bool:
        """Send a piece, which replaces what was sent before, unless it is due no more.

        Args:
            chunk: the piece.
            now_ns: the clock, read when all is ready to be sent: until then anything may have
                kept this thread from running.

        Returns:
            Whether it was sent.
        """

    def failure(self) -> tuple[Outcome, str] | None:
        """Why a controller gave up what was sent last, if it did."""

    def settled(self) -> bool:
        """Whether nothing more is to be heard of what was sent last."""


def trajectory_message(chunk: Chunk, names: Sequence[str]) -> JointTrajectoryMessage:
    """The part of a piece of motion for some joints, stamped with its start."""
    part = chunk.trajectory.select(names)
    assert part.velocities is not None and part.accelerations is not None
    message = JointTrajectoryMessage(joint_names=list(names))
    message.header.stamp = Time(sec=chunk.start_ns // _SECOND, nanosec=chunk.start_ns % _SECOND)
    rows = zip(
        part.times.tolist(),
        part.positions.tolist(),
        part.velocities.tolist(),
        part.accelerations.tolist(),
        strict=True,
    )
    for time, q, v, a in rows:
        time_ns = round(time * 1e9)
        since_start = Duration(sec=time_ns // _SECOND, nanosec=time_ns % _SECOND)
        message.points.append(
            JointTrajectoryPoint(
                positions=q, velocities=v, accelerations=a, time_from_start=since_start
            )
        )
    return message


class TopicOutput:
    """Publishes to the topic `~/joint_trajectory` of every controller.

    Args:
        node: to publish from.
        controllers: names of the controllers with the joints that each one moves.
    """

    horizon = None

    def __init__(self, node: Node, controllers: Mapping[str, Sequence[str]]):
        # One piece is kept: a late controller needs the newest only.
        qos = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
        self._outputs = [
            (
                node.create_publisher(JointTrajectoryMessage, f'/{name}/joint_trajectory', qos),
                joints,
            )
            for name, joints in controllers.items()
        ]

    def missing(self) -> str:
        """Which controller is absent, and what that means; empty if all are there."""
        absent = [p.topic_name for p, _ in self._outputs if p.get_subscription_count() == 0]
        if not absent:
            return ''
        return f'nothing subscribes to {" and ".join(absent)}; start the controller'

    def send(self, chunk: Chunk, now_ns: Callable[[], int]) -> bool:
        """Publish a piece to every controller, see `CommandOutput.send`."""
        messages = [trajectory_message(chunk, joints) for _, joints in self._outputs]
        if now_ns() > chunk.due_ns:
            return False
        for (publisher, _), message in zip(self._outputs, messages, strict=True):
            publisher.publish(message)
        return True

    def failure(self) -> None:
        """Nothing comes back over a topic."""
        return None

    def settled(self) -> bool:
        """Nothing comes back over a topic."""
        return True
