"""A grasp of nothing, from which plans of grasps begin (paper, appendix B).

The paper's was teleoperated; this one is the scripted expert's, over the middle of the counter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.robot.joints import ARM

_APPROACH = (0.042, -0.536, 0.059, -2.682, 0.088, 3.193, 0.735)
_LOW = (0.073, -0.274, 0.029, -2.824, 0.053, 3.597, 0.761)
_OPEN = (0.0, 0.15, 0.15, 0.12) * 3 + (1.33, 0.0, 0.0, 0.2)
# Fingers that closed straight would sweep through the counter.
_CURLED = (0.0, 0.0, 0.7, 0.9) * 3 + (1.33, 0.2, 0.3, 0.5)
_CLOSED = (0.0, 1.2, 1.2, 0.9) * 3 + (1.33, 0.6, 0.9, 1.2)

DUMMY_GRASP: NDArray[np.float64] = np.array(
    [_APPROACH + _OPEN, _LOW + _CURLED, _LOW + _CLOSED], dtype=np.float64
)
"""Postures (3, 23), rad: open above the counter, fingers curled at it, and closed."""
DUMMY_GRASP.setflags(write=False)


def dummy_waypoints(start: ArrayLike, count: int) -> NDArray[np.float64]:
    """Waypoints at equal parts of the motion from a posture through the dummy grasp.

    Args:
        start: (23,) rad; not itself a waypoint.
        count: of waypoints.

    Returns:
        (count, 23), rad; the last is the closed hand.
    """
    return _between(start, DUMMY_GRASP, count)


def grasp_ending_at(start: ArrayLike, end: ArrayLike, count: int) -> NDArray[np.float64]:
    """The dummy grasp, moved in joint space so that it ends at a posture.

    The hand comes from above and closes last, as straight ways would sweep the object away.

    Args:
        start: (23,) rad; not itself a waypoint.
        end: (23,) rad, the hand around the object.
        count: of waypoints. Fewer than the dummy grasp has are its last ones.

    Returns:
        (count, 23), rad; the last is `end`.
    """
    postures = DUMMY_GRASP.copy()
    postures[:, ARM] += np.asarray(end, np.float64)[ARM] - DUMMY_GRASP[-1, ARM]
    postures[-1] = end
    if count <= len(postures):
        return postures[-count:]
    return _between(start, postures, count)


def _between(start: ArrayLike, postures: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Waypoints (count, 23) at equal parts of the way from a start through postures."""
    knots = np.vstack([np.asarray(start, np.float64), postures])
    at = np.arange(1, count + 1) / count * (len(knots) - 1)
    index = np.arange(len(knots))
    return np.stack([np.interp(at, index, joint) for joint in knots.T], axis=1)
