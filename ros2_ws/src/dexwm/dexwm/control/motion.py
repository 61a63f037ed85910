"""Streaming a timed motion in short pieces, each of which ends at rest.

The sender never ships a whole motion. Every tick it sends the next `horizon` seconds, followed by
a ramp to rest. A newer piece replaces the older; the points of both lie on one time grid, so that
where they overlap they are the same and nothing jumps. If no newer piece comes, because the
sender died, hangs or lost its inputs, the robot ramps down by itself.

All stopping stays on the path. A motion is q(s) with the path time s; while it runs, s advances
at the rate 1, and a stop brings the rate to 0. The path was checked for limits and collisions, so
the ramp needs no check of its own. How fast the rate may change follows from what the motion
leaves of the acceleration and jerk limits (`_Path`).

How long a stop takes: at the speed scale 0.2 a joint moves at up to 0.2 * 5.26 = 1.05 rad/s (FR3
joints 5 and 7) with 10 rad/s^2 to brake; the motion itself uses up to 2.5 rad/s^2 of them and 7 %
are kept in reserve, so in the worst instant 6.8 rad/s^2 are left: 1.05 / 6.8 = 0.155 s. Joints 1
to 4 (0.52 rad/s) need half of that. The rounding of the ramp adds `RAMP_RISE_TIME` = 0.02 s, and
before it come `MotionConfig.lead` = 0.03 s and up to one grid step: 0.21 s from noticing to rest
at worst. The time grows with the speed scale.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
import ruckig
from numpy.typing import ArrayLike

from dexwm.control.timing import SAMPLE_PERIOD, TimedMotion
from dexwm.control.trajectory import Floats, JointState, JointTrajectory
from dexwm.robot.joints import JointLimits

RAMP_RISE_TIME = 0.02
"""Time in which the deceleration of a ramp builds up (s)."""

RAMP_SHARE = 0.93
"""Part of acceleration and jerk limits that a motion and a ramp use together; splines between the
points that are sent exceed the ramp's own acceleration by up to 4 %."""

FASTEST_RAMP = 20.0
"""Largest change of the path rate (1/s): no ramp is shorter than 0.05 s."""

RAMP_REACH = 1.0
"""Path time after its beginning that a ramp takes into account (s); no ramp is longer."""

MEMORY_NS = 1_000_000_000
"""How long what was commanded is remembered, in nanoseconds."""

TRANSIT = 0.01
"""Part of the lead that is kept for the message to arrive in (s)."""

PREPARATION = 0.02
"""Time to compute and write a piece, as part of its length; a fifth of that where nothing else
runs. A stop is short, a whole motion need not be."""

FOREVER = 1e6
"""A horizon longer than any motion (s)."""

_GRID_NS = round(SAMPLE_PERIOD * 1e9)


class SpliceMissed(RuntimeError):
    """The instant at which a motion was to begin has passed, or the old motion changed."""


class Phase(enum.Enum):
    """What a streamer does."""

    IDLE = 'idle'
    MOVING = 'moving'
    STOPPING = 'stopping'


@dataclass(frozen=True)
class MotionConfig:
    """Times of the stream.

    Attributes:
        horizon: how far ahead of the present a piece goes on at full rate (s). A sender that is
            late by more makes the robot slow down. Must exceed `lead`. Infinite: the whole
            motion is one piece, for a receiver that takes it in one go.
        lead: how far ahead of the present a change begins (s): time to compute the message in,
            and for it to arrive.
        adoption: time to move from wherever a controller holds to the measured position, where
            the streamer does not know what was commanded (s).
    """

    horizon: float = 0.15
    lead: float = 0.03
    adoption: float = 0.3

    def __post_init__(self) -> None:
        if not 0.0 < self.lead < self.horizon:
            raise ValueError(
                f'0 < lead < horizon is needed, got {self.lead} s and {self.horizon} s'
            )
        if self.adoption < self.lead:
            raise ValueError(f'adoption must be {self.lead} s or more, got {self.adoption} s')


