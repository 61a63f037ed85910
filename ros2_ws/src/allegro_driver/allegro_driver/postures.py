"""Postures of the right hand that can be called by name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dexwm.robot.joints import HAND, HOME

POSTURES: dict[str, NDArray[np.float64]] = {
    'open': HOME[HAND].copy(),
    # SimLab's home.
    'home': np.radians([0, -10, 45, 45] * 2 + [5, -5, 50, 45] + [60, 25, 15, 45]),
    'half_closed': np.radians([0, 45, 45, 30] * 3 + [75, 10, 10, 20]),
}
"""Joint positions (16,), rad, by name."""
