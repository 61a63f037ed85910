"""A CAN bus between processes of one machine, over a Unix socket: needs no kernel module."""

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
    """One end of a bus: the one that listens, or one of those that connect to it.

    Frames arrive in order or not at all, as on a bus; those that connect do not hear each other.
    An end that has lost the other one cannot send any more (`can.CanOperationError`, like a
    controller that is bus-off); the listening end takes the next one that connects.
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
        self._peers: list[socket.socket] = []
        kind = socket.SOCK_SEQPACKET
        try:
            if listen:
                self._path.unlink(missing_ok=True)
                self._listener = socket.socket(socket.AF_UNIX, kind)
                self._listener.bind(channel)
                os.chmod(channel, 0o600)
                self._listener.listen()
                self._listener.setblocking(False)
            else:
                peer = socket.socket(socket.AF_UNIX, kind)
                try:
                    peer.connect(channel)
                except OSError:
                    peer.close()
                    raise
                peer.setblocking(False)
                self._peers.append(peer)
        except OSError as error:
            # So that BusABC does not complain about a bus that never was.
            self._is_shutdown = True
            raise can.CanInitializationError(f'{channel}: {error.strerror}') from error

    @property
    def connected(self) -> bool:
        """Whether there is another end."""
        return bool(self._peers)

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        """Send a frame.

        Args:
            msg: The frame.
            timeout: How long to wait for room (s); None: not at all.

        Raises:
            can.CanOperationError: There is no other end, or none takes the frame.
        """
        if not self._peers:
            raise can.CanOperationError('no other end on the bus', errno.ENOTCONN)
        identifier = msg.arbitration_id
        identifier |= _REMOTE if msg.is_remote_frame else 0
        identifier |= _EXTENDED if msg.is_extended_id else 0
        packet = _FRAME.pack(identifier, msg.dlc, bytes(msg.data))
        if timeout:
            select.select([], self._peers, [], timeout)
        failures: list[OSError] = []
        for peer in self._peers:
            try:
                peer.send(packet)
            except OSError as error:
                failures.append(error)
        if len(failures) < len(self._peers):
            return
        failure = failures[-1]
        if isinstance(failure, BlockingIOError):
            raise can.CanOperationError('the other end does not read', errno.ENOBUFS) from failure
        # What the other end sent before it left can still be received.
        raise can.CanOperationError(f'lost the other end: {failure.strerror}') from failure

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            packet = self._receive()
            if packet is not None:
                return packet, False
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return None, False
            waiting = [*self._peers, *([self._listener] if self._listener else [])]
            if not waiting:
                raise can.CanOperationError('no other end on the bus', errno.ENOTCONN)
            select.select(waiting, [], [], left)

    def _receive(self) -> can.Message | None:
        """A frame that is there already; accepts who connects."""
        if self._listener is not None:
            with contextlib.suppress(BlockingIOError):
                peer, _ = self._listener.accept()
                peer.setblocking(False)
                self._peers.append(peer)
        elif not self._peers:
            raise can.CanOperationError('no other end on the bus', errno.ENOTCONN)
        # Who came first is heard to his end first.
        for peer in tuple(self._peers):
            try:
                packet = self._take_packet(peer)
            except BlockingIOError:
                continue
            except OSError:
                packet = b''
            if len(packet) == _FRAME.size:
                return self._message(packet)
            self._peers.remove(peer)
            peer.close()
        return None

    @staticmethod
    def _message(packet: bytes) -> can.Message:
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

    def shutdown(self) -> None:
        """Leave the bus."""
        if self._is_shutdown:
            return
        super().shutdown()
        for peer in self._peers:
            peer.close()
        self._peers.clear()
        if self._listener is not None:
            self._listener.close()
            self._path.unlink(missing_ok=True)
