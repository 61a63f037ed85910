"""What a plan must pass before it moves anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from dexwm.control.outcome import Outcome, PlanRefused
from dexwm.control.timing import TimedMotion, TimingError, time_waypoints
from dexwm.control.trajectory import Floats, JointState
from dexwm.robot.joints import JointLimits

PATH_STEP = 0.05
"""Joint motion between the samples of a motion that are handed to the collision checker (rad)."""

MARGIN_ARM = 0.05
"""Kept from the arm's position limits unless the trajectory node is told otherwise (rad)."""

MARGIN_HAND = 0.01
"""Kept from the hand's, likewise (rad)."""

MAX_FIRST_STEP = 2.0
"""Largest distance of a joint to the first waypoint, likewise (rad)."""


class FoundCollision(Protocol):
    """A collision on a path; its text says between what."""

    @property
    def segment(self) -> int:
        """Index of the path point before the collision."""


class PathChecker(Protocol):
    """Looks for collisions; `dexwm.robot.collision.CollisionChecker` is one."""

    def check_path(self, q_path: Floats) -> FoundCollision | None:
        """The first collision on a path (T, n) of straight joint-space lines, if any."""


@dataclass(frozen=True)
class Waypoints:
    """Waypoints of a plan, well formed and in the order of the robot's joints.

    Attributes:
        positions: (K, n) in rad.
        times: (K,) earliest arrival times (s).
        notes: what was changed, in readable lines.
    """

    positions: Floats
    times: Floats
    notes: tuple[str, ...] = ()


