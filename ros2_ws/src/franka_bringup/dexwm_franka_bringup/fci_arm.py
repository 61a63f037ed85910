"""The arm behind its control process, for the node: checks what is sent, knows what comes back."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

from dexwm.control.joint_trajectory_controller import (
    JointTrajectoryController,
    TrajectoryRejected,
)
from dexwm.control.timing import stop_ramp
from dexwm.control.trajectory import JointTrajectory
from dexwm.robot.joints import ARM_JOINTS
from dexwm_franka_bringup.command_check import check_commands
from dexwm_franka_bringup.control_process import ControlProcess, ControlProcessError
from dexwm_franka_bringup.fci_messages import (
    FciMode,
    FciSettings,
    Finish,
    Follow,
    Recover,
    Report,
)
from dexwm_franka_bringup.robot_clock import loop_limits
from dexwm_franka_bringup.smooth_commands import Commands

SILENT_AFTER = 0.5
"""Age of the last report at which the control process counts as stuck (s)."""

RAMP_SCALE = 0.5
"""Fraction of the robot's acceleration and jerk that a stop uses."""

# How far ahead a trajectory replaces the one before: time to check it and to pass it on.
_LEAD_NS = 10_000_000
# A clock that is back by more was set, and no report is as old.
_STEP_NS = 2 * round(SILENT_AFTER * 1e9)
_FINISH_TIMEOUT = 5.0


class FciArm:
    """Sends trajectories to the control process after a rehearsal.

    The same `Commands` are made here as in the process. What they command is checked for each
    millisecond before the trajectory is sent.
    """

    def __init__(self, settings: FciSettings, on_report: Callable[[Report], None]) -> None:
        """Prepare; `start` starts the process.

        Args:
            settings: How to reach and treat the robot.
            on_report: Called with each report, from a thread of its own.
        """
        self._limits = loop_limits()
        self._rehearsal = self._before = self._holding([0.0] * len(ARM_JOINTS))
        self._refused = self._splice_ns = 0
        # A simulated robot's milliseconds can be long, but not short.
        self._longest_silence = 1.0 / settings.report_rate if settings.robot_time else math.inf
        self._loop: ControlProcess[FciSettings, Follow | Recover | Finish, Report] = (
            ControlProcess(
                'fci control loop', _run, settings, Report(FciMode.CONNECTING), on_report
            )
        )
        self._lock = threading.Lock()

    @property
    def report(self) -> Report:
        """The newest report."""
        return self._loop.report

    def silence(self) -> float:
        """Age of the newest report (s)."""
        return self._loop.silence()

    def start(self) -> None:
        """Start the control process; see `ControlProcess.start`."""
        self._loop.start()

    def check(self) -> None:
        """Raise if the control process has ended.

        Raises:
            ControlProcessError: It has.
        """
        try:
            self._loop.check()
        except ControlProcessError as error:
            raise ControlProcessError(f'{error}: see above.') from error

    def accept(self, trajectory: JointTrajectory | None, stamp_ns: int) -> None:
        """Follow a trajectory, or brake to rest if it is None.

        Args:
            trajectory: What to follow.
            stamp_ns: System time of its start (ns); 0 means now.

        Raises:
            TrajectoryRejected: With the reason. What ran before still runs.
        """
        with self._lock:
            report = self.report
            if report.mode not in (FciMode.HOLDING, FciMode.MOVING):
                raise TrajectoryRejected(
                    f'the arm is {report.mode.value} ({report.reason or "wait for it"}); once the '
                    'cause is removed, call ~/recover'
                )
            if self.silence() > SILENT_AFTER:
                raise TrajectoryRejected(
                    f'the control process has been silent for {self.silence():.2f} s'
                )
            earliest_ns = self._now_ns(report) + _LEAD_NS
            if report.mode is FciMode.HOLDING and self._splice_ns > earliest_ns + _STEP_NS:
                # The clock was set back: nothing of before is still to come.
                self._splice_ns, self._rehearsal = 0, self._holding(report.desired_positions)
            splice_ns = self._splice_ns = max(self._splice_ns, earliest_ns)
            self._catch_up(report, splice_ns)
            if trajectory is None and splice_ns < self._rehearsal.end_ns:
                state = self._rehearsal.sample(splice_ns)
                trajectory = stop_ramp(state, self._limits.scaled(RAMP_SCALE))
                stamp_ns = splice_ns
            if trajectory is not None:
                self._follow(trajectory, stamp_ns, splice_ns)

    def recover(self, timeout: float) -> str:
        """Clear the robot's errors and take control again; wait for the outcome.

        Args:
            timeout: How long to wait (s).

        Returns:
            What still keeps us from controlling the arm; empty if nothing does.
        """
        before = self.report
        if before.mode is not FciMode.FAULT:
            return ''
        self._loop.send(Recover())
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            report = self.report
            if report.mode in (FciMode.HOLDING, FciMode.MOVING):
                return ''
            if report.recoveries > before.recoveries:
                return report.reason
            time.sleep(0.01)
        return f'no answer from the control process within {timeout:.0f} s'

    def close(self) -> None:
        """Brake to rest, hand the arm back and end the process."""
        # Not in control: nothing to brake. Ended already: nobody to tell.
        with contextlib.suppress(TrajectoryRejected, ControlProcessError):
            self.accept(None, 0)
        with contextlib.suppress(ControlProcessError):
            self._loop.send(Finish())
        self._loop.join(_FINISH_TIMEOUT)

    def _now_ns(self, report: Report) -> int:
        """The control loop's time now (ns), or a little later."""
        return report.clock_ns + round(min(self.silence(), self._longest_silence) * 1e9)

    def _holding(self, positions: Sequence[float]) -> Commands:
        return Commands(JointTrajectoryController(ARM_JOINTS, positions, self._limits))

    def _catch_up(self, report: Report, splice_ns: int) -> None:
        """Let the rehearsal be where the control process is."""
        if report.rejected > self._refused:
            self._refused, self._rehearsal = report.rejected, self._before
        if report.mode is FciMode.HOLDING and splice_ns >= self._rehearsal.end_ns:
            self._rehearsal = self._holding(report.desired_positions)

    def _follow(self, trajectory: JointTrajectory, stamp_ns: int, splice_ns: int) -> None:
        trial = self._rehearsal.followed_by(trajectory, stamp_ns, splice_ns, self._limits)
        check_commands(self._rehearsal, trial, splice_ns, self._limits)
        self._loop.send(Follow(trajectory, stamp_ns, splice_ns))
        self._before, self._rehearsal = self._rehearsal, trial


def _run(settings: FciSettings, commands: Connection, reports: Connection) -> None:
    # Imported in the process that needs it: the node has no use for libfranka.
    from dexwm_franka_bringup.fci_loop import run

    run(settings, commands, reports)
