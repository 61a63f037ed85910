"""The life of a run: nodes started in order, watched, and stopped in reverse."""

import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dexwm_planner.graph.graph import NodeSpec, OnExit
from dexwm_planner.graph.node_process import NodeProcess, node_command
from dexwm_planner.graph.orphan_guard import OrphanGuard
from dexwm_planner.graph.stop_requests import StopRequests
from dexwm_planner.graph.terminal import LogEcho, Terminal

EXIT_NODE_DIED = 4

# A node gets each signal in turn, and this many seconds to end after it.
_STOP_SIGNALS = ((signal.SIGINT, 5.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0))
# Seconds that the children of an ended node get to end as well.
_CHILDREN_PATIENCE = 1.0
_PERIOD = 0.1
_LAST_LINES = 20


class Run:
    """Runs nodes until the run ends, and stops them.

    Attributes:
        exit_code: Exit status of the run, as `dexwm_planner.runner` describes it.
        reason: Why the run ended.
        endings: By node name, its exit code (minus the signal that ended it) and the signals
            that it was sent.
    """

    def __init__(
        self, directory: Path, environment: Mapping[str, str], terminal: Terminal
    ) -> None:
        """Prepares a run with its files in `directory` and `environment` for its nodes."""
        self.exit_code = 0
        self.reason = ''
        self.endings: dict[str, dict[str, Any]] = {}
        self._directory = directory
        self._environment = environment
        self._terminal = terminal
        self._guard = OrphanGuard()
        self._requests = StopRequests()
        self._nodes: list[tuple[NodeProcess, LogEcho]] = []

    def run(self, specs: Sequence[NodeSpec]) -> None:
        """Starts the nodes in order, waits for the end of the run and stops them in reverse.

        Call it from a process with one thread only (see `NodeProcess`).

        Raises:
            ExecutableNotFoundError: A node is not installed; none has been started.
        """
        commands = [node_command(spec, self._directory) for spec in specs]
        with self._requests, self._guard:
            try:
                for spec, command in zip(specs, commands, strict=True):
                    self._start(spec, command)
                while not self._is_over():
                    self._requests.wait(_PERIOD)
            finally:
                while self._nodes:
                    self._stop(*self._nodes[-1])
                    self._bury(*self._nodes.pop())

    def _start(self, spec: NodeSpec, command: list[str]) -> None:
        log = self._directory / f'{spec.name}.log'
        node = NodeProcess(spec, command, self._environment, log)
        echo = LogEcho(spec.name, log, self._terminal, spec.on_exit is OnExit.FINISH)
        self._nodes.append((node, echo))
        self._guard.add(node.group)

    def _is_over(self) -> bool:
        """Whether the run has to end, and with what; buries nodes that ended on their own."""
        if self._requests.first is not None:
            self.reason = f'stopped by {self._requests.first.name}'
            self.exit_code = 128 + self._requests.first
            return True
        over = False
        for node, echo in self._nodes.copy():
            echo.pump()
            if not node.exited:
                continue
            self._nodes.remove((node, echo))
            code = self._bury(node, echo)
            how = f'{node.spec.name} {_describe(code)}'
            if node.spec.on_exit is OnExit.REPORT:
                self._terminal.say('run', f'{how}; the run goes on without it', 'WARN')
            elif not over:
                over = True
                self.reason = how
                if node.spec.on_exit is OnExit.FINISH:
                    self.exit_code = code if code >= 0 else 128 - code
                else:
                    self.exit_code = EXIT_NODE_DIED
                    self._show_end(node.log)
        return over

    def _stop(self, node: NodeProcess, echo: LogEcho) -> None:
        for number, patience in _STOP_SIGNALS:
            last = number == signal.SIGKILL
            if node.exited:
                return
            if self._requests.urgent and not last:
                continue
            node.send(number)
            deadline = time.monotonic() + patience
            while not node.exited and time.monotonic() < deadline:
                if self._requests.urgent and not last:
                    break
                self._requests.wait(_PERIOD)
                echo.pump()
            if not node.exited:
                self._terminal.say('run', f'{node.spec.name} goes on after {number.name}', 'WARN')

    def _bury(self, node: NodeProcess, echo: LogEcho) -> int:
        deadline = time.monotonic() + _CHILDREN_PATIENCE
        while (children := node.children_left()) and time.monotonic() < deadline:
            time.sleep(0.02)
        if children:
            self._terminal.say(
                'run', f'{node.spec.name} left processes {children} behind: killed', 'WARN'
            )
        code = node.bury()
        self._guard.remove(node.group)
        echo.close()
        self.endings[node.spec.name] = {
            'exit_code': code,
            'signals_sent': [number.name for number in node.signals],
        }
        return code

    def _show_end(self, log: Path) -> None:
        self._terminal.say('run', f'last lines of {log}:')
        for line in log.read_text(errors='replace').splitlines()[-_LAST_LINES:]:
            self._terminal.say('', line)


def _describe(code: int) -> str:
    if code >= 0:
        return f'ended with exit code {code}'
    return f'was killed by {signal.Signals(-code).name}'