class PlanChecker:
    """Turns a plan into a timed motion, or says why not.

    Args:
        limits: the robot's hard limits; their names are the joints and their order.
        margin: distance to keep from the position limits (rad), (n,) or one for all. Waypoints
            within the limits but nearer to them are moved to the margin, and the notes say so.
            A robot that is nearer, or outside, may start if it goes inward.
        max_first_step: largest distance of any joint from where it is to the first waypoint
            (rad): a plan that was made for another posture is not executed.
        collisions: finds collisions.
    """

    def __init__(
        self,
        limits: JointLimits,
        margin: ArrayLike,
        max_first_step: float,
        collisions: PathChecker,
    ):
        self.limits = limits
        self._margin = np.broadcast_to(margin, (len(limits.names),)).astype(np.float64)
        self._inner = limits.with_margin(self._margin)
        self._max_first_step = max_first_step
        self._collisions = collisions

    def waypoints(
        self, names: Sequence[str], positions: Sequence[ArrayLike], times: Sequence[float]
    ) -> Waypoints:
        """Check the form of a plan, its numbers and its position limits.

        Args:
            names: the plan's joints, in any order; each of the robot's exactly once.
            positions: K waypoints of as many positions (rad).
            times: (K,) earliest arrival times (s); zero for as soon as possible.

        Raises:
            PlanRefused: INVALID_PLAN or LIMITS.
        """
        points = self._positions(names, positions)
        earliest = self._times(times, len(points))
        for k, q in enumerate(points):
            violations = self.limits.violations(q)
            if violations:
                raise PlanRefused(
                    Outcome.LIMITS, f'waypoint {k} is out of reach: {"; ".join(violations)}'
                )
        clamped = self._inner.clamp(points)
        moved = np.abs(clamped - points).max(axis=0)
        notes = tuple(
            f'{self.limits.names[i]}: waypoints moved by up to {moved[i]:.4f} rad to keep '
            f'{self._margin[i]} rad from its limits'
            for i in np.flatnonzero(moved > 0.0)
        )
        return Waypoints(clamped, earliest, notes)

    def motion(self, start: JointState, waypoints: Waypoints, speed_scale: float) -> TimedMotion:
        """Time a motion from `start` through the waypoints and check all of it.

        Raises:
            PlanRefused: REFUSED, LIMITS or COLLISION.
        """
        step = np.abs(waypoints.positions[0] - start.positions)
        if step.max() > self._max_first_step:
            i = int(step.argmax())
            raise PlanRefused(
                Outcome.REFUSED,
                f'the first waypoint is {step[i]:.3f} rad from where {self.limits.names[i]} is, '
                f'at most {self._max_first_step} rad are allowed; plan from the present posture',
            )
        if not 0.0 < speed_scale <= 1.0:
            raise PlanRefused(
                Outcome.INVALID_PLAN, f'the speed scale must be in (0, 1], got {speed_scale}'
            )
        notes = waypoints.notes + self._outside(start)
        try:
            motion = time_waypoints(
                start, waypoints.positions, self._inner, speed_scale, waypoints.times
            )
        except TimingError as error:
            raise PlanRefused(Outcome.LIMITS, str(error)) from error
        self._check_collisions(motion)
        return TimedMotion(
            motion.trajectory, motion.arrival_times, motion.speed_scale, notes + motion.notes
        )

    def _positions(self, names: Sequence[str], positions: Sequence[ArrayLike]) -> Floats:
        def refuse(reason: str) -> PlanRefused:
            return PlanRefused(Outcome.INVALID_PLAN, reason)

        known = self.limits.names
        unknown = [name for name in names if name not in known]
        missing = [name for name in known if name not in names]
        if unknown:
            raise refuse(f'unknown joints {", ".join(unknown)}; the robot has {", ".join(known)}')
        if missing:
            raise refuse(f'joints missing: {", ".join(missing)}')
        if len(names) != len(known):
            twice = sorted({name for name in names if list(names).count(name) > 1})
            raise refuse(f'joints named more than once: {", ".join(twice)}')
        if not len(positions):
            raise refuse('the plan has no waypoints')
        order = [list(names).index(name) for name in known]
        points = np.empty((len(positions), len(known)))
        for k, waypoint in enumerate(positions):
            q = np.asarray(waypoint, dtype=np.float64)
            if q.shape != (len(known),):
                raise refuse(f'waypoint {k} has {q.size} positions for {len(known)} joints')
            if not np.isfinite(q).all():
                i = int(np.flatnonzero(~np.isfinite(q))[0])
                raise refuse(f'waypoint {k}: the position of {names[i]} is {q[i]}')
            points[k] = q[order]
        return points

    @staticmethod
    def _times(times: Sequence[float], count: int) -> Floats:
        earliest = np.asarray(times, dtype=np.float64)
        if earliest.shape != (count,):
            raise PlanRefused(
                Outcome.INVALID_PLAN, f'{count} waypoints but {earliest.size} arrival times'
            )
        if not np.isfinite(earliest).all() or (earliest < 0.0).any():
            raise PlanRefused(Outcome.INVALID_PLAN, f'arrival times {earliest} s are not possible')
        wished = earliest[earliest > 0.0]
        if (np.diff(wished) <= 0.0).any():
            raise PlanRefused(
                Outcome.INVALID_PLAN, f'arrival times {wished} s do not increase strictly'
            )
        return earliest

    def _outside(self, start: JointState) -> tuple[str, ...]:
        outside = self._inner.violations(start.positions)
        return tuple(f'starting within the margin of a joint limit: {line}' for line in outside)

    def _check_collisions(self, motion: TimedMotion) -> None:
        positions = motion.trajectory.positions
        kept = _thin(positions, PATH_STEP)
        found = self._collisions.check_path(positions[kept])
        if found is None:
            return
        time = motion.trajectory.times[kept[found.segment]]
        waypoint = int(np.searchsorted(motion.arrival_times, time, side='right'))
        raise PlanRefused(
            Outcome.COLLISION,
            f'on the way to waypoint {min(waypoint, len(motion.arrival_times) - 1)}, '
            f'{time:.2f} s after the start: {found}',
        )


def _thin(path: Floats, step: float) -> list[int]:
    """Indices of the points of `path` (T, n) that are about `step` apart, with both ends."""
    kept = [0]
    for i in range(1, len(path) - 1):
        if np.abs(path[i + 1] - path[kept[-1]]).max() > step:
            kept.append(i)
    return [*kept, len(path) - 1]
