"""Watches what drivers say of themselves on /diagnostics."""

from __future__ import annotations

from collections.abc import Sequence

from dexwm.control.motion_gate import Fault
from dexwm.control.outcome import Outcome

ERROR = 2
"""Level of a diagnostic status from which a driver cannot move anything."""


class DriverWatch:
    """A driver that reports an error, or nothing any more, ends all motion.

    An error needs a person even if nothing moves: a robot that comes out of a reflex may not go
    on by itself. A driver that knows nothing of its robot (stale), as while both start, is like a
    silent one.

    Args:
        names: names of the drivers' diagnostic statuses.
        timeout: longest time between two reports (s).
    """

    def __init__(self, names: Sequence[str], timeout: float):
        if timeout <= 0.0:
            raise ValueError(f'the diagnostics time-out must be positive, got {timeout} s')
        self._reports: dict[str, tuple[int, str, int] | None] = dict.fromkeys(names)
        self._timeout = timeout

    def observe(self, name: str, level: int, message: str, arrival_ns: int) -> bool:
        """Take note of a status; those of others are ignored.

        Args:
            name: of the status.
            level: 0 (well), 1 (warning), 2 (error) or 3 (stale).
            message: what it says.
            arrival_ns: when it came.

        Returns:
            Whether it says that one of the drivers cannot move anything.
        """
        if name not in self._reports:
            return False
        self._reports[name] = (level, message, arrival_ns)
        return level >= ERROR

    def __call__(self, now_ns: int) -> Fault | None:
        """The first driver that has an error or is silent; None if all is well."""
        for name, report in self._reports.items():
            if report is None:
                return Fault(
                    Outcome.NO_CONTROLLER, f'nothing was heard of {name!r}; start the driver'
                )
            level, message, arrival_ns = report
            if level >= ERROR:
                return Fault(Outcome.NO_CONTROLLER, f'{name}: {message}', latches=level == ERROR)
            silence = (now_ns - arrival_ns) * 1e-9
            if silence > self._timeout:
                return Fault(
                    Outcome.NO_CONTROLLER,
                    f'{name!r} was silent for {silence:.2f} s; see whether its driver runs',
                )
        return None
