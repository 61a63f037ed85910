"""One driver a hand: a second one on the same bus would fight the first, or switch it off."""

from __future__ import annotations

import hashlib
import socket

from allegro_driver.bus import BusError


class BusLease:
    """Holds a bus for one driver until it is closed or its process ends, however it ends.

    It is a name among the abstract Unix sockets. Linux keeps them apart by network namespace, as
    it does CAN interfaces: containers that share the host's interfaces share the name, too.
    """

    def __init__(self, interface: str, channel: str) -> None:
        """Take the bus.

        Args:
            interface: Kind of the bus; see `HandBus.open`.
            channel: Its name.

        Raises:
            BusError: Another driver has it.
        """
        name = hashlib.sha256(f'{interface}:{channel}'.encode()).hexdigest()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.bind(f'\0allegro_driver:{name}')
        except OSError as error:
            self._socket.close()
            raise BusError(
                f'another driver has the hand on {channel}: end that one, or start what you '
                'start now with hand:=none'
            ) from error

    def close(self) -> None:
        """Give the bus back."""
        self._socket.close()
