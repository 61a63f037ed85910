"""A grasp of nothing, from which plans of grasps begin (paper, appendix B).

The paper's was teleoperated; this one is the scripted expert's, over the middle of the counter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_APPROACH = (0.042, -0.536, 0.059, -2.682, 0.088, 3.193, 0.735)
_LOW = (0.073, -0.274, 0.029, -2.824, 0.053, 3.597, 0.761)
_OPEN = (0.0, 0.15, 0.15, 0.12) * 3 + (1.33, 0.0, 0.0, 0.2)
_CLOSED = (0.0, 1.2, 1.2, 0.9) * 3 + (1.33, 0.6, 0.9, 1.2)

DUMMY_GRASP: NDArray[np.float64] = np.array(
    [_APPROACH + _OPEN, _LOW + _OPEN, _LOW + _CLOSED], dtype=np.float64
)
"""Postures (3, 23), rad: above the counter, at it, and with the hand closed."""
DUMMY_GRASP.setflags(write=False)


def dummy_waypoints(start: ArrayLike, count: int) -> NDArray[np.float64]:
    """Waypoints at equal parts of the motion from a posture through the dummy grasp.

    Args:
        start: (23,) rad; not itself a waypoint.
        count: of waypoints.

    Returns:
        (count, 23), rad; the last is the closed hand.
    """
    postures = np.vstack([np.asarray(start, np.float64), DUMMY_GRASP])
    at = np.arange(1, count + 1) / count * (len(postures) - 1)
    index = np.arange(len(postures))
    return np.stack([np.interp(at, index, joint) for joint in postures.T], axis=1)
