"""The 23 joints of FR3 arm and right Allegro hand: names, canonical order, limits."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

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

HOME: NDArray[np.float64] = np.array(
    [-0.25, -0.8, 0.0, -2.42, 0.0, 2.5, 0.785] + [0.0, 0.2, 0.2, 0.2] * 3 + [1.30, 0.2, 0.1, 0.2]
)
"""Resting posture (23,), rad: open hand over the counter, palm down; free of collisions."""
HOME.setflags(write=False)

LIBFRANKA_LIMIT_EPS = 1e-3
"""What libfranka's rate limiter keeps off every rate limit (``franka::kLimitEps``)."""


class JointLimitsError(ValueError):
    """Joint limits, or a vector checked against them, are not usable."""


@dataclass(frozen=True)
class VelocityEnvelope:
    """Position-dependent velocity limits of one robot firmware.

    Near the end of its range a joint must still be able to brake:
    ``v_upper(q) = max(0, -offset + sqrt(2 * deceleration * (upper - q)))``, mirrored for the
    lower end (Franka FCI documentation, "Robot limits"). An infinite ``deceleration`` means
    that the joint has no such limit.

    Attributes:
        lower: Lower ends of the range (n,), rad.
        upper: Upper ends of the range (n,), rad.
        offset: Velocity offsets (n,), rad/s.
        deceleration: Deceleration limits (n,), rad/s^2.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    offset: NDArray[np.float64]
    deceleration: NDArray[np.float64]

    def bounds(self, q: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the (lower, upper) velocity bounds at ``q`` (..., n), rad/s."""
        limited = np.isfinite(self.deceleration)
        twice = 2.0 * np.where(limited, self.deceleration, 0.0)
        up = np.sqrt(twice * np.maximum(0.0, self.upper - q)) - self.offset
        down = np.sqrt(twice * np.maximum(0.0, q - self.lower)) - self.offset
        return (
            np.where(limited, -np.maximum(0.0, down), -np.inf),
            np.where(limited, np.maximum(0.0, up), np.inf),
        )

    def subset(self, index: Sequence[int]) -> VelocityEnvelope:
        """Return the envelope of the joints at ``index``."""
        i = list(index)
        return VelocityEnvelope(self.lower[i], self.upper[i], self.offset[i], self.deceleration[i])


