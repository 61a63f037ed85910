"""Joint trajectories and their interpolation, as in ros2_control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class InvalidTrajectory(ValueError):
    """A trajectory is malformed: names, shapes, times or numbers."""


@dataclass(frozen=True)
class JointState:
    """State of n joints at one instant.

    Attributes:
        positions: (n,) in rad.
        velocities: (n,) in rad/s.
        accelerations: (n,) in rad/s^2.
    """

    positions: Floats
    velocities: Floats
    accelerations: Floats

    @classmethod
    def at_rest(cls, positions: ArrayLike) -> JointState:
        """The state that stands still at `positions` (n,)."""
        q = np.array(positions, dtype=np.float64)
        return cls(q, np.zeros_like(q), np.zeros_like(q))

    def take(self, indices: Sequence[int]) -> JointState:
        """The state of some of the joints, in the order of `indices`."""
        index = list(indices)
        return JointState(self.positions[index], self.velocities[index], self.accelerations[index])


@dataclass(frozen=True)
class JointTrajectory:
    """Points of n joints in time, with the interpolation between them.

    What the points carry decides the spline, per ros2_controllers' "Trajectory Representation":
    positions alone are joined by straight lines, positions and velocities by cubics, positions,
    velocities and accelerations by quintics. ros2_control lets the points of one trajectory
    differ in what they carry; here all points carry the same, anything else is an error.

    Attributes:
        names: the n joints, in the order of the columns below.
        times: (T,) seconds from the trajectory's start, not negative, strictly increasing, T >= 1.
        positions: (T, n) in rad.
        velocities: (T, n) in rad/s, or None.
        accelerations: (T, n) in rad/s^2, or None; needs velocities.
        coefficients: (T - 1, 6, n) of each segment's polynomial in the seconds since its start.

    Raises:
        InvalidTrajectory: on any breach of the above, saying which.
    """

    names: tuple[str, ...]
    times: Floats
    positions: Floats
    velocities: Floats | None = None
    accelerations: Floats | None = None
    coefficients: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, 'names', tuple(self.names))
        for name in ('times', 'positions', 'velocities', 'accelerations'):
            value = getattr(self, name)
            if value is not None:
                set_field(self, name, np.array(value, dtype=np.float64))
        self._check()
        set_field(self, 'coefficients', self._splines())

    def _check(self) -> None:
        n, count = len(self.names), self.times.size
        duplicates = sorted({name for name in self.names if self.names.count(name) > 1})
        if duplicates:
            raise InvalidTrajectory(f'joints named more than once: {", ".join(duplicates)}')
        if self.times.ndim != 1 or count == 0:
            raise InvalidTrajectory(f'times must be (T,) with T >= 1, got {self.times.shape}')
        if self.accelerations is not None and self.velocities is None:
            raise InvalidTrajectory('accelerations without velocities; give both or neither')
        for label in ('positions', 'velocities', 'accelerations'):
            value = getattr(self, label)
            if value is None:
                continue
            if value.shape != (count, n):
                raise InvalidTrajectory(
                    f'{label} must be {(count, n)} for {count} points of {n} joints, '
                    f'got {value.shape}'
                )
            bad = np.argwhere(~np.isfinite(value))
            if bad.size:
                point, joint = bad[0]
                raise InvalidTrajectory(
                    f'{label} of {self.names[joint]} at point {point} is {value[point, joint]}'
                )
        if not np.isfinite(self.times).all():
            raise InvalidTrajectory('a point has a time that is not finite')
        if self.times[0] < 0.0:
            raise InvalidTrajectory(f'the first point has a negative time, {self.times[0]} s')
        late = np.flatnonzero(np.diff(self.times) <= 0.0)
        if late.size:
            i = int(late[0])
            raise InvalidTrajectory(
                f'times must increase strictly: point {i} is at {self.times[i]} s, '
                f'point {i + 1} at {self.times[i + 1]} s'
            )

    def _splines(self) -> Floats:
        q0, q1 = self.positions[:-1], self.positions[1:]
        h = np.diff(self.times)[:, None]
        c = np.zeros((len(h), 6, q0.shape[1]))
        c[:, 0] = q0
        if self.velocities is None:
            c[:, 1] = (q1 - q0) / h
            return c
        v0, v1 = self.velocities[:-1], self.velocities[1:]
        c[:, 1] = v0
        if self.accelerations is None:
            c[:, 2] = (3.0 * (q1 - q0) / h - 2.0 * v0 - v1) / h
            c[:, 3] = (2.0 * (q0 - q1) / h + v0 + v1) / h**2
            return c
        a0, a1 = self.accelerations[:-1], self.accelerations[1:]
        # What remains at the segment's end after the part that the start fixes.
        dq = q1 - (q0 + v0 * h + 0.5 * a0 * h**2)
        dv = v1 - (v0 + a0 * h)
        da = a1 - a0
        c[:, 2] = 0.5 * a0
        c[:, 3] = (10.0 * dq / h**2 - 4.0 * dv / h + 0.5 * da) / h
        c[:, 4] = (-15.0 * dq / h**2 + 7.0 * dv / h - da) / h**2
        c[:, 5] = (6.0 * dq / h**2 - 3.0 * dv / h + 0.5 * da) / h**3
        return c

    @property
    def duration(self) -> float:
        """Time of the last point (s)."""
        return float(self.times[-1])

    @property
    def end(self) -> JointState:
        """Where the trajectory comes to rest."""
        return JointState.at_rest(self.positions[-1])

    def sample(self, t: float) -> JointState:
        """The state at `t` seconds from the start; at rest before the first and after the last."""
        if t >= self.times[-1]:
            return self.end
        if t < self.times[0]:
            return JointState.at_rest(self.positions[0])
        i = int(np.searchsorted(self.times, t, side='right')) - 1
        x = t - self.times[i]
        c0, c1, c2, c3, c4, c5 = self.coefficients[i]
        return JointState(
            c0 + x * (c1 + x * (c2 + x * (c3 + x * (c4 + x * c5)))),
            c1 + x * (2.0 * c2 + x * (3.0 * c3 + x * (4.0 * c4 + x * 5.0 * c5))),
            2.0 * c2 + x * (6.0 * c3 + x * (12.0 * c4 + x * 20.0 * c5)),
        )

    def positions_at(self, t: Floats) -> Floats:
        """The positions (K, n) at times `t` (K,), each as `sample` says."""
        if len(self.times) == 1:
            return np.repeat(self.positions, len(t), axis=0)
        inside = np.clip(t, self.times[0], self.times[-1])
        i = np.searchsorted(self.times[1:-1], inside, side='right')
        x = (inside - self.times[i])[:, None]
        result = np.zeros((len(t), len(self.names)))
        for power in range(5, -1, -1):
            result = result * x + self.coefficients[i, power]
        return result

    def select(self, names: Sequence[str]) -> JointTrajectory:
        """The same trajectory with the columns `names`, in that order.

        Raises:
            InvalidTrajectory: if a name is not in the trajectory.
        """
        if tuple(names) == self.names:
            return self
        missing = [name for name in names if name not in self.names]
        if missing:
            raise InvalidTrajectory(
                f'no joints {", ".join(missing)} in a trajectory of {", ".join(self.names)}'
            )
        columns = [self.names.index(name) for name in names]
        return JointTrajectory(
            tuple(names),
            self.times,
            self.positions[:, columns],
            None if self.velocities is None else self.velocities[:, columns],
            None if self.accelerations is None else self.accelerations[:, columns],
        )
