"""Frames of the Allegro hand V4 (CAN 2.0A, 1 Mbit/s, little-endian): pure functions, no bus.

The identifier is ``message id << 2 | device id``. Message ids, payloads and scales are those of
the V4's protocol as Wonik publishes it; other generations use other scales and units, so a hand
says what it is (`HandInfo`) before anything moves it. Vectors of 16 joints are in the order of
`dexwm.robot.joints.HAND_JOINTS`: index, middle, ring, thumb, four each.
"""

from __future__ import annotations

import enum
import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FINGERS = 4
JOINTS_PER_FINGER = 4
JOINT_COUNT = FINGERS * JOINTS_PER_FINGER

RADIANS_PER_COUNT = math.radians(333.3 / 65536)
"""One count of a position (rad)."""

PWM_PER_NEWTON_METRE = 1200.0
"""PWM counts of a torque of 1 N m, at 12 V."""

_FINGER_PWM = (375, 675, 450, 285)
_THUMB_PWM = (525, 405, 270, 270)
PWM_LIMITS: NDArray[np.int64] = np.array(_FINGER_PWM * 3 + _THUMB_PWM)
"""Largest PWM counts (16,) that Wonik lets each joint have."""
PWM_LIMITS.setflags(write=False)

TORQUE_LIMITS: NDArray[np.float64] = PWM_LIMITS / PWM_PER_NEWTON_METRE
"""The same as torques (16,), N m."""
TORQUE_LIMITS.setflags(write=False)

DEVICE_ID_BITS = 2
_LARGEST_ID = 0x7FF
_LARGEST_PERIOD = 0xFFFF


class MessageId(enum.IntEnum):
    """Message ids; of those with a finger, the one of the first."""

    FINGER_POSE = 0x20
    TEMPERATURE = 0x38
    SERVO_ON = 0x40
    SERVO_OFF = 0x41
    SET_TORQUE = 0x60
    HAND_INFO = 0x80
    SET_PERIOD = 0x81
    SERIAL = 0x88


class ProtocolError(ValueError):
    """A frame that the V4's protocol does not have, or values that do not fit into one."""


class UnsupportedHand(ValueError):
    """The hand on the bus is not one that this driver may move."""


@dataclass(frozen=True)
class Frame:
    """A CAN data or remote frame.

    Attributes:
        arbitration_id: Standard identifier, 11 bits.
        data: Payload, up to 8 bytes.
        remote: Whether it asks for the message of that id instead of carrying one.
    """

    arbitration_id: int
    data: bytes = b''
    remote: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.arbitration_id <= _LARGEST_ID:
            raise ProtocolError(f'identifier {self.arbitration_id:#x} does not fit into 11 bits')
        if len(self.data) > 8:
            raise ProtocolError(f'a frame carries up to 8 bytes, not {len(self.data)}')
        if self.remote and self.data:
            raise ProtocolError('a remote frame carries no data')


@dataclass(frozen=True)
class FingerPose:
    """Positions of one finger's joints.

    Attributes:
        finger: 0 index, 1 middle, 2 ring, 3 thumb.
        positions: From the palm to the tip (4), rad.
    """

    finger: int
    positions: tuple[float, float, float, float]


@dataclass(frozen=True)
class FingerTemperature:
    """Temperatures of one finger's motors.

    Attributes:
        finger: 0 index, 1 middle, 2 ring, 3 thumb.
        celsius: From the palm to the tip (4), degrees Celsius.
    """

    finger: int
    celsius: tuple[int, int, int, int]


@dataclass(frozen=True)
class HandInfo:
    """What the hand is and how it is.

    Attributes:
        hardware: Hardware version; the generation is its high byte.
        firmware: Firmware version.
        left: Whether it is a left hand.
        celsius: Temperature of its board, degrees Celsius.
        servo_on: Whether the motors have power.
        too_hot: Whether it reports a motor that is too hot.
        internal_fault: Whether it reports a fault of the communication inside it.
    """

    hardware: int
    firmware: int
    left: bool
    celsius: int
    servo_on: bool
    too_hot: bool
    internal_fault: bool

    @property
    def generation(self) -> int:
        """4 for a V4."""
        return self.hardware >> 8


@dataclass(frozen=True)
class SerialNumber:
    """The hand's serial number.

    Attributes:
        text: Its characters; what is not printable is left out.
    """

    text: str


Message = FingerPose | FingerTemperature | HandInfo | SerialNumber


def check_generation(info: HandInfo) -> None:
    """Refuse a hand whose torques and positions are scaled otherwise.

    Raises:
        UnsupportedHand: It is not a V4.
    """
    if info.generation == 4:
        return
    version = f'hardware {info.hardware >> 8}.{info.hardware & 0xFF}'
    if info.generation == 5:
        raise UnsupportedHand(
            f'the hand is a V5 ({version}): its torque frames are motor currents in mA and its '
            'positions have another scale, so this driver for the V4 must not move it; use '
            "Wonik's driver for the V5, and hand:=unwatched"
        )
    raise UnsupportedHand(
        f'the hand is not a V4 ({version}): other generations have another supply voltage and '
        "another torque scale; use Wonik's driver for it, and hand:=unwatched"
    )


