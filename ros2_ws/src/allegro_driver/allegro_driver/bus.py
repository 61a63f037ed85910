"""The CAN bus as the driver uses it: frames in, frames out, and errors that say what to do."""

from __future__ import annotations

import errno
from types import TracebackType
from typing import Self

import can

from allegro_driver.protocol import Frame
from allegro_driver.unix_bus import UnixBus

INTERFACES = ('socketcan', 'unix', 'virtual')
BITRATE = 1_000_000

# Bit of an error frame's identifier (linux/can/error.h).
_BUS_OFF = 0x40


class BusError(RuntimeError):
    """The bus cannot be used; the message says what to do."""


class BusOff(BusError):
    """The CAN controller has left the bus, or the bus has gone."""


class HandBus:
    """Frames of one hand on a CAN bus. For one thread."""

    def __init__(self, bus: can.BusABC) -> None:
        """Take over an open bus, which `close` shuts down."""
        self._bus = bus

    @classmethod
    def open(cls, interface: str, channel: str) -> Self:
        """Open a bus.

        Args:
            interface: `socketcan` (Linux), `unix` (another process of this machine) or `virtual`
                (this process).
            channel: Network interface such as can0, path of a socket, or a name.

        Raises:
            ValueError: There is no such interface.
            BusError: The bus cannot be opened.
        """
        if interface not in INTERFACES:
            raise ValueError(f'interface is {interface!r}; it must be one of {INTERFACES}.')
        try:
            if interface == 'unix':
                return cls(UnixBus(channel))
            return cls(can.Bus(interface=interface, channel=channel))
        except (can.CanError, OSError) as error:
            raise BusError(_opening_advice(interface, channel, error)) from error

    def send(self, frame: Frame) -> None:
        """Send a frame.

        Raises:
            BusOff: The bus does not take it.
        """
        message = can.Message(
            arbitration_id=frame.arbitration_id,
            is_extended_id=False,
            is_remote_frame=frame.remote,
            data=None if frame.remote else frame.data,
        )
        try:
            self._bus.send(message)
        except (can.CanError, OSError) as error:
            raise BusOff(_sending_advice(self._bus.channel_info, error)) from error

    def receive(self, timeout: float) -> Frame | None:
        """The next frame; None if none comes in time, or what comes is none of the hand's.

        Args:
            timeout: How long to wait (s).

        Raises:
            BusOff: The controller has left the bus, or the bus has gone.
        """
        try:
            message = self._bus.recv(timeout)
        except (can.CanError, OSError) as error:
            raise BusOff(_sending_advice(self._bus.channel_info, error)) from error
        if message is None:
            return None
        if message.is_error_frame:
            if message.arbitration_id & _BUS_OFF:
                raise BusOff(_sending_advice(self._bus.channel_info, 'the controller is bus-off'))
            return None
        if message.is_extended_id or message.is_fd:
            return None
        data = b'' if message.is_remote_frame else bytes(message.data)
        return Frame(message.arbitration_id, data, message.is_remote_frame)

    def close(self) -> None:
        """Leave the bus."""
        self._bus.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _bring_up(channel: str) -> str:
    return f'sudo ip link set {channel} up type can bitrate {BITRATE} restart-ms 100'


def _opening_advice(interface: str, channel: str, error: Exception) -> str:
    if interface != 'socketcan':
        return f'no CAN bus {channel} ({interface}): {error}; is the simulated hand running?'
    return (
        f'no CAN interface {channel}: {error}. Plug the adapter in and bring it up with: '
        f'{_bring_up(channel)} (`ip -details link` shows what there is)'
    )


def _sending_advice(channel: str, error: Exception | str) -> str:
    full = getattr(error, 'error_code', None) == errno.ENOBUFS
    down = getattr(error, 'error_code', None) == errno.ENETDOWN
    advice = 'check the power of the hand, the cable and its termination'
    if full:
        advice = f'nobody acknowledges the frames: {advice}'
    if down:
        advice = 'the interface is down: bring it up again (docs/robot.md)'
    return f'the CAN bus failed ({channel}): {error}; {advice}'