@dataclass(frozen=True)
class Chunk:
    """A piece of motion to send.

    Attributes:
        trajectory: the points; times from `start_ns`.
        start_ns: time of the trajectory's zero, for the message's stamp.
        due_ns: when it must be on its way at the latest. One that is sent later comes to
            controllers that already do something else than it begins with: it is to be taken
            back instead (`MotionStreamer.take_back`), and made anew.
    """

    trajectory: JointTrajectory
    start_ns: int
    due_ns: int


@dataclass(frozen=True)
class SplicePoint:
    """Where and when a new motion can begin.

    Attributes:
        state: commanded state there.
        start_ns: when; None means that the robot rests and the motion may begin at any time.
        generation: count of changes so far; a later change makes the point invalid.
        adopted: whether some position was measured instead of commanded.
    """

    state: JointState
    start_ns: int | None
    generation: int
    adopted: bool


class _Path:
    """A motion as a function of path time, and how fast the path rate may change on it."""

    def __init__(self, motion: TimedMotion, limits: JointLimits):
        self.motion = motion
        self.trajectory = motion.trajectory
        self.duration = self.trajectory.duration
        self._fastest = self._fastest_ramps(limits)

    def _fastest_ramps(self, limits: JointLimits) -> Floats:
        """Largest change of the path rate in each of the trajectory's T - 1 segments (1/s).

        With path rate r, acceleration is q'' r^2 + q' r' and jerk is q''' r^3 + 3 q'' r r' +
        q' r''. For r <= 1, |r'| <= A and |r''| <= A / RAMP_RISE_TIME both stay inside the limits
        if |q''| + A |q'| and |q'''| + A (3 |q''| + |q'| / RAMP_RISE_TIME) do.
        """
        t = self.trajectory
        if len(t.times) < 2:
            return np.array([FASTEST_RAMP])
        assert t.velocities is not None and t.accelerations is not None
        c = t.coefficients
        x = np.diff(t.times)[:, None, None] * np.array([0.0, 0.5, 1.0])[:, None]
        jerk = np.abs(6.0 * c[:, None, 3] + 24.0 * c[:, None, 4] * x + 60.0 * c[:, None, 5] * x**2)
        v = np.maximum(np.abs(t.velocities[:-1]), np.abs(t.velocities[1:]))
        a = np.maximum(np.abs(t.accelerations[:-1]), np.abs(t.accelerations[1:]))
        room = RAMP_SHARE * limits.acceleration - a
        room_of_jerk = RAMP_SHARE * limits.jerk - jerk.max(axis=1)
        fastest = np.minimum(
            room / np.maximum(v, 1e-9),
            room_of_jerk / np.maximum(3.0 * a + v / RAMP_RISE_TIME, 1e-9),
        )
        fastest = fastest.min(axis=1).clip(max=FASTEST_RAMP)
        if fastest.min() < 1.0 / RAMP_REACH:
            raise ValueError(
                'the motion leaves too little of the acceleration or jerk limits to stop with; '
                'time it with dexwm.control.timing.time_waypoints'
            )
        return fastest

    def ramp(self, s: float) -> float:
        """Largest change of the path rate (1/s) for a ramp that begins at path time `s`."""
        first, last = np.searchsorted(self.trajectory.times, [s, s + RAMP_REACH])
        return float(self._fastest[max(first - 1, 0) : last].min(initial=FASTEST_RAMP))

    def state(self, s: float, rate: float, rate_change: float) -> JointState:
        """State at path time `s` passed at `rate`."""
        at = self.trajectory.sample(s)
        return JointState(
            at.positions,
            at.velocities * rate,
            at.accelerations * rate**2 + at.velocities * rate_change,
        )


