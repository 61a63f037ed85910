"""How a hand keeps hold of what it holds while it follows a plan."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.robot.joints import HAND, JOINTS, JointLimits

GRIPPING_TASKS = frozenset({'place'})
"""Tasks in which the hand holds something from the start."""


def keep_grip(
    waypoints: ArrayLike, commanded: ArrayLike, measured: ArrayLike, limits: JointLimits
) -> NDArray[np.float64]:
    """Move the finger targets of a plan by what the fingers press with.

    Fingers that hold something are commanded further than they get. A planner is told where they
    are, so without this the hand would let go whatever the plan.

    Args:
        waypoints: (T, 23) of the plan (rad).
        commanded: (23,) where the joints are commanded to be now (rad).
        measured: (23,) where they are (rad).
        limits: joint limits that the result is clamped to.

    Returns:
        (T, 23) waypoints (rad); those of the arm are not changed but for the clamp.

    Raises:
        ValueError: if a shape is another, or a position is not finite.
    """
    targets = np.array(waypoints, dtype=np.float64)
    if targets.ndim != 2 or targets.shape[1] != len(JOINTS):
        raise ValueError(f'expected waypoints (T, {len(JOINTS)}), got shape {targets.shape}')
    vectors = {}
    for name, vector in (('commanded', commanded), ('measured', measured)):
        vectors[name] = np.asarray(vector, dtype=np.float64)
        if vectors[name].shape != (len(JOINTS),) or not np.isfinite(vectors[name]).all():
            raise ValueError(f'{name} must be ({len(JOINTS)},) and finite, got {vectors[name]}')
    targets[:, HAND] += (vectors['commanded'] - vectors['measured'])[HAND]
    return limits.clamp(targets)
