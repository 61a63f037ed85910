"""Smooth random deviations of a motion, to be added to its commands."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

_FREQUENCIES = (0.08, 0.7)
_WAVES = 4


class SmoothNoise:
    """A sum of slow sine waves per joint: continuous, 0 at the start, known in rate as in value.

    Paper section 4.5: the expert's motions are executed "with added continuous noise".
    """

    def __init__(self, rng: np.random.Generator, scales: ArrayLike) -> None:
        """Draws the waves.

        Args:
            rng: Source of frequencies and amplitudes.
            scales: Root mean square over time, expected, of each joint's deviation (n,), rad.
        """
        scale = np.asarray(scales, dtype=np.float64)
        shape = (_WAVES, len(scale))
        self._rates = 2 * math.pi * rng.uniform(*_FREQUENCIES, shape)
        # A sine's mean square is half its squared amplitude.
        self._amplitudes = rng.normal(size=shape) * scale * math.sqrt(2 / _WAVES)

    def at(self, time: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns the deviation (n,), rad, and its rate (n,), rad/s, at a time (s)."""
        phase = self._rates * time
        deviation = (self._amplitudes * np.sin(phase)).sum(axis=0)
        rate = (self._amplitudes * self._rates * np.cos(phase)).sum(axis=0)
        return deviation, rate
