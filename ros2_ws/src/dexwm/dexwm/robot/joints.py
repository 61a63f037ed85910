"""The 23 joints of FR3 arm and right Allegro hand: names, canonical order, limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ARM_JOINTS: tuple[str, ...] = tuple(f'fr3_joint{i}' for i in range(1, 8))
"""The arm's joints from base to flange."""

HAND_JOINTS: tuple[str, ...] = tuple(f'joint_{i}.0' for i in range(16))
"""The hand's joints in the order of its CAN protocol: index, middle, ring, thumb, 4 each."""

JOINTS: tuple[str, ...] = ARM_JOINTS + HAND_JOINTS
"""The canonical order of every vector of 23 joints."""

ARM = slice(0, 7)
"""The arm's part of a vector of 23 joints."""

HAND = slice(7, 23)
"""The hand's part of a vector of 23 joints."""