@dataclass(frozen=True)
class _Piece:
    """A path with its pace: path time as a function of time, from `start_ns` on."""

    path: _Path
    start_ns: int
    s: float
    rate: float
    rate_change: float
    target_rate: float
    _profile: ruckig.Trajectory = field(init=False, repr=False)

    def __post_init__(self) -> None:
        problem = ruckig.InputParameter(1)
        problem.control_interface = ruckig.ControlInterface.Velocity
        problem.current_position = [self.s]
        problem.current_velocity = [self.rate]
        problem.current_acceleration = [self.rate_change]
        problem.target_velocity = [self.target_rate]
        problem.target_acceleration = [0.0]
        ramp = self.path.ramp(self.s)
        problem.max_acceleration = [ramp]
        problem.max_jerk = [ramp / RAMP_RISE_TIME]
        profile = ruckig.Trajectory(1)
        result = ruckig.Ruckig(1).calculate(problem, profile)
        if result not in (ruckig.Result.Working, ruckig.Result.Finished):
            raise RuntimeError(f'ruckig finds no pace: {result.name}')
        object.__setattr__(self, '_profile', profile)

    @property
    def settled_ns(self) -> int:
        """When the pace has reached its target."""
        return self.start_ns + int(np.ceil(self._profile.duration * 1e9))

    def pace(self, now_ns: int) -> tuple[float, float, float]:
        """Path time, path rate and its change."""
        t = (now_ns - self.start_ns) * 1e-9
        if t >= self._profile.duration:
            end = self._profile.at_time(self._profile.duration)[0][0]
            return end + self.target_rate * (t - self._profile.duration), self.target_rate, 0.0
        s, rate, change = self._profile.at_time(max(t, 0.0))
        return s[0], rate[0], change[0]

    def state(self, now_ns: int) -> JointState:
        """Commanded state."""
        return self.path.state(*self.pace(now_ns))

    def done_ns(self) -> int:
        """When the motion rests: at the path's end, or where the pace comes to zero."""
        if self.target_rate == 0.0:
            return self.settled_ns
        s, _, _ = self.pace(self.settled_ns)
        return self.settled_ns + max(0, int(np.ceil((self.path.duration - s) * 1e9)))

    def then(self, at_ns: int, target_rate: float) -> _Piece:
        """The same path from `at_ns` on with another pace."""
        return _Piece(self.path, at_ns, *self.pace(at_ns), target_rate)


