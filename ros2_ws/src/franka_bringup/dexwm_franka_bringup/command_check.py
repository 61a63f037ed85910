"""What the robot would refuse in mid-motion, found before it is sent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dexwm.control.joint_trajectory_controller import TrajectoryRejected
from dexwm.robot.joints import JointLimits
from dexwm_franka_bringup.smooth_commands import PERIOD_NS, Commands

# Differences of three samples and of their neighbours need this many samples before the first.
_HISTORY = 3


def check_commands(
    before: Commands,
    after: Commands,
    now_ns: int,
    limits: JointLimits,
) -> None:
    """Check the positions that the robot would get, one for each millisecond.

    The robot derives velocity, acceleration and jerk from consecutive positions by backward
    differences and stops with a reflex when one exceeds its limit (Franka FCI documentation,
    "Necessary conditions"), so the same differences are looked at here, across the seam between
    what ran and what comes.

    Args:
        before: What commands the arm up to `now_ns`.
        after: What commands it from then on.
        now_ns: When the change happens (ns).
        limits: Limits of the n joints.

    Raises:
        TrajectoryRejected: Naming the joint, the quantity, the instant and the limit.
    """
    past = before.positions_at(now_ns + PERIOD_NS * np.arange(-_HISTORY, 1))
    steps = max(0, -(-(after.end_ns - now_ns) // PERIOD_NS)) + _HISTORY
    future = after.positions_at(now_ns + PERIOD_NS * np.arange(1, steps + 1))
    q = np.concatenate([past, future])
    period = PERIOD_NS * 1e-9
    velocity = np.diff(q, axis=0) / period
    acceleration = np.diff(velocity, axis=0) / period
    jerk = np.diff(acceleration, axis=0) / period
    lowest, highest = limits.velocity_bounds(q[1:])
    _check(limits.names, 'velocity (rad/s)', 1, velocity, lowest, highest)
    for quantity, order, values, bound in (
        ('acceleration (rad/s^2)', 2, acceleration, limits.acceleration),
        ('jerk (rad/s^3)', 3, jerk, limits.jerk),
    ):
        bounds = np.broadcast_to(bound, values.shape)
        _check(limits.names, quantity, order, values, -bounds, bounds)


def _check(
    names: tuple[str, ...],
    quantity: str,
    order: int,
    values: NDArray[np.float64],
    lowest: NDArray[np.float64],
    highest: NDArray[np.float64],
) -> None:
    wrong = np.argwhere((values < lowest) | (values > highest))
    if not wrong.size:
        return
    row, joint = wrong[0]
    value = values[row, joint]
    bound = (highest if value > 0 else lowest)[row, joint]
    # A difference belongs to the last of the samples that it was formed from.
    seconds = max(0, row + order - _HISTORY) * PERIOD_NS * 1e-9
    raise TrajectoryRejected(
        f'the {quantity} of {names[joint]} would be {value:.4g} in {seconds:.3f} s; the limit '
        f'there is {bound:.4g}: make the trajectory slower, give its points velocities and '
        'accelerations, or begin it where the arm is commanded to be'
    )
