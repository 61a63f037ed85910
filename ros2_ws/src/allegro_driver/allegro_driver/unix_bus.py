"""A CAN bus between two processes of one machine, over a Unix socket: needs no kernel module."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import time
from pathlib import Path

import can

# As Linux lays out a struct can_frame; the flag is that of a remote frame.
_FRAME = struct.Struct('=IB3x8s')
_REMOTE = 0x40000000
_EXTENDED = 0x80000000


class UnixBus(can.BusABC):
    """One end of a bus with two: the one that listens and the one that connects.

    Frames arrive in order or not at all, as on a bus. An end that has lost the other one cannot
    send any more (`can.CanOperationError`, like a controller that is bus-off); the listening end
    takes the next one that connects.
    """

    def __init__(self, channel: str, *, listen: bool = False) -> None:
        """Open the bus.

        Args:
            channel: Path of the socket.
            listen: Whether this end makes the socket.

        Raises:
            can.CanInitializationError: The socket cannot be made, or nobody listens.
        """
        super().__init__(channel=channel)
        self.channel_info = f'unix socket {channel}'
        self._path = Path(channel)
        self._listener: socket.socket | None = None
        self._peer: socket.socket | None = None
        kind = socket.SOCK_SEQPACKET
        try:
            if listen:
                self._path.unlink(missing_ok=True)
                self._listener = socket.socket(socket.AF_UNIX, kind)
                self._listener.bind(channel)
                os.chmod(channel, 0o600)
                self._listener.listen(1)
                self._listener.setblocking(False)
            else:
                peer = socket.socket(socket.AF_UNIX, kind)
                try:
                    peer.connect(channel)
                except OSError:
                    peer.close()
                    raise
                peer.setblocking(False)
                self._peer = peer
        except OSError as error:
            # So that BusABC does not complain about a bus that never was.
            self._is_shutdown = True
            raise can.CanInitializationError(f'{channel}: {error.strerror}') from error

    @property
    def connected(self) -> bool:
        """Whether there is another end."""
        return self._peer is not None

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        """Send a frame.

        Args:
            msg: The frame.
            timeout: How long to wait for room (s); None: not at all.

        Raises:
            can.CanOperationError: There is no other end, or it does not take the frame.
        """
        if self._peer is None:
            raise can.CanOperationError('no other end on the bus', errno.ENOTCONN)
        identifier = msg.arbitration_id
        identifier |= _REMOTE if msg.is_remote_frame else 0
        identifier |= _EXTENDED if msg.is_extended_id else 0
        packet = _FRAME.pack(identifier, msg.dlc, bytes(msg.data))
        try:
            if timeout:
                select.select([], [self._peer], [], timeout)
            self._peer.send(packet)
        except BlockingIOError as error:
            raise can.CanOperationError('the other end does not read', errno.ENOBUFS) from error
        except OSError as error:
            # What the other end sent before it left can still be received.
            raise can.CanOperationError(f'lost the other end: {error.strerror}') from error

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            packet = self._receive()
            if packet is not None:
                return packet, False
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return None, False
            waiting = [s for s in (self._peer or self._listener,) if s is not None]
            if not waiting:
                raise can.CanOperationError('no other end on the bus', errno.ENOTCONN)
            select.select(waiting, [], [], left)

    def _receive(self) -> can.Message | None:
        """A frame that is there already; accepts who connects."""
        if self._peer is None:
            if self._listener is None:
                raise can.CanOperationError('no other end on the bus', errno.ENOTCONN)
            with contextlib.suppress(BlockingIOError):
                self._peer, _ = self._listener.accept()
                self._peer.setblocking(False)
            if self._peer is None:
                return None
        try:
            packet = self._take_packet(self._peer)
        except BlockingIOError:
            return None
        except OSError:
            packet = b''
        if len(packet) != _FRAME.size:
            self._drop_peer()
            return None
        identifier, length, data = _FRAME.unpack(packet)
        remote = bool(identifier & _REMOTE)
        length = min(length, 8)
        return can.Message(
            timestamp=time.time(),
            arbitration_id=identifier & 0x1FFFFFFF,
            is_extended_id=bool(identifier & _EXTENDED),
            is_remote_frame=remote,
            dlc=length,
            data=None if remote else data[:length],
        )

    @staticmethod
    def _take_packet(peer: socket.socket) -> bytes:
        try:
            return peer.recv(_FRAME.size)
        except ConnectionResetError:
            # The other end left without reading all of ours. Linux says so once, before it hands
            # out what the other end sent: a last "servo off" is still there.
            return peer.recv(_FRAME.size)

    def _drop_peer(self) -> None:
        if self._peer is not None:
            self._peer.close()
            self._peer = None

    def shutdown(self) -> None:
        """Leave the bus."""
        if self._is_shutdown:
            return
        super().shutdown()
        self._drop_peer()
        if self._listener is not None:
            self._listener.close()
            self._path.unlink(missing_ok=True)
