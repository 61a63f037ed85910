"""The newest measured position of every joint, merged from several publishers, with its age."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dexwm.control.trajectory import Floats


class JointStateBuffer:
    """Merges joint states by name; arm and hand may be reported by different publishers.

    A joint state is too old if its stamp or its arrival lies longer back than the time-out, and
    unusable if its stamp lies as far in the future: the clocks of two machines differ then. It is
    never replaced by one with an older stamp, except where it lies that far in the future itself:
    one wrong stamp does not lock out those that follow.

    Args:
        names: the joints of interest; others are ignored.
        timeout: largest age (s).
    """

    def __init__(self, names: Sequence[str], timeout: float):
        if timeout <= 0.0:
            raise ValueError(f'the joint state time-out must be positive, got {timeout} s')
        self.names = tuple(names)
        self.timeout = timeout
        self._index = {name: i for i, name in enumerate(self.names)}
        self._positions = np.full(len(self.names), np.nan)
        self._stamps_ns = np.zeros(len(self.names), dtype=np.int64)
        self._arrivals_ns = np.zeros(len(self.names), dtype=np.int64)

    def observe(
        self, names: Sequence[str], positions: Sequence[float], stamp_ns: int, arrival_ns: int
    ) -> list[int]:
        """Take in one joint state; positions that are not finite count as not reported.

        Args:
            names: joints of the message.
            positions: their positions (rad), as many.
            stamp_ns: when they held.
            arrival_ns: when the message came.

        Returns:
            Indices of the joints of interest that were updated.

        Raises:
            ValueError: if names and positions differ in number.
        """
        if len(names) != len(positions):
            raise ValueError(f'{len(names)} joint names but {len(positions)} positions')
        updated = []
        latest_ns = arrival_ns + self.timeout * 1e9
        for name, position in zip(names, positions, strict=True):
            i = self._index.get(name)
            if i is None or not np.isfinite(position):
                continue
            if stamp_ns < self._stamps_ns[i] <= latest_ns:
                continue
            self._positions[i] = position
            self._stamps_ns[i] = stamp_ns
            self._arrivals_ns[i] = arrival_ns
            updated.append(i)
        return updated

    @property
    def positions(self) -> Floats:
        """(n,) newest positions (rad); NaN for a joint never reported."""
        return self._positions.copy()

    def problem(self, now_ns: int) -> str:
        """Why the joint states cannot be relied on at `now_ns`; empty if they can."""
        missing = [name for name, q in zip(self.names, self._positions, strict=True) if q != q]
        if len(missing) == len(self.names):
            return 'no joint states have come'
        if missing:
            return f'no joint states of {", ".join(missing)}'
        for times_ns, verb in ((self._stamps_ns, 'stamped'), (self._arrivals_ns, 'arrived')):
            ages = (now_ns - times_ns) * 1e-9
            oldest, newest = int(ages.argmax()), int(ages.argmin())
            if ages[oldest] > self.timeout:
                return (
                    f'the joint state of {self.names[oldest]} {verb} {ages[oldest]:.3f} s ago, '
                    f'at most {self.timeout} s are allowed'
                )
            if ages[newest] < -self.timeout:
                return (
                    f'the joint state of {self.names[newest]} is {verb} {-ages[newest]:.3f} s in '
                    'the future; synchronise the clocks'
                )
        return ''
