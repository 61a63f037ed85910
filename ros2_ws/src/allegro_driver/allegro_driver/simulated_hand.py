"""The hand's end of the CAN bus, for a simulator that has the physics.

Behaves as a V4 does where a driver can notice: it answers what it is asked, streams positions only
when told to, latches the last torques, and gives none of them while its servo is off. It keeps
step with its driver: the physics waits a little for the torques that answer a pose, so a machine
that is too busy slows the hand down instead of making it unstable.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass

import can
import numpy as np
from numpy.typing import ArrayLike, NDArray

from allegro_driver.protocol import (
    FINGERS,
    JOINT_COUNT,
    JOINTS_PER_FINGER,
    PWM_LIMITS,
    PWM_PER_NEWTON_METRE,
    RADIANS_PER_COUNT,
    MessageId,
    arbitration_id,
    split_id,
)

Floats = NDArray[np.float64]

_COUNT_LIMIT = 32767
_ALL_FINGERS = (1 << FINGERS) - 1


@dataclass
class HandCondition:
    """What can be wrong with a hand, and what it says it is.

    Attributes:
        hardware: Hardware version; the generation is its high byte.
        firmware: Firmware version.
        left: Whether it says that it is a left hand.
        celsius: Temperature of every motor, degrees Celsius.
        too_hot: Whether it reports a motor that is too hot.
        internal_fault: Whether it reports a fault of the communication inside it.
        silent: Whether it sends nothing, as without power.
    """

    hardware: int = 0x0402
    firmware: int = 0x0105
    left: bool = False
    celsius: int = 38
    too_hot: bool = False
    internal_fault: bool = False
    silent: bool = False


class SimulatedHand:
    """Answers on a bus. `step` is called with every step of the physics, from one thread.

    Attributes:
        condition: What is wrong with it; may be changed at any time.
        servo_on: Whether the motors have power.
        stretched: Times that a driver did not answer a pose in time.
    """

    def __init__(
        self, bus: can.BusABC, *, patience: float = 0.1, serial: str = 'SIM00001'
    ) -> None:
        """Take over an end of a bus.

        Args:
            bus: The bus; `close` leaves it.
            patience: How long the physics waits for a driver's answer to a pose (s).
            serial: Serial number, up to 8 characters.
        """
        self.condition = HandCondition()
        self.servo_on = False
        self.stretched = 0
        self._bus = bus
        self._patience = patience
        self._serial = serial
        self._pwm = np.zeros(JOINT_COUNT)
        self._pose_period = self._temperature_period = 0.0
        self._since_pose = self._since_temperature = 0.0
        self._answers = 0
        self._expects_answer = False
        # Whether there is a driver that answers poses: nobody else is waited for.
        self._is_driven = False

    def step(self, positions: ArrayLike, seconds: float) -> Floats:
        """Take what came, send what is due.

        Args:
            positions: Joint positions (16,) at this instant, rad.
            seconds: Length of the physics' step that begins now (s).

        Returns:
            Torques of the motors (16,) for that step, N m.
        """
        self._collect()
        self._since_pose += seconds
        self._since_temperature += seconds
        # Half a step of tolerance: the periods are whole numbers of steps, the sums are not.
        if self._pose_period and self._since_pose > self._pose_period - seconds / 2:
            self._since_pose = 0.0
            self._send_pose(positions)
        period = self._temperature_period
        if period and self._since_temperature > period - seconds / 2:
            self._since_temperature = 0.0
            self._send_temperatures()
        return self.torques()

    def torques(self) -> Floats:
        """Torques that the motors give (16,), N m."""
        if not self.servo_on:
            return np.zeros(JOINT_COUNT)
        return self._pwm / PWM_PER_NEWTON_METRE

    def close(self) -> None:
        """Leave the bus."""
        self._bus.shutdown()

    def _collect(self) -> None:
        """Take all frames that are there, and wait for a driver's answer to the last pose."""
        self._take_all()
        if not self._expects_answer:
            return
        if self._is_driven and self.servo_on:
            end = time.monotonic() + self._patience
            while self._answers != _ALL_FINGERS:
                left = end - time.monotonic()
                if left <= 0:
                    self.stretched += 1
                    break
                # Back soon where nobody is left to answer.
                message = self._receive(min(left, 0.01))
                if message is not None:
                    self._take(message)
                elif not (self._is_driven and self.servo_on and self._is_connected()):
                    break
        self._is_driven = self._answers == _ALL_FINGERS
        self._expects_answer = False

    def _is_connected(self) -> bool:
        return getattr(self._bus, 'connected', True)

    def _take_all(self) -> None:
        while (message := self._receive(0.0)) is not None:
            self._take(message)

    def _receive(self, timeout: float) -> can.Message | None:
        try:
            return self._bus.recv(timeout)
        except can.CanError:
            return None

    def _take(self, message: can.Message) -> None:
        if message.is_extended_id or message.is_error_frame or self.condition.silent:
            return
        identifier, device = split_id(message.arbitration_id)
        if device:
            return
        data = bytes(message.data)
        if message.is_remote_frame:
            self._answer(identifier)
        elif identifier == MessageId.SERVO_ON:
            self.servo_on = True
        elif identifier == MessageId.SERVO_OFF:
            self.servo_on = self._is_driven = False
        elif identifier == MessageId.SET_PERIOD and len(data) == 6:
            position, _, temperature = struct.unpack('<3H', data)
            self._pose_period = position * 1e-3
            self._temperature_period = temperature * 1e-3
        elif 0 <= identifier - MessageId.SET_TORQUE < FINGERS and len(data) == 8:
            finger = identifier - MessageId.SET_TORQUE
            joints = slice(JOINTS_PER_FINGER * finger, JOINTS_PER_FINGER * (finger + 1))
            # The power stage has limits of its own.
            limits = PWM_LIMITS[joints]
            self._pwm[joints] = np.clip(struct.unpack('<4h', data), -limits, limits)
            self._answers |= 1 << finger

    def _answer(self, identifier: int) -> None:
        state = self.condition
        if identifier == MessageId.HAND_INFO:
            status = self.servo_on | state.too_hot << 1 | state.internal_fault << 2
            data = struct.pack(
                '<HHBBB', state.hardware, state.firmware, state.left, state.celsius, status
            )
            self._send(identifier, data)
        elif identifier == MessageId.SERIAL:
            self._send(identifier, self._serial.encode('ascii')[:8].ljust(8, b'\0'))

    def _send_pose(self, positions: ArrayLike) -> None:
        counts = np.rint(np.asarray(positions) / RADIANS_PER_COUNT)
        counts = np.clip(counts, -_COUNT_LIMIT, _COUNT_LIMIT).astype(int).tolist()
        self._answers = 0
        self._expects_answer = True
        for finger in range(FINGERS):
            own = counts[JOINTS_PER_FINGER * finger :][:JOINTS_PER_FINGER]
            self._send(MessageId.FINGER_POSE + finger, struct.pack('<4h', *own))

    def _send_temperatures(self) -> None:
        for finger in range(FINGERS):
            self._send(MessageId.TEMPERATURE + finger, bytes([self.condition.celsius] * 4))

    def _send(self, identifier: int, data: bytes) -> None:
        if self.condition.silent:
            return
        try:
            self._bus.send(
                can.Message(
                    arbitration_id=arbitration_id(identifier), is_extended_id=False, data=data
                )
            )
        except can.CanError:
            # On a bus without anybody a frame is lost.
            self._is_driven = False
