"""Keeps a rate."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pacer:
    """Ends its waits on a grid of 1/rate seconds; after a delay it drops what was missed."""

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Sets the rate; the first wait ends at once.

        Args:
            rate: waits that end per second, 1/s.
            clock: seconds on a clock that never jumps.
            sleep: sleeps for so many seconds.
        """
        self._period = 1 / rate
        self._clock = clock
        self._sleep = sleep
        self._due = -float('inf')

    def wait(self) -> None:
        """Sleeps until the next point of the grid."""
        now = self._clock()
        if now < self._due:
            self._sleep(self._due - now)
        else:
            # Late: the grid starts anew here, a burst that catches up would help nobody.
            self._due = now
        self._due += self._period
