"""The 1 kHz control loop of the Franka control interface, alone in a process.

libfranka's Python binding keeps the interpreter's lock while it waits for the robot, so next to
anything else in the same interpreter both would be late. `run` is the main function of the
process; it talks to the FCI node through two pipes (see `fci_messages`).
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import time
from dataclasses import replace
from multiprocessing.connection import Connection

import numpy as np
import pylibfranka as franka

from dexwm.control.joint_trajectory_controller import TrajectoryRejected
from dexwm.robot.franka_errors import describe_errors, describe_mode
from dexwm.robot.joints import ARM_JOINTS
from dexwm_franka_bringup.fci_messages import (
    FciMode,
    FciSettings,
    Finish,
    Follow,
    Recover,
    Report,
)
from dexwm_franka_bringup.real_time import lock_memory, take_priority
from dexwm_franka_bringup.robot_clock import RobotClock, loop_limits
from dexwm_franka_bringup.smooth_commands import PERIOD_NS, SmoothCommands

LIBFRANKA_ERRORS = (franka.FrankaException, RuntimeError)
"""What libfranka raises: its binding makes RuntimeErrors of all but its base class, and of what
the network library below it throws."""

_RETRY_PERIOD = 0.5
_FAULT_PERIOD = 0.01
_PRIORITY = 80
# Keeps a report within the pipe's atomic unit of 4096 bytes.
_REASON_LENGTH = 1000


class FciLoop:
    """Holds the arm, follows what it is told to follow, and never recovers by itself."""

    def __init__(self, settings: FciSettings, commands: Connection, reports: Connection) -> None:
        """Prepare; nothing is reached before `run`.

        Args:
            settings: How to reach and treat the robot.
            commands: Where commands come from. Its end ends the loop.
            reports: Where reports go; one that does not fit is dropped.
        """
        self._settings = settings
        self._commands = commands
        # Connection.poll would make a new selector every time.
        self._poller = select.poll()
        self._poller.register(commands.fileno(), select.POLLIN)
        self._reports = reports
        os.set_blocking(reports.fileno(), False)
        self._robot: franka.Robot | None = None
        self._motion = SmoothCommands(loop_limits(), np.zeros(len(ARM_JOINTS)))
        self._clock = RobotClock()
        self._report = Report(FciMode.CONNECTING, real_time_priority=take_priority(_PRIORITY))
        self._period_ns = round(1e9 / settings.report_rate)
        self._next_report_ns = 0
        self._finishing = False
        self._recover = False

    def run(self) -> None:
        """Control the arm until told to finish, or until the other end is gone."""
        problem = self._connect_patiently()
        while not self._finishing:
            if not problem:
                problem = self._control()
            if problem and not self._finishing:
                problem = self._wait_in_fault(problem)

    def _connect_patiently(self) -> str:
        end = time.monotonic() + self._settings.connect_timeout
        while True:
            problem = self._connect()
            self._send(replace(self._report, reason=problem))
            if not problem or time.monotonic() > end or self._finishing:
                return problem
            self._listen(_RETRY_PERIOD)

    def _connect(self) -> str:
        """Connect and configure; return why that failed, or nothing."""
        settings = self._settings
        realtime = (
            franka.RealtimeConfig.kEnforce
            if settings.realtime == 'enforce'
            else franka.RealtimeConfig.kIgnore
        )
        self._robot = None
        try:
            robot = franka.Robot(settings.robot_ip, realtime)
            arm = settings.arm
            robot.set_collision_behavior(
                arm.contact_torques.tolist(),
                arm.collision_torques.tolist(),
                arm.contact_forces.tolist(),
                arm.collision_forces.tolist(),
            )
            # Matrices by columns.
            inertia = arm.inertia.ravel(order='F').tolist()
            robot.set_load(arm.mass, arm.center_of_mass.tolist(), inertia)
            robot.set_joint_impedance(list(settings.joint_stiffness))
        except LIBFRANKA_ERRORS as error:
            return f'no connection to the robot at {settings.robot_ip}: {error}'
        self._robot = robot
        return ''

    def _control(self) -> str:
        """Control the arm; return what ended it, nothing if we did."""
        assert self._robot is not None
        try:
            state = self._robot.read_once()
            if state.robot_mode != franka.RobotMode.Idle:
                return _describe(state, f'the robot is in mode {state.robot_mode.name}')
            control = self._robot.start_joint_position_control(
                franka.ControllerMode.JointImpedance
            )
            state, _ = control.readOnce()
            self._motion.hold(np.array(state.q_d))
            self._clock.set(self._time_ns(state))
            # A collection in mid-motion would cost cycles.
            gc.collect()
            gc.disable()
            self._cycle(control, state)
        except LIBFRANKA_ERRORS as error:
            return self._explain(error)
        finally:
            gc.enable()
        return ''

    def _cycle(self, control: franka.ActiveControlBase, state: franka.RobotState) -> None:
        """Answer the robot's states until finished; libfranka's exceptions end it, too."""
        motion, clock = self._motion, self._clock
        now_ns, finished, skipped = clock.now_ns, False, 0
        ros_ns = now_ns
        cycles, missed = self._report.cycles, self._report.missed_cycles
        while not finished:
            finished = self._finishing and not motion.is_active(now_ns)
            command = franka.JointPositions(motion.command(now_ns, skipped).tolist())
            command.motion_finished = finished
            control.writeOnce(command)
            cycles += 1
            # From here to the next state there is time for the rest.
            if time.monotonic_ns() >= self._next_report_ns:
                active = motion.is_active(now_ns)
                self._report = replace(
                    self._report,
                    mode=FciMode.MOVING if active else FciMode.HOLDING,
                    reason='',
                    clock_ns=now_ns,
                    cycles=cycles,
                    missed_cycles=missed,
                )
                self._send_state(state, ros_ns)
            self._listen(0.0)
            if finished:
                return
            state, passed = control.readOnce()
            passed_ns = round(passed.to_sec() * 1e9)
            skipped = max(0, round(passed_ns / PERIOD_NS) - 1)
            missed += skipped
            ros_ns = self._time_ns(state)
            now_ns = clock.advance(passed_ns, ros_ns)
            if not motion.is_active(now_ns):
                motion.finish(now_ns)
                clock.set(ros_ns)
                now_ns = clock.now_ns

    def _wait_in_fault(self, problem: str) -> str:
        """Report the fault and the state until told to recover; return what is wrong then."""
        self._recover = False
        while not (self._finishing or self._recover):
            self._report = replace(
                self._report, mode=FciMode.FAULT, reason=problem[:_REASON_LENGTH]
            )
            if self._robot is None:
                self._send(self._report)
            else:
                try:
                    state = self._robot.read_once()
                    self._send_state(state, self._time_ns(state))
                except LIBFRANKA_ERRORS as error:
                    self._robot = None
                    problem = f'{problem}; then the connection was lost: {error}'
            self._listen(_FAULT_PERIOD)
        return '' if self._finishing else self._try_to_recover()

    def _try_to_recover(self) -> str:
        self._report = replace(self._report, recoveries=self._report.recoveries + 1)
        if self._robot is None:
            problem = self._connect()
            if problem:
                return problem
        assert self._robot is not None
        try:
            self._robot.automatic_error_recovery()
        except LIBFRANKA_ERRORS as error:
            return f'the error recovery failed: {self._explain(error)}'
        return ''

    def _explain(self, error: Exception) -> str:
        """Ask the robot for the reason of an exception."""
        assert self._robot is not None
        try:
            return _describe(self._robot.read_once(), str(error))
        except LIBFRANKA_ERRORS as second:
            self._robot = None
            return f'{error}; then the connection was lost: {second}'

    def _listen(self, timeout: float) -> None:
        """Take the commands that are there, waiting for the first at most this long (s)."""
        try:
            while self._poller.poll(timeout * 1e3):
                self._obey(self._commands.recv())
                timeout = 0.0
        except (EOFError, OSError):
            self._finishing = True

    def _obey(self, command: Follow | Recover | Finish) -> None:
        if isinstance(command, Finish):
            self._finishing = True
        elif isinstance(command, Recover):
            self._recover = True
        elif self._report.mode in (FciMode.HOLDING, FciMode.MOVING):
            try:
                self._motion.accept(command.trajectory, command.stamp_ns, command.splice_ns)
            except TrajectoryRejected as error:
                self._report = replace(
                    self._report,
                    rejected=self._report.rejected + 1,
                    last_rejection=str(error)[:_REASON_LENGTH],
                )

    def _time_ns(self, state: franka.RobotState) -> int:
        """ROS time of a state that has just come (ns)."""
        return round(state.time.to_sec() * 1e9) if self._settings.robot_time else time.time_ns()

    def _send_state(self, state: franka.RobotState, ros_ns: int) -> None:
        self._next_report_ns = time.monotonic_ns() + self._period_ns
        self._send(
            replace(
                self._report,
                stamp_ns=ros_ns,
                positions=tuple(map(float, state.q)),
                velocities=tuple(map(float, state.dq)),
                efforts=tuple(map(float, state.tau_J)),
                desired_positions=tuple(map(float, state.q_d)),
                load=float(state.m_load),
                robot_mode=state.robot_mode.name,
                success_rate=state.control_command_success_rate,
            )
        )

    def _send(self, report: Report) -> None:
        """Send a report, smaller than the pipe's atomic unit: it goes as a whole or not at all."""
        self._report = report
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            self._reports.send(report)


def run(settings: FciSettings, commands: Connection, reports: Connection) -> None:
    """Main function of the control process."""
    # Ctrl-C reaches the whole process group; when to end is the node's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lock_memory()
    FciLoop(settings, commands, reports).run()


def _describe(state: franka.RobotState, problem: str) -> str:
    current = _names(state.current_errors)
    # Those of the last motion are mostly the same: not to be told twice.
    last = [name for name in _names(state.last_motion_errors) if name not in current]
    return '; '.join(
        filter(
            None,
            (
                problem,
                describe_mode(state.robot_mode.name),
                describe_errors(current),
                describe_errors(last),
            ),
        )
    )


def _names(errors: franka.Errors) -> list[str]:
    return [
        name for name in dir(errors) if not name.startswith('_') and getattr(errors, name) is True
    ]
