"""The hand behind its control process, for the node."""

from __future__ import annotations

import contextlib
import multiprocessing
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

_FINISH_TIMEOUT = 5.0
_POLL = 0.005


class HandProcessError(RuntimeError):
    """The control process has ended."""


class HandProcess:
    """Starts the control process, passes commands on, and hands out its reports."""

    def __init__(self, settings: HandSettings, on_report: Callable[[HandReport], None]) -> None:
        """Prepare; `start` starts the process.

        Args:
            settings: How to reach and treat the hand.
            on_report: Called with each report, from a thread of its own.
        """
        self._settings = settings
        self._on_report = on_report
        context = multiprocessing.get_context('spawn')
        command_source, self._commands = context.Pipe(duplex=False)
        self._reports, report_sink = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_run,
            args=(settings, command_source, report_sink),
            name='hand control loop',
            daemon=True,
        )
        self._theirs: tuple[Connection, ...] = (command_source, report_sink)
        self._report = HandReport(HandMode.CONNECTING)
        self._reported_at = time.monotonic()
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, name='reports', daemon=True)

    @property
    def report(self) -> HandReport:
        """The newest report."""
        return self._report

    @property
    def pid(self) -> int | None:
        """Process id of the control process; None before the start."""
        return self._process.pid

    def silence(self) -> float:
        """Age of the newest report (s)."""
        return time.monotonic() - self._reported_at

    def start(self) -> None:
        """Start the control process, from the thread that lives as long as this process.

        The kernel's signal at a parent's death is one at the death of the thread that started.
        """
        self._process.start()
        # Its ends are its own: when it dies, ours must see the end of the pipe, and vice versa.
        for connection in self._theirs:
            connection.close()
        self._reader.start()

    def check(self) -> None:
        """Raise if the control process has ended; the servo is then switched off from here.

        Raises:
            HandProcessError: It has.
        """
        if self._reader.is_alive():
            return
        self._process.join(1.0)
        raise HandProcessError(
            f'The control process ended with exit code {self._process.exitcode}; '
            f'{self._switch_off_in_its_place()}.'
        )

    def send(self, command: Command) -> None:
        """Pass a command on.

        Raises:
            HandProcessError: The process has ended.
        """
        try:
            with self._lock:
                self._commands.send(command)
        except OSError as error:
            raise HandProcessError('The control process has ended.') from error

    def switch_off(self, timeout: float) -> str:
        """Switch the servo off and wait; return what stands in the way, or nothing.

        Args:
            timeout: How long to wait (s).
        """
        self.send(SwitchOff())
        end = time.monotonic() + timeout
        while self._report.mode in POWERED:
            if time.monotonic() > end:
                return f'no answer from the control process within {timeout:g} s'
            time.sleep(_POLL)
        return ''

    def recover(self, timeout: float) -> str:
        """Switch the servo on where the fingers are; return what stands in the way, or nothing.

        Args:
            timeout: How long to wait (s).
        """
        before = self._report
        if before.mode in POWERED:
            return ''
        self.send(SwitchOn())
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            report = self._report
            if report.mode in POWERED:
                return ''
            if report.starts > before.starts and report.mode is HandMode.FAULT:
                return report.reason
            time.sleep(_POLL)
        return f'not on within {timeout:g} s: {self._report.reason or "no answer"}'

    def close(self) -> None:
        """Switch the servo off and end the process."""
        # Ended already: nobody to tell.
        with contextlib.suppress(HandProcessError):
            self.send(Finish())
        self._process.join(_FINISH_TIMEOUT)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        if self._process.exitcode:
            self._switch_off_in_its_place()
        self._reader.join()

    def _switch_off_in_its_place(self) -> str:
        """What a process that was killed could not do; return how that went."""
        settings = self._settings
        try:
            with HandBus.open(settings.interface, settings.channel) as bus:
                bus.send(servo_off(settings.device_id))
        except BusError as error:
            return f'THE SERVO MAY BE ON: {error}'
        return 'the servo was switched off from the node'

    def _read(self) -> None:
        try:
            while True:
                report = self._reports.recv()
                self._report, self._reported_at = report, time.monotonic()
                self._on_report(report)
        except (EOFError, OSError):
            pass


def _run(settings: HandSettings, commands: Connection, reports: Connection) -> None:
    # Imported in the process that needs it.
    from allegro_driver.control_process import run

    run(settings, commands, reports)