def servo_on(device: int = 0) -> Frame:
    """Give the motors power."""
    return Frame(arbitration_id(MessageId.SERVO_ON, device))


def servo_off(device: int = 0) -> Frame:
    """Take the motors' power away."""
    return Frame(arbitration_id(MessageId.SERVO_OFF, device))


def ask_info(device: int = 0) -> Frame:
    """Ask for `HandInfo`."""
    return Frame(arbitration_id(MessageId.HAND_INFO, device), remote=True)


def ask_serial(device: int = 0) -> Frame:
    """Ask for `SerialNumber`."""
    return Frame(arbitration_id(MessageId.SERIAL, device), remote=True)


def set_periods(position: int, imu: int, temperature: int, device: int = 0) -> Frame:
    """Have the hand send by itself, with these periods (ms); 0: not at all.

    Raises:
        ProtocolError: A period that does not fit into 16 bits.
    """
    periods = (position, imu, temperature)
    if not all(0 <= period <= _LARGEST_PERIOD for period in periods):
        raise ProtocolError(f'periods are 0 to {_LARGEST_PERIOD} ms, got {periods}')
    return Frame(arbitration_id(MessageId.SET_PERIOD, device), struct.pack('<3H', *periods))


def clamp_pwm(torques: ArrayLike, limits: ArrayLike = TORQUE_LIMITS) -> NDArray[np.int64]:
    """PWM counts (16,) for torques (16,) (N m), never above the joint's limits.

    Args:
        torques: What is wanted; what is not a number becomes 0, infinity the limit.
        limits: Largest torques (16,), N m; above Wonik's own, those count.
    """
    wanted = np.nan_to_num(np.asarray(torques, np.float64), nan=0.0, posinf=1e9, neginf=-1e9)
    scaled = np.clip(wanted, -1e9, 1e9) * PWM_PER_NEWTON_METRE
    allowed = np.clip(np.nan_to_num(np.asarray(limits, np.float64), nan=0.0), 0, TORQUE_LIMITS)
    bound = np.floor(allowed * PWM_PER_NEWTON_METRE + 1e-9)
    return np.clip(np.rint(scaled), -bound, bound).astype(np.int64)


def set_torques(pwm: NDArray[np.int64], device: int = 0) -> tuple[Frame, Frame, Frame, Frame]:
    """The four frames that set the motors' torques.

    Args:
        pwm: PWM counts (16,), from `clamp_pwm`.
        device: Device id of the hand.

    Raises:
        ProtocolError: A count above the limit of its joint: nothing may ask for that.
    """
    if pwm.shape != (JOINT_COUNT,) or (np.abs(pwm) > PWM_LIMITS).any():
        raise ProtocolError(f'expected {JOINT_COUNT} counts within {PWM_LIMITS}, got {pwm}')
    counts = pwm.tolist()
    first, second, third, thumb = (
        Frame(
            arbitration_id(MessageId.SET_TORQUE + finger, device),
            struct.pack('<4h', *counts[JOINTS_PER_FINGER * finger :][:JOINTS_PER_FINGER]),
        )
        for finger in range(FINGERS)
    )
    return first, second, third, thumb


def arbitration_id(message: int, device: int = 0) -> int:
    """Identifier of a message of a hand.

    Raises:
        ProtocolError: A device id that does not fit into its bits.
    """
    if not 0 <= device < 1 << DEVICE_ID_BITS:
        raise ProtocolError(f'device ids are 0 to {(1 << DEVICE_ID_BITS) - 1}, got {device}')
    return message << DEVICE_ID_BITS | device


def split_id(identifier: int) -> tuple[int, int]:
    """Message id and device id of an identifier."""
    return identifier >> DEVICE_ID_BITS, identifier & (1 << DEVICE_ID_BITS) - 1


def decode(frame: Frame) -> Message | None:
    """What the hand says with a frame; None if it is not one of the hand's messages.

    Raises:
        ProtocolError: A message of the hand with another length than it has.
    """
    if frame.remote:
        return None
    message, _ = split_id(frame.arbitration_id)
    finger = message % FINGERS
    match message - finger:
        case MessageId.FINGER_POSE:
            a, b, c, d = struct.unpack('<4h', _payload(frame, 8))
            scale = RADIANS_PER_COUNT
            return FingerPose(finger, (a * scale, b * scale, c * scale, d * scale))
        case MessageId.TEMPERATURE:
            a, b, c, d = _payload(frame, 4)
            return FingerTemperature(finger, (a, b, c, d))
    if message == MessageId.HAND_INFO:
        hardware, firmware, kind, celsius, status = struct.unpack('<HHBBB', _payload(frame, 7))
        return HandInfo(
            hardware,
            firmware,
            left=kind == 1,
            celsius=celsius,
            servo_on=bool(status & 1),
            too_hot=bool(status & 2),
            internal_fault=bool(status & 4),
        )
    if message == MessageId.SERIAL:
        characters = _payload(frame, 8).decode('ascii', errors='ignore')
        return SerialNumber(''.join(c for c in characters if c.isprintable()))
    return None


def _payload(frame: Frame, length: int) -> bytes:
    if len(frame.data) != length:
        raise ProtocolError(
            f'message {frame.arbitration_id:#05x} has {len(frame.data)} bytes instead of {length}'
        )
    return frame.data
