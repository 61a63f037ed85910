"""One record in shared memory: one writer, any number of readers, no locks on the way."""

from __future__ import annotations

import time
import zlib

_READ_ATTEMPTS = 5000
_RETRY_PERIOD = 5e-5


class TornRecordError(RuntimeError):
    """The writer stopped in the middle of a record."""


class Seqlock:
    """A record of fixed size that is read whole or not at all.

    A counter is odd while the writer is inside (seqlock). Python cannot order stores on every
    machine, so a checksum decides in the end whether a reader saw one record and not a mixture.
    """

    def __init__(self, memory: memoryview, record_size: int) -> None:
        """Lay the record out in memory that starts as zeros.

        Args:
            memory: Shared bytes, `size(record_size)` of them, aligned to 8.
            record_size: Length of the record (bytes).
        """
        # Counter and checksum are stored and loaded by one aligned access of 8 bytes each.
        self._counter = memory[:8].cast('Q')
        self._record = memory[8 : 8 + record_size]
        self._checksum = memory[-8:].cast('Q')
        self._count = 0

    @staticmethod
    def size(record_size: int) -> int:
        """Bytes of memory that a record of this length (bytes) needs."""
        return 8 + padded(record_size) + 8

    def write(self, record: bytes) -> None:
        """Replace the record. For one writer."""
        self._count += 1
        self._counter[0] = self._count
        self._record[:] = record
        self._checksum[0] = zlib.crc32(record)
        self._count += 1
        self._counter[0] = self._count

    def read(self) -> bytes | None:
        """Return the newest record, None if there was none yet.

        Raises:
            TornRecordError: If the writer died while writing.
        """
        for _ in range(_READ_ATTEMPTS):
            count = self._counter[0]
            if count == 0:
                return None
            if count % 2 == 0:
                record = bytes(self._record)
                checksum = self._checksum[0]
                if self._counter[0] == count and zlib.crc32(record) == checksum:
                    return record
            # Inside a write, or the writer was descheduled there. A reader with real-time priority
            # must sleep to let it run: yielding is not enough.
            time.sleep(_RETRY_PERIOD)
        raise TornRecordError('the writer stopped in the middle of a record')

    def release(self) -> None:
        """Let go of the memory."""
        for view in (self._counter, self._record, self._checksum):
            view.release()


def padded(size: int) -> int:
    """The next multiple of 8."""
    return -(-size // 8) * 8
