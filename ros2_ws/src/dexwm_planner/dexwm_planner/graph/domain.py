"""A ROS domain of one's own: an id that no other run on this machine uses."""

import fcntl
import os
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

# Up to 101, the ports of a domain lie below the ports that Linux gives out to clients; people
# choose small ids by hand.
DOMAIN_IDS = range(60, 100)

# DDS-RTPS 9.6.1: participant p of domain d receives at 7410 + 250 d + 2 p.
_FIRST_PORT, _DOMAIN_GAIN, _PARTICIPANT_GAIN = 7410, 250, 2
_PARTICIPANTS_TRIED = 10


class NoFreeDomainError(RuntimeError):
    """Every domain id of the range is in use."""


class DomainLease:
    """Holds a ROS domain id until it is closed or its process ends, however it ends.

    An id is free if no other lease holds its lock file and nothing receives on the ports of its
    first participants (nodes that were started by hand have no lease).

    Attributes:
        domain_id: The id.
    """

    def __init__(
        self, directory: Path | None = None, domain_ids: Sequence[int] = DOMAIN_IDS
    ) -> None:
        """Takes the first free id.

        Args:
            directory: Where the lock files lie; the system's directory for temporary files if
                not given.
            domain_ids: Ids to choose from.

        Raises:
            NoFreeDomainError: None is free.
        """
        folder = Path(tempfile.gettempdir()) if directory is None else directory
        for domain_id in domain_ids:
            file = _lock(folder / f'dexwm_ros_domain_{domain_id}.lock')
            if file is None:
                continue
            if _is_silent(domain_id):
                self.domain_id = domain_id
                self._file = file
                return
            os.close(file)
        raise NoFreeDomainError(
            f'All ROS domain ids from {domain_ids[0]} to {domain_ids[-1]} are in use: stop other '
            'runs, or choose one yourself with domain_id:=N.'
        )

    def close(self) -> None:
        """Gives the id back."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _lock(path: Path) -> int | None:
    """Descriptor of the locked file, or None if someone else has it."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:  # Another user's file: that user has used the id.
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _is_silent(domain_id: int) -> bool:
    for participant in range(_PARTICIPANTS_TRIED):
        port = _FIRST_PORT + _DOMAIN_GAIN * domain_id + _PARTICIPANT_GAIN * participant
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', port))
            except OSError:
                return False
    return True
