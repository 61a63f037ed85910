"""The one place that decides whether the robot may move."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dexwm.control.outcome import Outcome


class GateState(enum.IntEnum):
    """What the gate allows; the numbers are those of the message dexwm_msgs/MotionState."""

    RUN = 0
    STOPPING = 1
    STOPPED = 2
    RECOVERING = 3


@dataclass(frozen=True)
class Fault:
    """Why no motion may begin or go on.

    Attributes:
        outcome: what it makes of the motion that it ends.
        reason: in words, with what to do about it.
        latches: whether the robot stays stopped until a person resumes, whatever the gate's own
            rule; else the gate's rule counts.
        abandon: whether nothing more may be sent: what the controllers have ends at rest, and
            what was commanded since is not known.
        once: whether the watch tells it only once; it must latch then.
    """

    outcome: Outcome
    reason: str
    latches: bool = False
    abandon: bool = False
    once: bool = False


Watch = Callable[[int], Fault | None]
"""Looks at one thing that motion relies on, given the time (ns)."""


class MotionGate:
    """Asks all watches, remembers why it closed, and opens only when asked to.

    It knows no clock and no ROS, and is for one thread at a time.

    A fault that latches, and with `latching` every fault that meets a motion, closes the gate
    until `resume`. Any other fault keeps it closed as long as it lasts.

    Args:
        watches: all are asked, in order; the first fault that latches counts, or else the first.
        latching: whether every fault that ends a motion needs a person.

    Attributes:
        met: outcomes of the faults that were met since the gate closed for `resume`; empty while
            it is open.
    """

    def __init__(self, watches: Sequence[Watch], latching: bool = True):
        self._watches = tuple(watches)
        self._latching = latching
        self.met: frozenset[Outcome] = frozenset()
        self._latched: Fault | None = None
        self._untold: Fault | None = None
        self._emergency = ''
        self._recovering = False

    @property
    def latched(self) -> Fault | None:
        """Why nothing moves until `resume`; None if plans are welcome."""
        return self._latched

    def check(self, now_ns: int, moving: bool) -> Fault | None:
        """Why no motion may begin or go on at `now_ns`; None if one may.

        Args:
            now_ns: the time.
            moving: whether a motion is under way, which a fault then ends.
        """
        faults = self._faults(now_ns)
        if self._latched is None:
            fault = next((f for f in faults if f.latches), faults[0] if faults else None)
            if fault is None or not (fault.latches or (moving and self._latching)):
                return fault
            self._latched = fault
        self._remember(faults)
        return self._latched

    def state(self, moving: bool) -> GateState:
        """What is allowed.

        Args:
            moving: whether the robot is still commanded to move.
        """
        if self._recovering:
            return GateState.RECOVERING
        if self._latched is None:
            return GateState.RUN
        return GateState.STOPPING if moving else GateState.STOPPED

    def halt(self, reason: str) -> None:
        """Close the gate until `resume`; a cause that already closed it is not forgotten."""
        if self._latched is None:
            self._latched = Fault(Outcome.STOPPED, reason, latches=True)

    def emergency_stop(self, reason: str) -> None:
        """Close the gate until the emergency stop is released, and then until `resume`."""
        self._emergency = reason
        self._latched = Fault(Outcome.STOPPED, reason, latches=True)

    def release(self) -> None:
        """Release the emergency stop. The gate stays closed until `resume`."""
        if self._emergency:
            self._emergency = ''
            self._latched = Fault(
                Outcome.STOPPED, 'the emergency stop was released; call ~/resume', latches=True
            )

    def resume(self, now_ns: int) -> str:
        """Open the gate, if what closed it is gone. Nothing moves by this alone.

        Returns:
            Why it stays closed; empty if it is open.
        """
        if self._latched is None:
            return ''
        if self._emergency:
            return 'the emergency stop is engaged; release it first'
        if self._recovering:
            return 'a recovery is under way; wait for it'
        faults = self._faults(now_ns)
        if not faults and self._untold is not None:
            faults, self._untold = [self._untold], None
        if faults:
            self._latched = faults[0]
            self._remember(faults)
            return f'still: {faults[0].reason}'
        self._latched = None
        self.met = frozenset()
        return ''

    def begin_recovery(self) -> str:
        """Close the gate for a recovery.

        Returns:
            Why none may begin now; empty if one has.
        """
        if self._emergency:
            return 'the emergency stop is engaged; release it first'
        if self._recovering:
            return 'a recovery is under way already'
        self._recovering = True
        self.halt('a recovery is under way')
        return ''

    def end_recovery(self, problem: str) -> None:
        """End a recovery. The gate stays closed until `resume`, however it went."""
        self._recovering = False
        if self._emergency:
            return
        reason = f'the recovery failed: {problem}' if problem else 'recovered; call ~/resume'
        self._latched = Fault(Outcome.STOPPED, reason, latches=True)

    def _remember(self, faults: Sequence[Fault]) -> None:
        """Keep in mind what was met while the gate is closed for another reason."""
        self.met |= {fault.outcome for fault in faults}
        for fault in faults:
            if fault.once and fault is not self._latched:
                self._untold = fault

    def _faults(self, now_ns: int) -> list[Fault]:
        found = [watch(now_ns) for watch in self._watches]
        return [fault for fault in found if fault is not None]
