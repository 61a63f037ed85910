"""Kills the process groups of a run whose runner has died.

The guard is a program of its own (this file, with nothing but the standard library). The runner
holds the other end of its standard input and writes `+<group>` for every process group that it
starts and `-<group>` for every one that has ended. When the runner dies, even by SIGKILL,
standard input ends, and the guard kills the groups that are left. It is in a process group of
its own: what kills the runner's (Ctrl-C, `kill -9 -- -<group>`) does not reach it.

A process that a node moves into another process group (setsid) is not found.
"""

import contextlib
import os
import signal
import subprocess
import sys
from types import TracebackType
from typing import Self


class OrphanGuard:
    """The runner's end of the guard: tells it which process groups there are."""

    def __enter__(self) -> Self:
        # -I -S: no site packages, so that it is there at once.
        self._process = subprocess.Popen(
            [sys.executable, '-I', '-S', __file__],
            stdin=subprocess.PIPE,
            bufsize=0,
            process_group=0,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def add(self, group: int) -> None:
        """Has the group killed if this process dies.

        Raises:
            BrokenPipeError: The guard is dead.
        """
        self._tell(f'+{group}\n')

    def remove(self, group: int) -> None:
        """Forgets a group that has ended; its id may soon be another's."""
        # With a dead guard there is nothing to forget.
        with contextlib.suppress(BrokenPipeError):
            self._tell(f'-{group}\n')

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())


def main() -> None:
    """Runs the guard until standard input ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == '+':
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == '__main__':
    main()
