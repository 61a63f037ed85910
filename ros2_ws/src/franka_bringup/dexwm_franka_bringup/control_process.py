"""A control loop alone in a process, as its node sees it."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

SettingsT = TypeVar('SettingsT')
CommandT = TypeVar('CommandT')
ReportT = TypeVar('ReportT')


class ControlProcessError(RuntimeError):
    """The control process has ended."""


class ControlProcess(Generic[SettingsT, CommandT, ReportT]):
    """Starts a process, passes commands on to its loop, and keeps the newest of its reports."""

    def __init__(
        self,
        name: str,
        run: Callable[[SettingsT, Connection, Connection], None],
        settings: SettingsT,
        first_report: ReportT,
        on_report: Callable[[ReportT], None],
    ) -> None:
        """Prepare; `start` starts the process.

        Args:
            name: What the loop is.
            run: The process' main function: gets settings, a pipe that commands come from, and
                one that reports go to. It ends when told to, or with the pipe of commands.
            settings: For `run`.
            first_report: What is reported before the first report.
            on_report: Called with each report, from a thread of its own.
        """
        self._on_report = on_report
        context = multiprocessing.get_context('spawn')
        command_source, self._commands = context.Pipe(duplex=False)
        self._reports, report_sink = context.Pipe(duplex=False)
        self._process = context.Process(
            target=run, args=(settings, command_source, report_sink), name=name, daemon=True
        )
        self._theirs: tuple[Connection, ...] = (command_source, report_sink)
        self._report = first_report
        self._reported_at = time.monotonic()
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, name='reports', daemon=True)

    @property
    def report(self) -> ReportT:
        """The newest report."""
        return self._report

    @property
    def pid(self) -> int | None:
        """Process id; None before the start."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether no report can come any more."""
        return not self._reader.is_alive()

    def silence(self) -> float:
        """Age of the newest report (s)."""
        return time.monotonic() - self._reported_at

    def start(self) -> None:
        """Start the process, from the thread that lives as long as this process.

        The kernel's signal at a parent's death is one at the death of the thread that started.
        """
        self._process.start()
        # Its ends are its own: when it dies, ours must see the end of the pipe, and vice versa.
        for connection in self._theirs:
            connection.close()
        self._reader.start()

    def check(self) -> None:
        """Raise if the process has ended.

        Raises:
            ControlProcessError: It has.
        """
        if not self.ended:
            return
        self._process.join(1.0)
        raise ControlProcessError(
            f'The control process ended with exit code {self._process.exitcode}'
        )

    def send(self, command: CommandT) -> None:
        """Pass a command on.

        Raises:
            ControlProcessError: The process has ended.
        """
        try:
            with self._lock:
                self._commands.send(command)
        except OSError as error:
            raise ControlProcessError('The control process has ended') from error

    def join(self, timeout: float) -> bool:
        """Wait for the end, which the loop was told to come to, and kill what does not end.

        Args:
            timeout: How long to wait before (s).

        Returns:
            Whether it ended in order.
        """
        self._process.join(timeout)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._reader.join()
        return self._process.exitcode == 0

    def _read(self) -> None:
        try:
            while True:
                report = self._reports.recv()
                # In this order: a new report never has the age of the one before.
                self._reported_at, self._report = time.monotonic(), report
                self._on_report(report)
        except (EOFError, OSError):
            pass
