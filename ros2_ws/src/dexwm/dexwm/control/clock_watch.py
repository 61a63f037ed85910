"""Watches for jumps of the clock that motions are stamped with."""

from __future__ import annotations

from collections.abc import Callable

from dexwm.control.motion_gate import Fault
from dexwm.control.outcome import Outcome

_TRIES = 5
_SIMULTANEOUS = 0.2
"""Part of the tolerance within which two clocks must be read to be compared."""


class ClockWatch:
    """Compares the clock with one that never jumps.

    After a jump nothing may be sent: the controllers would take stamps for others than they are.

    Args:
        clock_ns: gives the clock's time (ns); 0 before it runs.
        monotonic_ns: gives the time of a clock that never jumps (ns).
        tolerance: largest change of their difference between two looks that is no jump (s).
        may_lag: whether the clock may stand and catch up, as that of a simulation does; then it
            may not run ahead of the other, nor back.
        resting: whether nothing moves; a clock that may lag may then run ahead, too, for it may
            have been late when it was first looked at. Never, unless given.
    """

    def __init__(
        self,
        clock_ns: Callable[[], int],
        monotonic_ns: Callable[[], int],
        tolerance: float,
        may_lag: bool = False,
        resting: Callable[[], bool] = lambda: False,
    ):
        if tolerance <= 0.0:
            raise ValueError(f'the clock tolerance must be positive, got {tolerance} s')
        self._clock_ns = clock_ns
        self._monotonic_ns = monotonic_ns
        self._tolerance_ns = round(tolerance * 1e9)
        self._may_lag = may_lag
        self._resting = resting
        self._ahead_ns: int | None = None
        self._last_ns = 0

    def __call__(self, now_ns: int) -> Fault | None:
        """The jump since the last look, if there was one; told once."""
        now_ns, steady_ns = self._read()
        last_ns, self._last_ns = self._last_ns, now_ns or self._last_ns
        if not now_ns or not steady_ns:
            return None
        ahead_ns = now_ns - steady_ns
        before_ns, self._ahead_ns = self._ahead_ns, ahead_ns
        if before_ns is None:
            return None
        jump_ns = ahead_ns - before_ns
        if self._may_lag:
            if jump_ns < 0:
                # It may fall behind and come back to where it was.
                self._ahead_ns = before_ns
                jump_ns = min(0, now_ns - last_ns)
            if jump_ns < -self._tolerance_ns:
                self._ahead_ns = ahead_ns
            if jump_ns > 0 and self._resting():
                return None
        if abs(jump_ns) <= self._tolerance_ns:
            return None
        return Fault(
            Outcome.STALE_STATE,
            f'the clock jumped by {jump_ns * 1e-9:+.2f} s; let the time service settle '
            '(chronyc tracking), then call ~/resume',
            latches=True,
            abandon=True,
            once=True,
        )

    def _read(self) -> tuple[int, int]:
        """Both clocks at one instant (ns); zeros if this thread was interrupted every time."""
        for _ in range(_TRIES):
            before_ns = self._monotonic_ns()
            now_ns = self._clock_ns()
            if self._monotonic_ns() - before_ns < _SIMULTANEOUS * self._tolerance_ns:
                return now_ns, before_ns
        return 0, 0
