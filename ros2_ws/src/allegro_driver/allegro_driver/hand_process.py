"""The hand behind its control process, for the node."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from allegro_driver.bus import BusError, HandBus
from allegro_driver.messages import (
    POWERED,
    Command,
    Finish,
    HandMode,
    HandReport,
    HandSettings,
    SwitchOff,
    SwitchOn,
)
from allegro_driver.protocol import servo_off
from dexwm_franka_bringup.control_process import ControlProcess, ControlProcessError

_FINISH_TIMEOUT = 5.0
_POLL = 0.005
# How late a report may be before its sender counts as hung (s).
_LATE = 0.5
_OFF_RETRY_PERIOD = 0.5
# Commands that wait while the pipe to the process is full.
_WAITING = 200


class ControlProcessHangs(RuntimeError):
    """The control process takes no commands; the message says what was done and what to do."""


class HandProcess:
    """Starts the control process, passes commands on, and hands out its reports.

    While that process hangs, the hand keeps the last torques: `watch` then switches the servo off
    past it. Nothing here waits for the process but `switch_off`, `recover` and `close`, and they
    for a limited time.
    """

    def __init__(self, settings: HandSettings, on_report: Callable[[HandReport], None]) -> None:
        """Prepare; `start` starts the process.

        Args:
            settings: How to reach and treat the hand.
            on_report: Called with each report, from a thread of its own.
        """
        self._settings = settings
        self._loop: ControlProcess[HandSettings, Command, HandReport] = ControlProcess(
            'hand control loop', _run, settings, HandReport(HandMode.CONNECTING), on_report
        )
        # With power on the motors it reports the hand's positions, or that they stay away.
        self._longest_silence = max(settings.pose_timeout, 1.0 / settings.report_rate) + _LATE
        self._hung = ''
        self._is_off = False
        self._next_off = 0.0
        # A process that hangs does not empty its pipe: only this thread may wait for that.
        self._outbox: queue.Queue[Command | None] = queue.Queue(_WAITING)
        self._sender = threading.Thread(target=self._pass_on, name='commands', daemon=True)

    @property
    def report(self) -> HandReport:
        """The newest report."""
        return self._loop.report

    @property
    def pid(self) -> int | None:
        """Process id of the control process; None before the start."""
        return self._loop.pid

    @property
    def hung(self) -> str:
        """That the process hangs, what was done, and what to do; empty if all is well."""
        return self._hung

    def start(self) -> None:
        """Start the control process; see `ControlProcess.start`."""
        self._loop.start()
        self._sender.start()

    def check(self) -> None:
        """Raise if the control process has ended; the servo is then switched off from here.

        Raises:
            ControlProcessError: It has.
        """
        try:
            self._loop.check()
        except ControlProcessError as error:
            _, outcome = self._switch_off_in_its_place()
            raise ControlProcessError(f'{error}; {outcome}.') from error

    def watch(self) -> None:
        """Switch the servo off from here if the process hangs with power on the motors.

        To be called often. While the bus does not take that, it is tried again.
        """
        if not self._is_silent():
            self._hung, self._is_off = '', False
            return
        now = time.monotonic()
        if self._is_off or now < self._next_off:
            return
        self._next_off = now + _OFF_RETRY_PERIOD
        self._is_off, outcome = self._switch_off_in_its_place()
        problem = f'no word from the control process for {self._longest_silence:g} s'
        if not self._hung:
            # Should it go on, it may not think that it still holds the fingers.
            self._put(SwitchOff(f'{problem}; call ~/recover to switch on'))
        self._hung = f'{problem}; {outcome}. Start the driver again'

    def send(self, command: Command) -> None:
        """Pass a command on; does not wait.

        Raises:
            ControlProcessError: The process has ended.
            ControlProcessHangs: It takes no commands.
        """
        if self._loop.ended:
            raise ControlProcessError('The control process has ended')
        if self._hung or not self._put(command):
            raise ControlProcessHangs(self._hung or 'the control process takes no commands')

    def switch_off(self, timeout: float) -> tuple[bool, str]:
        """Switch the servo off, past the process if that does not answer.

        Args:
            timeout: How long to wait for it (s).

        Returns:
            Whether the servo is off, and how that went.
        """
        self._put(SwitchOff())
        end = time.monotonic() + timeout
        while self.report.mode in POWERED:
            if self._hung or time.monotonic() > end:
                is_off, outcome = self._switch_off_in_its_place()
                return is_off, f'The control process does not answer; {outcome}.'
            time.sleep(_POLL)
        return True, 'The servo is off; ~/recover switches it on.'

    def recover(self, timeout: float) -> str:
        """Switch the servo on where the fingers are; return what stands in the way, or nothing.

        Args:
            timeout: How long to wait (s).
        """
        if self._hung:
            return self._hung
        before = self.report
        if before.mode in POWERED:
            return ''
        try:
            self.send(SwitchOn())
        except ControlProcessHangs as error:
            return str(error)
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            report = self.report
            if report.mode in POWERED:
                return ''
            if report.starts > before.starts and report.mode is HandMode.FAULT:
                return report.reason
            time.sleep(_POLL)
        return f'not on within {timeout:g} s: {self.report.reason or "no answer"}'

    def close(self) -> str:
        """Switch the servo off and end the process; return how it went if not as it should."""
        self._put(Finish())
        in_order = self._loop.join(_FINISH_TIMEOUT)
        # The process is gone: the thread waits for nothing but a command.
        self._put(None)
        self._sender.join()
        if in_order:
            return ''
        _, outcome = self._switch_off_in_its_place()
        return f'The control process did not end in order; {outcome}.'

    def _is_silent(self) -> bool:
        return self.report.mode in POWERED and self._loop.silence() > self._longest_silence

    def _put(self, command: Command | None) -> bool:
        """Have a command passed on; return whether there was room for it."""
        with contextlib.suppress(queue.Full):
            self._outbox.put_nowait(command)
            return True
        return False

    def _pass_on(self) -> None:
        # Ended: `check` tells.
        with contextlib.suppress(ControlProcessError):
            while (command := self._outbox.get()) is not None:
                self._loop.send(command)

    def _switch_off_in_its_place(self) -> tuple[bool, str]:
        """Send what a process that was killed, or hangs, cannot.

        Returns:
            Whether the bus took it, and how that went.
        """
        settings = self._settings
        try:
            with HandBus.open(settings.interface, settings.channel) as bus:
                bus.send(servo_off(settings.device_id))
        except BusError as error:
            return False, f'THE SERVO MAY BE ON: {error}'
        return True, 'the servo was switched off from the node'


def _run(settings: HandSettings, commands: Connection, reports: Connection) -> None:
    # Imported in the process that needs it.
    from allegro_driver.hand_loop import run

    run(settings, commands, reports)
