"""Watches topics that must keep coming, with stamps that go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dexwm.control.motion_gate import Fault
from dexwm.control.outcome import Outcome


@dataclass
class _Beat:
    stamp_ns: int | None = None
    fresh_ns: int | None = None
    arrival_ns: int | None = None


class HeartbeatWatch:
    """A message counts only if its stamp differs from the one before: a hung camera repeats it.

    Args:
        topics: topics to watch.
        timeout: longest time without a message that counts (s).
    """

    def __init__(self, topics: Sequence[str], timeout: float):
        if timeout <= 0.0:
            raise ValueError(f'the heartbeat time-out must be positive, got {timeout} s')
        self._beats = {topic: _Beat() for topic in topics}
        self._timeout = timeout

    def observe(self, topic: str, stamp_ns: int, arrival_ns: int) -> None:
        """Take note of a message.

        Args:
            topic: one of the topics.
            stamp_ns: its stamp.
            arrival_ns: when it came.
        """
        beat = self._beats[topic]
        if stamp_ns != beat.stamp_ns:
            beat.stamp_ns, beat.fresh_ns = stamp_ns, arrival_ns
        beat.arrival_ns = arrival_ns

    def __call__(self, now_ns: int) -> Fault | None:
        """The first topic that is missing, silent or frozen; None if all is well."""
        for topic, beat in self._beats.items():
            reason = self._problem(topic, beat, now_ns)
            if reason:
                return Fault(Outcome.STALE_STATE, reason)
        return None

    def _problem(self, topic: str, beat: _Beat, now_ns: int) -> str:
        advice = 'start its node, or take it out of the parameter heartbeats'
        if beat.fresh_ns is None or beat.arrival_ns is None:
            return f'{topic} never came; {advice}'
        silence = (now_ns - beat.arrival_ns) * 1e-9
        if silence > self._timeout:
            return f'{topic} was silent for {silence:.2f} s; {advice}'
        frozen = (now_ns - beat.fresh_ns) * 1e-9
        if frozen > self._timeout:
            return (
                f'{topic} has had the same stamp for {frozen:.2f} s: its source hangs; '
                'start it again'
            )
        return ''