def _ceil(time_ns: int) -> int:
    return -(-time_ns // _GRID_NS) * _GRID_NS


def _floor(time_ns: int) -> int:
    return time_ns // _GRID_NS * _GRID_NS


class MotionStreamer:
    """Runs one motion at a time and says what to send to the controllers, and when.

    It knows no clock: times come in, in nanoseconds of any one clock. It is for one thread at a
    time; the caller locks.

    A new motion begins where the old one will be at the splice point (`splice_point`, then
    `start`), with the same position, velocity and acceleration.

    Args:
        limits: the robot's limits; their names are the joints and their order.
        config: times of the stream.
    """

    def __init__(self, limits: JointLimits, config: MotionConfig | None = None):
        self.limits = limits
        self.config = config or MotionConfig()
        self.late_ticks = 0
        self._pieces: list[_Piece] = []
        self._generation = 0
        self._sent_to_ns: int | None = None
        self._before: tuple[list[_Piece], int | None, int] = ([], None, 0)

    @property
    def _lead_ns(self) -> int:
        return round(self.config.lead * 1e9)

    def commanded(self, now_ns: int) -> JointState | None:
        """What was or will be commanded at a time; None if nothing ever was."""
        return self._piece_at(now_ns).state(now_ns) if self._pieces else None

    def phase(self, now_ns: int) -> Phase:
        """What the streamer does at `now_ns`."""
        if not self._pieces or now_ns >= self._pieces[-1].done_ns():
            return Phase.IDLE
        return Phase.MOVING if self._pieces[-1].target_rate else Phase.STOPPING

    def path_time(self, now_ns: int) -> float:
        """How much of the last motion lies behind (s of path time)."""
        if not self._pieces:
            return 0.0
        last = self._pieces[-1]
        return min(last.pace(max(now_ns, last.start_ns))[0], last.path.duration)

    def splice_point(
        self, now_ns: int, measured: ArrayLike, tolerance: ArrayLike, lead: float
    ) -> SplicePoint:
        """Where a new motion can begin `lead` seconds from now at the earliest.

        Args:
            now_ns: the time now.
            measured: (n,) measured positions (rad).
            tolerance: (n,) largest distance of measured from commanded position at rest (rad);
                a joint that is farther off has been moved by something else, and the motion
                begins at its measured position. Infinite: always go on from what was commanded.
            lead: time that planning the new motion will take (s).
        """
        last = self._pieces[-1] if self._pieces else None
        if last is not None and now_ns < last.done_ns():
            # Never in a change of pace: what such a state leaves of the limits is little.
            earliest = max(now_ns + round(max(lead, self.config.lead) * 1e9), last.settled_ns)
            start_ns = _ceil(earliest)
            return SplicePoint(last.state(start_ns), start_ns, self._generation, False)
        positions = np.array(measured, dtype=np.float64)
        adopted = np.ones(positions.shape, dtype=bool)
        if last is not None:
            commanded = last.state(now_ns).positions
            adopted = np.abs(positions - commanded) > np.asarray(tolerance)
            positions = np.where(adopted, positions, commanded)
        state = JointState.at_rest(positions)
        return SplicePoint(state, None, self._generation, bool(adopted.any()))

    def start(self, motion: TimedMotion, splice: SplicePoint, now_ns: int) -> Chunk:
        """Begin `motion`, which was timed from `splice.state`, at the splice point.

        Returns:
            What to send at once.

        Raises:
            SpliceMissed: if there is not enough time left until the splice point, or something
                else was started or stopped since; get a new splice point and plan again.
        """
        begin_ns = self._begin(now_ns)
        if splice.generation != self._generation:
            raise SpliceMissed('the motion changed while the new one was planned')
        if splice.start_ns is None:
            lead = self.config.adoption if splice.adopted else self.config.lead
            lead += PREPARATION * min(self.config.horizon, motion.trajectory.duration)
            start_ns = begin_ns = _ceil(now_ns + round(lead * 1e9))
            self._pieces.clear()
        else:
            start_ns = splice.start_ns
            if start_ns < now_ns + self._lead_ns:
                raise SpliceMissed('planning took longer than the lead')
        self._append(_Piece(_Path(motion, self.limits), start_ns, 0.0, 1.0, 0.0, 1.0))
        return self._chunk(now_ns, min(begin_ns, start_ns))

    def stop(self, now_ns: int) -> Chunk | None:
        """Ramp down along the path; a motion that has not begun yet is dropped.

        Returns:
            What to send at once; None if the robot rests.
        """
        if self.phase(now_ns) is Phase.IDLE:
            return None
        if not self._pieces[-1].target_rate:
            return self.tick(now_ns)
        begin_ns = self._begin(now_ns)
        at_ns = _ceil(now_ns + self._lead_ns)
        piece = self._piece_at(at_ns)
        if piece.start_ns > at_ns:
            self._append(_Piece(piece.path, piece.start_ns, 0.0, 0.0, 0.0, 0.0))
        else:
            self._append(piece.then(at_ns, 0.0))
        return self._chunk(now_ns, min(begin_ns, self._pieces[-1].start_ns))

    def take_back(self) -> None:
        """Undo the last `start`, `stop` or `tick`, whose chunk was not sent."""
        self._pieces, self._sent_to_ns, self.late_ticks = self._before
        self._generation += 1

    def abandon(self) -> None:
        """Send nothing more, and forget what was commanded.

        What the controllers have ends at rest by itself. The next motion begins where the joints
        are measured.
        """
        self._pieces.clear()
        self._sent_to_ns = None
        self._generation += 1

    @property
    def motion(self) -> TimedMotion | None:
        """The last motion started."""
        return self._pieces[-1].path.motion if self._pieces else None

    def rest_ns(self) -> int:
        """When the robot rests if nothing else is asked for."""
        return self._pieces[-1].done_ns() if self._pieces else 0

    def tick(self, now_ns: int) -> Chunk | None:
        """What to send now; None if the robot rests, or has all that it needs to come to rest.

        If the tick comes so late that the robot already ramps down by the end of the last chunk,
        it is sped up again from where that ramp has brought it. A motion that was to take over
        later is dropped then, for the robot will not be where it begins; the robot comes to rest.
        """
        if self.phase(now_ns) is Phase.IDLE:
            return None
        begin_ns = self._begin(now_ns)
        if self._sent_to_ns is not None and self._sent_to_ns >= self.rest_ns():
            return None
        return self._chunk(now_ns, begin_ns)

    def _append(self, piece: _Piece) -> None:
        """Put a piece in force from its start on; pieces that would begin later are dropped."""
        self._pieces = [p for p in self._pieces if p.start_ns < piece.start_ns] + [piece]
        self._generation += 1

    def _begin(self, now_ns: int) -> int:
        """Account for the ramp at the end of the last chunk, if the robot has come to it.

        Returns:
            When the controllers first do something else than is in force here.
        """
        self._before = (list(self._pieces), self._sent_to_ns, self.late_ticks)
        at_ns = _ceil(now_ns + self._lead_ns)
        if self.phase(now_ns) is Phase.IDLE or self._sent_to_ns is None:
            return at_ns
        if self._sent_to_ns >= min(at_ns, self.rest_ns()):
            return self._sent_to_ns
        self.late_ticks += 1
        last = self._pieces[-1]
        self._append(self._piece_at(self._sent_to_ns).then(self._sent_to_ns, 0.0))
        if last.start_ns <= at_ns:
            self._append(self._piece_at(at_ns).then(at_ns, last.target_rate))
        return at_ns

    def _chunk(self, now_ns: int, begin_ns: int) -> Chunk:
        """The points from now to the horizon, and the ramp from there.

        Args:
            now_ns: the time now.
            begin_ns: from when on they differ from what the controllers have.
        """
        self._forget(now_ns)
        first_ns = max(_floor(now_ns), self._pieces[0].start_ns)
        rest_ns = _ceil(self.rest_ns())
        horizon_s = min(self.config.horizon, FOREVER)
        horizon_ns = _ceil(now_ns + round(horizon_s * 1e9))
        horizon_ns = max(min(horizon_ns, rest_ns), first_ns)
        ramp = self._piece_at(horizon_ns).then(horizon_ns, 0.0)
        end_ns = horizon_ns if horizon_ns >= rest_ns else _ceil(ramp.done_ns())
        knots = [int(t) for t in range(first_ns, end_ns + 1, _GRID_NS)]
        states = [(ramp if t >= horizon_ns else self._piece_at(t)).state(t) for t in knots]
        velocities = np.array([state.velocities for state in states])
        accelerations = np.array([state.accelerations for state in states])
        velocities[-1], accelerations[-1] = 0.0, 0.0
        self._sent_to_ns = horizon_ns
        trajectory = JointTrajectory(
            self.limits.names,
            (np.array(knots) - first_ns) * 1e-9,
            np.array([state.positions for state in states]),
            velocities,
            accelerations,
        )
        return Chunk(trajectory, first_ns, begin_ns - round(TRANSIT * 1e9))

    def _piece_at(self, time_ns: int) -> _Piece:
        """The piece in force, or the first one before it begins."""
        for piece in reversed(self._pieces):
            if piece.start_ns <= time_ns:
                return piece
        return self._pieces[0]

    def _forget(self, now_ns: int) -> None:
        """Drop pieces replaced more than `MEMORY` ago; younger ones serve `commanded`."""
        while len(self._pieces) > 1 and self._pieces[1].start_ns < now_ns - MEMORY_NS:
            self._pieces.pop(0)
