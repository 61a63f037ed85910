"""The hand's position loop: PD torques from positions alone."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from allegro_driver.protocol import JOINT_COUNT

Floats = NDArray[np.float64]


class JointServo:
    """PD control of 16 joints; the V4 measures positions only, so velocities are differences.

    Torques are ``stiffness * (q_d - q) + damping * (dq_d - dq)``, within the limits. ``dq`` is the
    difference of two positions behind a first-order low-pass.
    """

    def __init__(
        self, stiffness: ArrayLike, damping: ArrayLike, torque_limits: ArrayLike, cutoff: float
    ) -> None:
        """Prepare; `measure` comes before `torques`.

        Args:
            stiffness: (16,) N m/rad.
            damping: (16,) N m s/rad.
            torque_limits: (16,) N m.
            cutoff: Cut-off of the low-pass (Hz).
        """
        self._stiffness = np.asarray(stiffness, dtype=np.float64)
        self._damping = np.asarray(damping, dtype=np.float64)
        self._limits = np.asarray(torque_limits, dtype=np.float64)
        self._time_constant = 1.0 / (2.0 * math.pi * cutoff)
        self.restart()

    def restart(self) -> None:
        """Forget what was measured."""
        self._seen = False
        self.positions: Floats = np.zeros(JOINT_COUNT)
        self.velocities: Floats = np.zeros(JOINT_COUNT)

    def measure(self, positions: ArrayLike, seconds: float) -> None:
        """Take new positions.

        Args:
            positions: (16,) rad.
            seconds: Time since the last ones (s), positive.
        """
        q = np.array(positions, dtype=np.float64)
        if self._seen:
            difference = (q - self.positions) / seconds
            weight = seconds / (seconds + self._time_constant)
            self.velocities = self.velocities + weight * (difference - self.velocities)
        self.positions, self._seen = q, True

    def torques(self, positions: ArrayLike, velocities: ArrayLike) -> Floats:
        """Torques (16,) (N m) towards desired positions (16,) (rad) and velocities (rad/s)."""
        wanted = self._stiffness * (np.asarray(positions) - self.positions)
        wanted = wanted + self._damping * (np.asarray(velocities) - self.velocities)
        return np.clip(np.nan_to_num(wanted), -self._limits, self._limits)
