"""Executing one plan at a time, and stopping it when something it relies on is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dexwm.control.joint_state_buffer import JointStateBuffer
from dexwm.control.motion import Chunk, MotionConfig, MotionStreamer, Phase, SplicePoint
from dexwm.control.outcome import Outcome, PlanRefused
from dexwm.control.timing import TimedMotion
from dexwm.control.trajectory import Floats
from dexwm.robot.joints import JointLimits


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
    """Owns the streamer: starts, splices and stops motions, and watches the inputs.

    It knows no clock and no ROS. It is for one thread at a time; the caller locks.

    Args:
        limits: the robot's limits; their names are the joints and their order.
        tracking_tolerance: (n,) largest distance of measured from commanded position (rad);
            infinite for joints that are meant to be held back, such as grasping fingers.
        joint_state_timeout: age of the joint states at which a motion stops (s).
        config: times of the stream.
        watch: called on every tick of a motion; returns why it cannot go on (outcome and
            reason), or None.
    """

    def __init__(
        self,
        limits: JointLimits,
        tracking_tolerance: ArrayLike,
        joint_state_timeout: float,
        config: MotionConfig | None = None,
        watch: Callable[[int], tuple[Outcome, str] | None] = lambda now_ns: None,
    ):
        self.joint_states = JointStateBuffer(limits.names, joint_state_timeout)
        self.streamer = MotionStreamer(limits, config)
        self._tolerance = np.broadcast_to(tracking_tolerance, (len(limits.names),)).astype(float)
        self._tracking_error = np.zeros(len(limits.names))
        self._watch = watch
        self._current: Execution | None = None
        self._stopping: tuple[Outcome, str] | None = None
        self._halted = ''

    @property
    def current(self) -> Execution | None:
        """The execution under way, stopping ones included."""
        return self._current

    @property
    def halted(self) -> str:
        """Why nothing is executed until `resume`; empty if plans are welcome."""
        return self._halted

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

    def check_ready(self, now_ns: int) -> None:
        """Whether a plan may be executed now.

        Raises:
            PlanRefused: STOPPED, STALE_STATE, or what `watch` says.
        """
        if self._halted:
            raise PlanRefused(Outcome.STOPPED, self._halted)
        problem = self.joint_states.problem(now_ns)
        if problem:
            raise PlanRefused(Outcome.STALE_STATE, problem)
        watched = self._watch(now_ns)
        if watched is not None:
            raise PlanRefused(*watched)

    def splice_point(self, now_ns: int, lead: float) -> SplicePoint:
        """Where a new motion can begin; see `MotionStreamer.splice_point`."""
        return self.streamer.splice_point(
            now_ns, self.joint_states.positions, self._tolerance, lead
        )

    def start(
        self, motion: TimedMotion, splice: SplicePoint, now_ns: int
    ) -> tuple[Execution, Chunk]:
        """Execute a motion; one under way ends as PREEMPTED.

        Returns:
            The new execution, and what to send at once.

        Raises:
            PlanRefused: as `check_ready`.
            SpliceMissed: as `MotionStreamer.start`.
        """
        self.check_ready(now_ns)
        chunk = self.streamer.start(motion, splice, now_ns)
        if self._current is not None:
            if self._stopping is not None:
                self._current._end(*self._stopping, now_ns)
            else:
                self._current._end(Outcome.PREEMPTED, 'another plan took over', now_ns)
        self._stopping = None
        start_ns = chunk.start_ns if splice.start_ns is None else splice.start_ns
        self._current = Execution(motion, start_ns)
        return self._current, chunk

    def stop(self, outcome: Outcome, reason: str, now_ns: int) -> Chunk | None:
        """Ramp down; the execution under way ends as told once the robot rests.

        Returns:
            What to send at once, if anything.
        """
        if self._current is not None and self._stopping is None:
            self._stopping = (outcome, reason)
        return self.streamer.stop(now_ns)

    def halt(self, reason: str, now_ns: int) -> Chunk | None:
        """Stop, and execute nothing until `resume`."""
        self._halted = reason
        return self.stop(Outcome.STOPPED, reason, now_ns)

    def resume(self) -> None:
        """Welcome plans again. Nothing moves by this alone."""
        self._halted = ''

    def tick(self, now_ns: int) -> Chunk | None:
        """Watch over the motion; returns what to send now, if anything.

        Once the robot rests, the execution has its outcome and is no longer `current`.
        """
        phase = self.streamer.phase(now_ns)
        if phase is Phase.IDLE:
            self._finish(now_ns)
            return None
        if phase is Phase.MOVING and self._stopping is None:
            problem = self._problem(now_ns)
            if problem is not None:
                return self.stop(*problem, now_ns)
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

    def _problem(self, now_ns: int) -> tuple[Outcome, str] | None:
        stale = self.joint_states.problem(now_ns)
        if stale:
            return Outcome.STALE_STATE, f'stopped on the way: {stale}'
        excess = np.abs(self._tracking_error) - self._tolerance
        if excess.max() > 0.0 and self._current is not None and now_ns > self._current.start_ns:
            i = int(excess.argmax())
            return (
                Outcome.TRACKING,
                f'{self.joint_states.names[i]} is {abs(self._tracking_error[i]):.3f} rad from '
                f'where it should be, at most {self._tolerance[i]} rad are allowed; see whether '
                'something blocks it and whether its controller runs',
            )
        return self._watch(now_ns)

    def _finish(self, now_ns: int) -> None:
        if self._current is None:
            return
        end_ns = min(now_ns, self.streamer.rest_ns())
        outcome, reason = self._stopping or (Outcome.SUCCESSFUL, '')
        self._current._end(outcome, reason, end_ns)
        self._current, self._stopping = None, None
