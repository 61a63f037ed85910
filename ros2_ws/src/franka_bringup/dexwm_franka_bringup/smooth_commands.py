"""Commands without jumps, whatever happens between one cycle and the next."""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dexwm.control.joint_trajectory_controller import (
    JointTrajectoryController,
    TrajectoryRejected,
)
from dexwm.control.trajectory import JointState, JointTrajectory
from dexwm.robot.joints import JointLimits

PERIOD_NS = 1_000_000
"""Period of the Franka control interface (ns)."""

MEMORY_NS = 4 * PERIOD_NS
"""How long commands remember what was commanded before them (ns)."""

BUDGET = 0.3
"""Fraction of the limits that making up for a mismatch may use on top of the trajectory."""

_DURATIONS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
# Mismatches that no robot notices: rad, rad/s, rad/s^2.
_NEGLIGIBLE = (1e-9, 1e-6, 1e-2)


@dataclass(frozen=True)
class Fading:
    """The way of a mismatch to zero: a quintic.

    Attributes:
        coefficients: Of the polynomial in the seconds since the start (6, n).
        start_ns: When it starts (ns).
        duration: When it has arrived (s).
    """

    coefficients: NDArray[np.float64]
    start_ns: int
    duration: float

    @classmethod
    def of(cls, mismatch: JointState, start_ns: int, duration: float) -> Fading:
        """The quintic that is the mismatch at its start, and zero with all derivatives after."""
        q, v, a, t = mismatch.positions, mismatch.velocities, mismatch.accelerations, duration
        return cls(
            np.array(
                [
                    q,
                    v,
                    a / 2,
                    -(10 * q / t**3 + 6 * v / t**2 + 1.5 * a / t),
                    15 * q / t**4 + 8 * v / t**3 + 1.5 * a / t**2,
                    -(6 * q / t**5 + 3 * v / t**4 + 0.5 * a / t**3),
                ]
            ),
            start_ns,
            duration,
        )

    @classmethod
    def within(cls, mismatch: JointState, start_ns: int, limits: JointLimits) -> Fading | None:
        """The shortest one within the budget, None if there is none. Quick: for a 1 kHz loop."""
        q, v = np.abs(mismatch.positions), np.abs(mismatch.velocities)
        # The acceleration only leads from that of the commands before to that of the trajectory.
        # One that is not allowed by itself is for `check_commands` to find.
        a = np.abs(mismatch.accelerations)
        a = np.where(a <= 2 * limits.acceleration, a, 0.0)
        for t in _DURATIONS:
            # Bounds of the quintic's extremes.
            if (
                (2 * q / t + v <= BUDGET * limits.velocity).all()
                and (6 * q / t**2 + 4 * v / t <= BUDGET * limits.acceleration).all()
                and (60 * q / t**3 + 36 * v / t**2 + 9 * a / t <= BUDGET * limits.jerk).all()
            ):
                return cls.of(mismatch, start_ns, t)
        return None

    @property
    def end_ns(self) -> int:
        """When it has arrived (ns)."""
        return self.start_ns + round(self.duration * 1e9)

    def added_to(self, state: JointState, now_ns: int) -> JointState:
        """A state plus what is left of the mismatch."""
        if now_ns >= self.end_ns:
            return state
        x = (now_ns - self.start_ns) * 1e-9
        c0, c1, c2, c3, c4, c5 = self.coefficients
        return JointState(
            state.positions + c0 + x * (c1 + x * (c2 + x * (c3 + x * (c4 + x * c5)))),
            state.velocities + c1 + x * (2 * c2 + x * (3 * c3 + x * (4 * c4 + x * 5 * c5))),
            state.accelerations + 2 * c2 + x * (6 * c3 + x * (12 * c4 + x * 20 * c5)),
        )

    def positions_at(self, times_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """What is left of the mismatch (K, n) at many times (K,), ns."""
        x = (times_ns - self.start_ns)[:, None] * 1e-9
        powers = x ** np.arange(6)
        return np.where(times_ns[:, None] < self.end_ns, powers @ self.coefficients, 0.0)


@dataclass(frozen=True)
class Commands:
    """Commands to come: a trajectory, and what is added to it until that has faded away.

    Attributes:
        controller: What follows the trajectory.
        fading: The way of a mismatch to zero; None if there is none.
        start_ns: From when on they command (ns).
        before: What commanded until then, for `MEMORY_NS`; None: as if these had.
    """

    controller: JointTrajectoryController
    fading: Fading | None = None
    start_ns: int = 0
    before: Commands | None = None

    @property
    def end_ns(self) -> int:
        """When they have come to rest (ns)."""
        return max(self.controller.end_time_ns, self.fading.end_ns if self.fading else 0)

    def sample(self, now_ns: int) -> JointState:
        """The state commanded at a time (ns)."""
        state = self.controller.sample(now_ns)
        return self.fading.added_to(state, now_ns) if self.fading else state

    def positions_at(self, times_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """The positions (K, n) commanded at many times (K,), ns; also shortly before the start."""
        positions = self.controller.positions_at(times_ns)
        if self.fading:
            positions = positions + self.fading.positions_at(times_ns)
        if self.before is None:
            return positions
        earlier = times_ns[:, None] < self.start_ns
        return np.where(earlier, self.before.positions_at(times_ns), positions)

    def followed_by(
        self,
        trajectory: JointTrajectory,
        stamp_ns: int,
        splice_ns: int,
        limits: JointLimits,
        seam_ns: int | None = None,
    ) -> Commands:
        """What becomes of these commands with another trajectory.

        Args:
            trajectory: What to follow.
            stamp_ns: When it starts (ns); 0 means at `splice_ns`.
            splice_ns: When it replaces the one before (ns).
            limits: Limits of the joints (n).
            seam_ns: Up to when the commands were these all the same (ns), if it came too late.

        Raises:
            TrajectoryRejected: With the reason; also if it is too far from these commands.
        """
        seam_ns = splice_ns if seam_ns is None else seam_ns
        controller = copy.copy(self.controller)
        controller.accept(trajectory, stamp_ns, splice_ns)
        mismatch = _difference(self.sample(seam_ns), controller.sample(seam_ns))
        before = self._remembered(seam_ns - MEMORY_NS)
        if _is_negligible(mismatch):
            return Commands(controller, None, seam_ns, before)
        fading = Fading.within(mismatch, seam_ns, limits)
        if fading is None:
            joint = int(np.abs(mismatch.positions).argmax())
            raise TrajectoryRejected(
                f'it is too far from what is commanded before: {limits.names[joint]} by '
                f'{abs(mismatch.positions[joint]):.4f} rad and '
                f'{abs(mismatch.velocities[joint]):.3f} rad/s where it begins to be followed'
            )
        return Commands(controller, fading, seam_ns, before)

    def _remembered(self, since_ns: int) -> Commands:
        """These without the commands before them that ended before a time (ns)."""
        if self.before is None:
            return self
        if self.start_ns <= since_ns:
            return replace(self, before=None)
        return replace(self, before=self.before._remembered(since_ns))

    def rejoined(self, robot: JointState, now_ns: int, limits: JointLimits) -> Commands:
        """The commands that lead a robot from where it is (n) back to the trajectory."""
        mismatch = _difference(robot, self.controller.sample(now_ns))
        fading = Fading.within(mismatch, now_ns, limits)
        # Too far for comfort: still better than a jump.
        return Commands(self.controller, fading or Fading.of(mismatch, now_ns, _DURATIONS[-1]))


class SmoothCommands:
    """One command for each cycle, joined smoothly to the command before.

    Two things would make consecutive commands jump. A trajectory may not begin where the one
    before is left, because it or its sender was late. And for cycles in which no command reaches
    it, the robot goes on by itself with constant acceleration (libfranka documentation, "Packet
    handling"), so that it is not where the trajectory is. In both cases the difference in
    position, velocity and acceleration fades away along a quintic, as fast as `BUDGET` allows.
    """

    def __init__(self, limits: JointLimits, positions: NDArray[np.float64]) -> None:
        """Hold.

        Args:
            limits: Limits of the joints (n).
            positions: Where they are commanded to be (n,), rad.
        """
        self._limits = limits
        self.hold(positions)

    def hold(self, positions: NDArray[np.float64]) -> None:
        """Forget everything and hold these positions (n,), rad. For an arm at rest."""
        self._commands = Commands(JointTrajectoryController(self._limits.names, positions))
        self._next: deque[tuple[int, Commands]] = deque()
        self._last = JointState.at_rest(positions)
        self._last_ns = 0

    def is_active(self, now_ns: int) -> bool:
        """Whether the commands still change, or will."""
        return bool(self._next) or now_ns < self._commands.end_ns

    def finish(self, now_ns: int) -> None:
        """Forget commands that have come to rest and hold their end; time may then be set anew."""
        if self._commands.end_ns:
            self.hold(self.command(now_ns, 0))

    def accept(self, trajectory: JointTrajectory, stamp_ns: int, splice_ns: int) -> None:
        """Follow another trajectory from `splice_ns` on, or at once if that is past.

        The arguments are those of `Commands.followed_by`, which also says what is rejected.
        """
        limits = self._limits
        if self._last_ns <= splice_ns:
            before = self._next[-1][1] if self._next else self._commands
            if self._next and splice_ns < self._next[-1][0]:
                raise TrajectoryRejected('it would replace another one that is yet to begin')
            commands = before.followed_by(trajectory, stamp_ns, splice_ns, limits)
            self._next.append((splice_ns, commands))
        else:
            self._commands = self._commands.followed_by(
                trajectory, stamp_ns, splice_ns, limits, self._last_ns
            )
            self._next.clear()

    def command(self, now_ns: int, missed: int) -> NDArray[np.float64]:
        """The positions (n,) to command in this cycle, rad.

        Args:
            now_ns: The time of the trajectories (ns).
            missed: Number of cycles since the last command that got none.
        """
        active = self.is_active(now_ns)
        while self._next and self._next[0][0] <= now_ns:
            self._begin(*self._next.popleft())
        if missed and active:
            robot = _extrapolated(self._last, (missed + 1) * PERIOD_NS * 1e-9)
            self._commands = self._commands.rejoined(robot, now_ns, self._limits)
        self._last, self._last_ns = self._commands.sample(now_ns), now_ns
        return self._last.positions

    def _begin(self, splice_ns: int, commands: Commands) -> None:
        """Go over to other commands; they were joined to what was to be commanded then."""
        here = self._commands.sample(splice_ns)
        if not _is_negligible(_difference(here, commands.sample(splice_ns))):
            # Missed cycles have changed that since.
            commands = commands.rejoined(here, splice_ns, self._limits)
        self._commands = commands


def _is_negligible(mismatch: JointState) -> bool:
    parts = (mismatch.positions, mismatch.velocities, mismatch.accelerations)
    return all(np.abs(part).max() <= bound for part, bound in zip(parts, _NEGLIGIBLE, strict=True))


def _extrapolated(state: JointState, seconds: float) -> JointState:
    """Where constant acceleration leads."""
    return JointState(
        state.positions + state.velocities * seconds + 0.5 * state.accelerations * seconds**2,
        state.velocities + state.accelerations * seconds,
        state.accelerations,
    )


def _difference(a: JointState, b: JointState) -> JointState:
    return JointState(
        a.positions - b.positions, a.velocities - b.velocities, a.accelerations - b.accelerations
    )
