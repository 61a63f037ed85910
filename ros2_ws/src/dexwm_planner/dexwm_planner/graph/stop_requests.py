"""Signals by which a run is asked to stop, noted and waited for."""

import os
import select
import signal
import time
from types import FrameType, TracebackType
from typing import Self

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Tools such as timeout(1) send a signal to the process and to its group: the same request.
_SAME_REQUEST = 0.5


class StopRequests:
    """While it is entered, notes SIGINT, SIGTERM and SIGHUP instead of dying of them.

    Attributes:
        first: The first such signal, or None.
        urgent: Whether another one came later: whoever asks has lost patience.
    """

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        self.urgent = False
        self._first_time = 0.0

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._former_wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._former = {number: signal.signal(number, self._note) for number in _STOPPING}
        # A handler that does nothing, so that the end of a child ends a wait.
        self._former[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_wakeup)
        os.close(self._reader)
        os.close(self._writer)

    def wait(self, seconds: float) -> None:
        """Waits for so long, less if a request comes or a child process ends."""
        if select.select([self._reader], [], [], seconds)[0]:
            os.read(self._reader, 4096)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first, self._first_time = signal.Signals(number), now
        elif now > self._first_time + _SAME_REQUEST:
            self.urgent = True
