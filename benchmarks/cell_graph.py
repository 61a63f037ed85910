"""The graph `cell` as a user starts it, for as long as something is measured on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.measurement import BenchmarkError
from dexwm_planner.graph.domain import DomainLease
from dexwm_planner.graph.orphan_guard import OrphanGuard
from dexwm_planner.runner import run_environment

_STOP_TIMEOUT = 40.0
_LAST_LINES = 15
_NAME = '__node:='
_TICKS = os.sysconf('SC_CLK_TCK')


class CellGraph:
    """Runs `python -m dexwm_planner.runner cell` in a ROS domain of its own.

    Attributes:
        domain_id: The ROS domain.
    """

    domain_id: int

    def __init__(self, arguments: Mapping[str, str], directory: Path) -> None:
        """Prepares; entering the context starts.

        Args:
            arguments: Arguments of the graph by name.
            directory: Where the run's directory is made.
        """
        self._arguments = {**arguments, 'runs_dir': str(directory)}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        stack = self._stack
        self.domain_id = stack.enter_context(DomainLease()).domain_id
        self._output = stack.enter_context(tempfile.TemporaryFile('w+'))
        guard = stack.enter_context(OrphanGuard())
        command = [sys.executable, '-m', 'dexwm_planner.runner', 'cell']
        command += [f'domain_id:={self.domain_id}']
        command += [f'{name}:={value}' for name, value in self._arguments.items()]
        environment = run_environment(self.domain_id)
        # What measures is in the same domain, and on this machine only.
        os.environ.update(environment)
        self._runner = subprocess.Popen(
            command,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=environment,
            process_group=0,
        )
        guard.add(self._runner.pid)
        return self

    def check(self) -> None:
        """Raises BenchmarkError if the graph does not run any more, with its last words."""
        if self._runner.poll() is not None:
            self._output.seek(0)
            lines = self._output.read().splitlines()[-_LAST_LINES:]
            raise BenchmarkError('\n'.join(['the graph `cell` ended:', *lines]))

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time used so far by each node and its children (s), by node name."""
        names: dict[int, str] = {}
        seconds: dict[int, float] = {}
        for entry in Path('/proc').glob('[0-9]*'):
            try:
                # The command name is in parentheses; the fields are those of proc_pid_stat(5).
                fields = (entry / 'stat').read_text().rpartition(')')[2].split()
                words = (entry / 'cmdline').read_bytes().decode().split('\0')
            except OSError:
                continue
            parent, group, times = int(fields[1]), int(fields[2]), fields[11:13]
            seconds[group] = seconds.get(group, 0.0) + sum(map(int, times)) / _TICKS
            own = [word.removeprefix(_NAME) for word in words if word.startswith(_NAME)]
            if parent == self._runner.pid and own:
                names[group] = own[0]
        return {name: seconds[group] for group, name in names.items()}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:
            self._runner.send_signal(signal.SIGINT)
            try:
                self._runner.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._runner.kill()
                self._runner.wait()
