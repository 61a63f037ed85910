"""Simulated time in step with a clock: the one on the wall, or a simulated robot's."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable

RTF_WINDOW_NS = 1_000_000_000
"""Span over which the real-time factor is measured (ns)."""

# Two clocks read further apart than this (the thread was descheduled) are read again later.
_CLOCK_PAIR_NS = 50_000


class Pacer:
    """Says how many steps are due, and when each of them is.

    A short hiccup is caught up with; what exceeds `max_backlog_ns` is dropped, so that the
    simulation never races for long. Times are of any clock that does not jump.
    """

    def __init__(self, step_ns: int, max_backlog_ns: int) -> None:
        """Prepare; call `start` before `due`.

        Args:
            step_ns: Length of a step (ns).
            max_backlog_ns: What may be caught up with (ns), at least one step.

        Raises:
            ValueError: If a length is not positive, or the backlog is shorter than a step.
        """
        if not 0 < step_ns <= max_backlog_ns:
            raise ValueError(
                f'Need 0 < step ({step_ns} ns) <= largest backlog ({max_backlog_ns} ns).'
            )
        self._step_ns = step_ns
        self._max_backlog_ns = max_backlog_ns
        self._time_ns = 0
        self._dropped_ns = 0
        self._history: collections.deque[tuple[int, int]] = collections.deque()

    @property
    def time_ns(self) -> int:
        """Time that the simulation stands for (ns), after the steps taken so far."""
        return self._time_ns

    @property
    def dropped_ns(self) -> int:
        """Time that was skipped since the start (ns)."""
        return self._dropped_ns

    def start(self, now_ns: int) -> None:
        """Begin here: no step is due before one step's time has passed."""
        self._time_ns = now_ns
        self._dropped_ns = 0
        self._history.clear()
        self._history.append((now_ns, 0))

    def due(self, now_ns: int) -> int:
        """Return the number of steps due at `now_ns`; call `advance` after each of them."""
        backlog = now_ns - self._time_ns
        if backlog > self._max_backlog_ns:
            skipped = (backlog - self._max_backlog_ns) // self._step_ns * self._step_ns
            self._time_ns += skipped
            self._dropped_ns += skipped
            backlog -= skipped
        self._remember(now_ns)
        return max(0, backlog // self._step_ns)

    def advance(self) -> None:
        """Count one step as taken."""
        self._time_ns += self._step_ns

    def wait_ns(self, now_ns: int) -> int:
        """Time until the next step is due (ns), zero if it is due already."""
        return max(0, self._time_ns + self._step_ns - now_ns)

    def real_time_factor(self, now_ns: int) -> float:
        """Time simulated over time passed during the last second, 1 at the very start."""
        then_ns, dropped_then_ns = self._history[0]
        passed = now_ns - then_ns
        if passed <= 0:
            return 1.0
        # What is due but not yet done counts as lost only when it exceeds what may be caught up.
        late = max(0, now_ns - self._time_ns - self._max_backlog_ns)
        return max(0.0, 1.0 - (self._dropped_ns - dropped_then_ns + late) / passed)

    def _remember(self, now_ns: int) -> None:
        if now_ns - self._history[-1][0] >= RTF_WINDOW_NS // 20:
            self._history.append((now_ns, self._dropped_ns))
        while len(self._history) > 1 and now_ns - self._history[1][0] >= RTF_WINDOW_NS:
            self._history.popleft()


class RealTimeLoop:
    """A thread that takes a step whenever one is due.

    Runs until `stop`, or until the step raises: the error is kept for `check`.
    """

    def __init__(
        self,
        step: Callable[[int], None],
        step_ns: int,
        max_backlog_ns: int,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """Prepare; `start` starts the thread.

        Args:
            step: Called for each step with the time (ns) that the state before it stands for:
                system time, or that of `clock`.
            step_ns: Length of a step (ns).
            max_backlog_ns: What may be caught up with (ns); see `Pacer`.
            clock: A time that does not jump (ns) to keep step with; None: the system's.
        """
        self._step = step
        self._clock = clock or time.monotonic_ns
        self._follows_system = clock is None
        self._pacer = Pacer(step_ns, max_backlog_ns)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name='physics', daemon=True)
        self._error: BaseException | None = None
        self._offset_ns = 0

    @property
    def dropped_time(self) -> float:
        """Time skipped since the start because the machine could not keep up (s)."""
        return self._pacer.dropped_ns * 1e-9

    def real_time_factor(self) -> float:
        """Time simulated over time passed during the last second."""
        return self._pacer.real_time_factor(self._clock())

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for it."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def check(self) -> None:
        """Raise what ended the thread, if something did.

        Raises:
            RuntimeError: With the error of the step as its cause.
        """
        if self._error is not None:
            raise RuntimeError(f'The physics stopped: {self._error}') from self._error

    def _run(self) -> None:
        pacer = self._pacer
        pacer.start(self._clock())
        try:
            while not self._stopping.is_set():
                self._read_offset()
                for _ in range(pacer.due(self._clock())):
                    self._step(pacer.time_ns + self._offset_ns)
                    pacer.advance()
                wait = pacer.wait_ns(self._clock())
                if wait:
                    time.sleep(wait * 1e-9)
        except BaseException as error:  # Whatever it is, the main thread must hear of it.
            self._error = error

    def _read_offset(self) -> None:
        if not self._follows_system:
            return
        before = time.monotonic_ns()
        system = time.time_ns()
        if time.monotonic_ns() - before < _CLOCK_PAIR_NS or not self._offset_ns:
            self._offset_ns = system - before
