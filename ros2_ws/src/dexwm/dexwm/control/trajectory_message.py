"""Reading messages shaped like ROS's trajectory_msgs/JointTrajectory, without importing ROS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from dexwm.control.trajectory import InvalidTrajectory, JointTrajectory

_COLUMNS = ('positions', 'velocities', 'accelerations')


class TimeMessage(Protocol):
    """Shape of builtin_interfaces/Time and builtin_interfaces/Duration."""

    sec: int
    nanosec: int


class HeaderMessage(Protocol):
    """Shape of std_msgs/Header, as far as it is read."""

    stamp: TimeMessage


class PointMessage(Protocol):
    """Shape of trajectory_msgs/JointTrajectoryPoint, as far as it is read."""

    positions: Sequence[float]
    velocities: Sequence[float]
    accelerations: Sequence[float]
    time_from_start: TimeMessage


class TrajectoryMessage(Protocol):
    """Shape of trajectory_msgs/JointTrajectory."""

    header: HeaderMessage
    joint_names: Sequence[str]
    points: Sequence[PointMessage]


def nanoseconds(time: TimeMessage) -> int:
    """A time or duration message in whole nanoseconds."""
    return time.sec * 1_000_000_000 + time.nanosec


def parse_trajectory(message: TrajectoryMessage) -> JointTrajectory | None:
    """Read a trajectory message; None for one without points, which cancels.

    Args:
        message: a trajectory_msgs/JointTrajectory or anything of its shape. Efforts are ignored.

    Raises:
        InvalidTrajectory: if the points are ragged, carry different things, or `JointTrajectory`
            refuses them.
    """
    if not message.points:
        return None
    n = len(message.joint_names)
    for i, point in enumerate(message.points):
        for label in _COLUMNS:
            got = len(getattr(point, label))
            if got != n and (got or label == 'positions'):
                raise InvalidTrajectory(f'point {i} has {got} {label} for {n} joint names')
            if bool(got) != bool(len(getattr(message.points[0], label))):
                raise InvalidTrajectory(
                    f'points 0 and {i} differ in carrying {label}; give them in all or none'
                )
    columns = {
        label: np.array([getattr(point, label) for point in message.points], dtype=np.float64)
        for label in _COLUMNS
    }
    return JointTrajectory(
        tuple(message.joint_names),
        np.array([nanoseconds(point.time_from_start) for point in message.points]) * 1e-9,
        columns['positions'],
        columns['velocities'] if columns['velocities'].size else None,
        columns['accelerations'] if columns['accelerations'].size else None,
    )
