"""Executing one plan at a time, and stopping it when something it relies on is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dexwm.control.joint_state_buffer import JointStateBuffer
from dexwm.control.motion import (
    Chunk,
    MotionConfig,
    MotionStreamer,
    Phase,
    SpliceMissed,
    SplicePoint,
)
from dexwm.control.motion_gate import Fault, MotionGate, Watch
from dexwm.control.outcome import Outcome, PlanRefused
from dexwm.control.timing import TimedMotion
from dexwm.control.trajectory import Floats
from dexwm.robot.joints import JointLimits

# Faults after which it is not known what controllers were told last.
_FORGOTTEN = (Outcome.NO_CONTROLLER, Outcome.STALE_STATE)


class Execution:
    """One plan from its start to its outcome.

    Attributes:
        motion: what is executed.
        start_ns: when it begins.
        outcome: how it ended; None while it runs.
        reason: why it did not succeed; empty otherwise.
        end_ns: when the robot came to rest, or the next motion took over.
        max_tracking_error: largest distance of measured from commanded position so far (rad).
    """

    def __init__(self, motion: TimedMotion, start_ns: int):
        self.motion = motion
        self.start_ns = start_ns
        self.outcome: Outcome | None = None
        self.reason = ''
        self.end_ns = start_ns
        self.max_tracking_error = 0.0

    @property
    def duration(self) -> float:
        """Time from beginning to end (s)."""
        return max(0, self.end_ns - self.start_ns) * 1e-9

    def _end(self, outcome: Outcome, reason: str, now_ns: int) -> None:
        self.outcome, self.reason, self.end_ns = outcome, reason, now_ns


@dataclass(frozen=True)
class Progress:
    """Where an execution is.

    Attributes:
        fraction: part of the motion's time that has passed, in [0, 1].
        time_remaining: s.
        waypoint: index of the waypoint that the robot moves to.
        tracking_error: (n,) commanded minus measured position (rad).
    """

    fraction: float
    time_remaining: float
    waypoint: int
    tracking_error: Floats


class MotionSupervisor:
    """Owns the streamer: starts, splices and stops motions as the gate allows.

    It knows no clock and no ROS. It is for one thread at a time; the caller locks.

    Attributes:
        gate: decides whether anything may move.

    Args:
        limits: the robot's limits; their names are the joints and their order.
        tracking_tolerance: (n,) largest distance of measured from commanded position (rad);
            infinite for joints that are meant to be held back, such as grasping fingers.
        joint_state_timeout: age of the joint states at which a motion stops (s).
        config: times of the stream.
        watches: what else motion relies on; asked on every tick.
        latching: see `MotionGate`.
    """

    def __init__(
        self,
        limits: JointLimits,
        tracking_tolerance: ArrayLike,
        joint_state_timeout: float,
        config: MotionConfig | None = None,
        watches: Sequence[Watch] = (),
        latching: bool = False,
    ):
        self.joint_states = JointStateBuffer(limits.names, joint_state_timeout)
        self.streamer = MotionStreamer(limits, config)
        self._tolerance = np.broadcast_to(tracking_tolerance, (len(limits.names),)).astype(float)
        self._tracking_error = np.zeros(len(limits.names))
        self._references = np.full(len(limits.names), np.nan)
        own = (self._stale, self._astray)
        self.gate = MotionGate((*watches, *own), latching)
        self._current: Execution | None = None
        self._stopping: tuple[Outcome, str] | None = None

    @property
    def current(self) -> Execution | None:
        """The execution under way, stopping ones included."""
        return self._current

    def observe(
        self, names: Sequence[str], positions: Sequence[float], stamp_ns: int, arrival_ns: int
    ) -> None:
        """Take in a joint state; see `JointStateBuffer.observe`."""
        updated = self.joint_states.observe(names, positions, stamp_ns, arrival_ns)
        commanded = self.streamer.commanded(stamp_ns)
        if commanded is None or not updated:
            return
        error = commanded.positions[updated] - self.joint_states.positions[updated]
        self._tracking_error[updated] = error
        if self._current is not None and stamp_ns >= self._current.start_ns:
            largest = max(self._current.max_tracking_error, float(np.abs(error).max()))
            self._current.max_tracking_error = largest

    def observe_references(self, names: Sequence[str], positions: Sequence[float]) -> None:
        """Take in where controllers hold joints; others than the robot's are ignored.

        A hand that holds something is commanded further than it gets. A motion that is the first
        one must begin there, or the hand lets go.

        Args:
            names: joints.
            positions: where their controllers want them (rad), as many.

        Raises:
            ValueError: if names and positions differ in number.
        """
        if len(names) != len(positions):
            raise ValueError(f'{len(names)} joint names but {len(positions)} positions')
        known = {name: i for i, name in enumerate(self.joint_states.names)}
        for name, position in zip(names, positions, strict=True):
            if name in known:
                self._references[known[name]] = position

    def commanded(self, now_ns: int) -> Floats:
        """(n,) what the controllers were told last (rad); NaN for a joint nobody knows of.

        Before the first motion, what they report to hold, or else where the joints are.
        """
        commanded = self.streamer.commanded(now_ns)
        return self._held() if commanded is None else commanded.positions

    def check_ready(self, now_ns: int) -> None:
        """Whether a plan may be executed now.

        Raises:
            PlanRefused: with what the gate says; STOPPED if it waits to be resumed.
        """
        fault = self.gate.check(now_ns, self._current is not None)
        if self.gate.latched is not None:
            reason = self.gate.latched.reason
            advice = '' if '~/resume' in reason else '; call ~/resume to accept plans again'
            raise PlanRefused(Outcome.STOPPED, reason + advice)
        if fault is not None:
            raise PlanRefused(fault.outcome, fault.reason)

    def splice_point(self, now_ns: int, lead: float) -> SplicePoint:
        """Where a new motion can begin; see `MotionStreamer.splice_point`."""
        known = self.streamer.commanded(now_ns) is not None
        positions = self.joint_states.positions if known else self._held()
        return self.streamer.splice_point(now_ns, positions, self._tolerance, lead)

    def start(
        self,
        motion: TimedMotion,
        splice: SplicePoint,
        now_ns: int,
        send: Callable[[Chunk], bool],
    ) -> Execution:
        """Execute a motion; one under way ends as PREEMPTED.

        Args:
            motion: timed from the splice point's state.
            splice: where and when it begins.
            now_ns: the time now.
            send: sends the first piece, unless it is too late for that; says whether it did.

        Returns:
            The new execution.

        Raises:
            PlanRefused: as `check_ready`.
            SpliceMissed: as `MotionStreamer.start`, or if the first piece was too late.
        """
        self.check_ready(now_ns)
        chunk = self.streamer.start(motion, splice, now_ns)
        if not send(chunk):
            self.streamer.take_back()
            raise SpliceMissed('the motion could not be sent in time')
        if self._current is not None:
            if self._stopping is not None:
                self._current._end(*self._stopping, now_ns)
            else:
                self._current._end(Outcome.PREEMPTED, 'another plan took over', now_ns)
        self._stopping = None
        start_ns = chunk.start_ns if splice.start_ns is None else splice.start_ns
        self._current = Execution(motion, start_ns)
        return self._current

    def stop(self, outcome: Outcome, reason: str, now_ns: int) -> Chunk | None:
        """Ramp down; the execution under way ends as told once the robot rests.

        Returns:
            What to send at once, if anything.
        """
        if self._current is not None and self._stopping is None:
            self._stopping = (outcome, reason)
        return self.streamer.stop(now_ns)

    def halt(self, reason: str, now_ns: int) -> Chunk | None:
        """Stop, and execute nothing until `gate.resume`."""
        self.gate.halt(reason)
        return self.stop(Outcome.STOPPED, reason, now_ns)

    def emergency_stop(self, reason: str, now_ns: int) -> Chunk | None:
        """Stop, and execute nothing until `gate.release` and `gate.resume`."""
        self.gate.emergency_stop(reason)
        return self.stop(Outcome.STOPPED, reason, now_ns)

    def give_up(self, reason: str) -> None:
        """Send nothing more, and execute nothing until `gate.resume`.

        What the controllers have ends at rest by itself.
        """
        self.gate.halt(reason)
        if self._current is not None and self._stopping is None:
            self._stopping = (Outcome.STOPPED, reason)
        self._abandon()

    def resume(self, now_ns: int) -> str:
        """Open the gate, see `MotionGate.resume`.

        Controllers that failed, fell silent or were recovered have forgotten what they were told:
        the next motion begins where they hold the joints, or where these are.
        """
        met = self.gate.met
        problem = self.gate.resume(now_ns)
        if not problem and not met.isdisjoint(_FORGOTTEN):
            self._abandon()
        return problem

    def end_recovery(self, problem: str) -> None:
        """End a recovery, see `MotionGate.end_recovery`."""
        self.gate.end_recovery(problem)
        self._abandon()

    def tick(self, now_ns: int) -> Chunk | None:
        """Watch over the motion; returns what to send now, if anything.

        Once the robot rests, the execution has its outcome and is no longer `current`.
        """
        self._miss_dropped()
        moves = self._current is not None and self._stopping is None
        fault = self.gate.check(now_ns, moves)
        if fault is not None and fault.abandon:
            if moves:
                self._stopping = (fault.outcome, fault.reason)
            self._abandon()
        phase = self.streamer.phase(now_ns)
        if phase is Phase.IDLE:
            self._finish(now_ns)
            if self._stale(now_ns) is not None:
                # Whoever reports again may have been started anew meanwhile.
                self._abandon()
            return None
        if phase is Phase.MOVING and moves and fault is not None:
            return self.stop(fault.outcome, fault.reason, now_ns)
        if phase is Phase.MOVING and self._stopping is not None:
            # What was to stop it was taken back, too late to be sent.
            return self.streamer.stop(now_ns)
        return self.streamer.tick(now_ns)

    def progress(self, now_ns: int) -> Progress | None:
        """Where the execution under way is; None if there is none."""
        if self._current is None:
            return None
        motion = self._current.motion
        duration = motion.trajectory.duration
        passed = self.streamer.path_time(now_ns)
        waypoint = int(np.searchsorted(motion.arrival_times, passed, side='right'))
        return Progress(
            passed / duration if duration > 0.0 else 1.0,
            duration - passed,
            min(waypoint, len(motion.arrival_times) - 1),
            self._tracking_error.copy(),
        )

    def _held(self) -> Floats:
        measured = self.joint_states.positions
        # A reference that is far off is not what holds the joint.
        near = np.abs(self._references - measured) <= self._tolerance
        return np.where(near, self._references, measured)

    def _miss_dropped(self) -> None:
        """Note that a motion will not begin, as the one before was slowed down by a late tick."""
        if self._current is None or self._stopping is not None:
            return
        if self.streamer.motion is not self._current.motion:
            self._stopping = (
                Outcome.REFUSED,
                'this machine was too slow to send the motion before it, which this one was to '
                'take over from: the robot stops; plan again, and take load off the machine',
            )

    def _abandon(self) -> None:
        self.streamer.abandon()
        self._tracking_error[:] = 0.0

    def _stale(self, now_ns: int) -> Fault | None:
        problem = self.joint_states.problem(now_ns)
        if problem and self._current is not None:
            problem = f'stopped on the way: {problem}'
        return Fault(Outcome.STALE_STATE, problem) if problem else None

    def _astray(self, now_ns: int) -> Fault | None:
        if self._current is None or now_ns <= self._current.start_ns:
            return None
        excess = np.abs(self._tracking_error) - self._tolerance
        if excess.max() <= 0.0:
            return None
        i = int(excess.argmax())
        return Fault(
            Outcome.TRACKING,
            f'{self.joint_states.names[i]} is {abs(self._tracking_error[i]):.3f} rad from '
            f'where it should be, at most {self._tolerance[i]} rad are allowed; see whether '
            'something blocks it and whether its controller runs',
        )

    def _finish(self, now_ns: int) -> None:
        if self._current is None:
            return
        end_ns = min(now_ns, self.streamer.rest_ns())
        outcome, reason = self._stopping or (Outcome.SUCCESSFUL, '')
        self._current._end(outcome, reason, end_ns)
        self._current, self._stopping = None, None
