"""The hand behind its control process, for the node."""

from __future__ import annotations

import contextlib
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


class HandProcess:
    """Starts the control process, passes commands on, and hands out its reports."""

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

    @property
    def report(self) -> HandReport:
        """The newest report."""
        return self._loop.report

    @property
    def pid(self) -> int | None:
        """Process id of the control process; None before the start."""
        return self._loop.pid

    def silence(self) -> float:
        """Age of the newest report (s)."""
        return self._loop.silence()

    def start(self) -> None:
        """Start the control process; see `ControlProcess.start`."""
        self._loop.start()

    def check(self) -> None:
        """Raise if the control process has ended; the servo is then switched off from here.

        Raises:
            ControlProcessError: It has.
        """
        try:
            self._loop.check()
        except ControlProcessError as error:
            raise ControlProcessError(f'{error}; {self._switch_off_in_its_place()}.') from error

    def send(self, command: Command) -> None:
        """Pass a command on.

        Raises:
            ControlProcessError: The process has ended.
        """
        self._loop.send(command)

    def switch_off(self, timeout: float) -> str:
        """Switch the servo off and wait; return what stands in the way, or nothing.

        Args:
            timeout: How long to wait (s).
        """
        self.send(SwitchOff())
        end = time.monotonic() + timeout
        while self.report.mode in POWERED:
            if time.monotonic() > end:
                return f'no answer from the control process within {timeout:g} s'
            time.sleep(_POLL)
        return ''

    def recover(self, timeout: float) -> str:
        """Switch the servo on where the fingers are; return what stands in the way, or nothing.

        Args:
            timeout: How long to wait (s).
        """
        before = self.report
        if before.mode in POWERED:
            return ''
        self.send(SwitchOn())
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            report = self.report
            if report.mode in POWERED:
                return ''
            if report.starts > before.starts and report.mode is HandMode.FAULT:
                return report.reason
            time.sleep(_POLL)
        return f'not on within {timeout:g} s: {self.report.reason or "no answer"}'

    def close(self) -> None:
        """Switch the servo off and end the process."""
        # Ended already: nobody to tell.
        with contextlib.suppress(ControlProcessError):
            self.send(Finish())
        if not self._loop.join(_FINISH_TIMEOUT):
            self._switch_off_in_its_place()

    def _switch_off_in_its_place(self) -> str:
        """What a process that was killed could not do; return how that went."""
        settings = self._settings
        try:
            with HandBus.open(settings.interface, settings.channel) as bus:
                bus.send(servo_off(settings.device_id))
        except BusError as error:
            return f'THE SERVO MAY BE ON: {error}'
        return 'the servo was switched off from the node'


def _run(settings: HandSettings, commands: Connection, reports: Connection) -> None:
    # Imported in the process that needs it.
    from allegro_driver.hand_loop import run

    run(settings, commands, reports)