@dataclass(frozen=True)
class JointLimits:
    """Limits of n joints.

    Attributes:
        names: Joint names (n).
        lower: Lower position limits (n,), rad.
        upper: Upper position limits (n,), rad.
        velocity: Largest speeds (n,), rad/s.
        acceleration: Largest accelerations (n,), rad/s^2.
        jerk: Largest jerks (n,), rad/s^3.
        envelopes: Position-dependent velocity limits; all of them hold at once.

    Raises:
        JointLimitsError: Lengths differ, a name appears twice, a range is empty, or a rate is
            not positive.
    """

    names: tuple[str, ...]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    velocity: NDArray[np.float64]
    acceleration: NDArray[np.float64]
    jerk: NDArray[np.float64]
    envelopes: tuple[VelocityEnvelope, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.names)
        if len(set(self.names)) != n:
            raise JointLimitsError(f'joint names must be unique, got {list(self.names)}')
        for field in ('lower', 'upper', 'velocity', 'acceleration', 'jerk'):
            values = np.array(getattr(self, field), dtype=np.float64)
            if values.shape != (n,):
                raise JointLimitsError(f'{field} must have shape ({n},), got {values.shape}')
            if not np.isfinite(values).all():
                raise JointLimitsError(f'{field} must be finite, got {values}')
            values.setflags(write=False)
            object.__setattr__(self, field, values)
        for field in ('velocity', 'acceleration', 'jerk'):
            if (getattr(self, field) <= 0.0).any():
                raise JointLimitsError(f'{field} must be positive, got {getattr(self, field)}')
        for i in np.flatnonzero(self.lower >= self.upper):
            raise JointLimitsError(
                f'{self.names[i]} has no range left: '
                f'[{self.lower[i]:.4f}, {self.upper[i]:.4f}] rad'
            )

    def with_margin(self, margin: float | NDArray[np.float64]) -> JointLimits:
        """Return limits whose position range is smaller by ``margin`` at both ends.

        ``margin`` is a scalar or (n,), rad. The position-dependent velocity limits stay: the
        robot enforces them on its own range.
        """
        return replace(self, lower=self.lower + margin, upper=self.upper - margin)

    def scaled(self, speed_scale: float) -> JointLimits:
        """Return limits with velocity, acceleration and jerk times ``speed_scale`` in (0, 1]."""
        if not 0.0 < speed_scale <= 1.0:
            raise JointLimitsError(f'speed scale must be in (0, 1], got {speed_scale}')
        return replace(
            self,
            velocity=self.velocity * speed_scale,
            acceleration=self.acceleration * speed_scale,
            jerk=self.jerk * speed_scale,
        )

    def subset(self, names: Sequence[str]) -> JointLimits:
        """Return the limits of ``names``, in that order.

        Raises:
            JointLimitsError: A name is unknown; the message lists the known ones.
        """
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise JointLimitsError(f'unknown joints {unknown}; known are {list(self.names)}')
        i = [self.names.index(name) for name in names]
        return JointLimits(
            tuple(names),
            self.lower[i],
            self.upper[i],
            self.velocity[i],
            self.acceleration[i],
            self.jerk[i],
            tuple(envelope.subset(i) for envelope in self.envelopes),
        )

    def clamp(self, q: ArrayLike) -> NDArray[np.float64]:
        """Return ``q`` (..., n) moved into the position range."""
        return np.clip(self._positions(q), self.lower, self.upper)

    def violations(self, q: ArrayLike) -> list[str]:
        """Return one readable line for each joint of ``q`` (n,) that leaves its range."""
        values = self._positions(q)
        if values.shape != (len(self.names),):
            raise JointLimitsError(
                f'expected {len(self.names)} joint positions, got shape {values.shape}'
            )
        # Written so that NaN counts as a violation.
        outside = ~((values >= self.lower) & (values <= self.upper))
        return [
            f'{self.names[i]} at {values[i]:.4f} rad leaves '
            f'[{self.lower[i]:.4f}, {self.upper[i]:.4f}]'
            for i in np.flatnonzero(outside)
        ]

    def velocity_bounds(self, q: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the (lower <= 0, upper >= 0) velocity bounds at ``q`` (..., n), rad/s.

        They combine ``velocity`` with the position-dependent envelopes, less the tolerance that
        libfranka keeps from the latter.
        """
        positions = self._positions(q)
        lower = np.broadcast_to(-self.velocity, positions.shape)
        upper = np.broadcast_to(self.velocity, positions.shape)
        for envelope in self.envelopes:
            low, up = envelope.bounds(positions)
            lower = np.maximum(lower, np.minimum(0.0, low + LIBFRANKA_LIMIT_EPS))
            upper = np.minimum(upper, np.maximum(0.0, up - LIBFRANKA_LIMIT_EPS))
        return lower, upper

    def _positions(self, q: ArrayLike) -> NDArray[np.float64]:
        values = np.asarray(q, dtype=np.float64)
        if values.ndim == 0 or values.shape[-1] != len(self.names):
            raise JointLimitsError(
                f'expected {len(self.names)} joint positions, got shape {values.shape}'
            )
        return values


# Franka publishes two sets of position limits for the FR3: libfranka's and
# franka_description's before 2.0, and the wider one of the current documentation. The older set
# lies inside the newer one, so it is legal on every firmware.
_FR3_UPPER = (2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159)
_FR3_LOWER = (-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159)
_FR3_VELOCITY = (2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26)
_FR3_ACCELERATION = (10.0,) * 7
_FR3_JERK = (5000.0,) * 7

# Position-dependent velocity limits (upper, lower, offset, deceleration): those of libfranka's
# computeUpperLimitsJointVelocity, and those of the current FCI documentation.
_FR3_ENVELOPES = (
    (
        (2.7501, 1.7918, 2.9065, -0.1458, 2.8101, 4.5205, 3.0196),
        (-2.7501, -1.7918, -2.9065, -3.0481, -2.8101, 0.54092, -3.0196),
        (0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35),
        (6.0, 2.585, 3.5, 4.0, 17.0, 5.5, 17.0),
    ),
    (
        (2.9007, 1.8361, 2.9007, -0.1169, 2.8763, 4.6216, 3.0508),
        (-2.9007, -1.8361, -2.9007, -3.0770, -2.8763, 0.4398, -3.0508),
        (0.6599, 0.2517, 0.2000, 0.3533, 0.5757, 0.4878, 0.4628),
        (6.0, 2.585, 3.5, 4.0, 17.0, 5.5, 17.0),
    ),
)

# Wonik's URDF of the right hand. It allows 7 rad/s and says nothing of acceleration or jerk: we
# stay below half of that speed and reach it in 0.13 s.
_FINGER_LOWER = (-0.47, -0.196, -0.174, -0.227)
_FINGER_UPPER = (0.47, 1.61, 1.709, 1.618)
_THUMB_LOWER = (0.263, -0.105, -0.189, -0.162)
_THUMB_UPPER = (1.396, 1.163, 1.644, 1.719)
_HAND_VELOCITY = 3.0
_HAND_ACCELERATION = 30.0
_HAND_JERK = 1000.0


@functools.cache
def robot_limits() -> JointLimits:
    """Return the limits of the 23 joints, without margin.

    Arm rates are Franka's limits less libfranka's own tolerance, so that a command at the limit
    is still legal.
    """
    hand_lower = np.array(_FINGER_LOWER * 3 + _THUMB_LOWER)
    hand_upper = np.array(_FINGER_UPPER * 3 + _THUMB_UPPER)
    hand = np.ones(len(HAND_JOINTS))
    return JointLimits(
        names=JOINTS,
        lower=np.concatenate([_FR3_LOWER, hand_lower]),
        upper=np.concatenate([_FR3_UPPER, hand_upper]),
        velocity=np.concatenate(
            [np.array(_FR3_VELOCITY) - LIBFRANKA_LIMIT_EPS, _HAND_VELOCITY * hand]
        ),
        acceleration=np.concatenate(
            [np.array(_FR3_ACCELERATION) - LIBFRANKA_LIMIT_EPS, _HAND_ACCELERATION * hand]
        ),
        jerk=np.concatenate([np.array(_FR3_JERK) - LIBFRANKA_LIMIT_EPS, _HAND_JERK * hand]),
        envelopes=tuple(
            VelocityEnvelope(
                lower=np.concatenate([lower, hand_lower]),
                upper=np.concatenate([upper, hand_upper]),
                offset=np.concatenate([offset, 0.0 * hand]),
                deceleration=np.concatenate([deceleration, np.inf * hand]),
            )
            for upper, lower, offset, deceleration in _FR3_ENVELOPES
        ),
    )
