"""The control loop of the hand, on the hand's own clock.

The hand sends the positions of its fingers every 3 ms in four frames; when the last of the four is
in, four frames with torques go back. A timer of our own beside the hand's would beat with it.

The hand keeps the last torques it was sent for as long as its servo is on. So nothing here ends,
by whichever way, without switching the servo off, and while the bus does not take that, it is
tried again.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from allegro_driver.bus import BusError, BusOff, HandBus
from allegro_driver.bus_lease import BusLease
from allegro_driver.joint_servo import JointServo
from allegro_driver.messages import (
    POWERED,
    Alive,
    Command,
    Finish,
    Follow,
    GoTo,
    HandMode,
    HandReport,
    HandSettings,
    SwitchOff,
    SwitchOn,
    Torques,
)
from allegro_driver.protocol import (
    FINGERS,
    JOINT_COUNT,
    JOINTS_PER_FINGER,
    PWM_PER_NEWTON_METRE,
    FingerPose,
    FingerTemperature,
    Frame,
    HandInfo,
    ProtocolError,
    SerialNumber,
    UnsupportedHand,
    ask_info,
    ask_serial,
    check_generation,
    clamp_pwm,
    decode,
    servo_off,
    servo_on,
    set_periods,
    set_torques,
    split_id,
)
from dexwm.control.joint_trajectory_controller import (
    JointTrajectoryController,
    TrajectoryRejected,
)
from dexwm.control.trajectory import JointTrajectory
from dexwm.robot.joints import HAND_JOINTS, robot_limits
from dexwm_franka_bringup.robot_clock import RobotClock

POSE_PERIOD = 0.003
"""Period of the hand's positions, and of the control loop (s)."""

_PERIOD_NS = 3_000_000
_TEMPERATURE_MS = 500
# Of the hand's own time without temperatures; a simulated hand's seconds may be long.
_TEMPERATURE_CYCLES = 4 * _TEMPERATURE_MS // 3
_HEALTH_PERIOD = 0.5
_OFF_RETRY_PERIOD = 0.05
_OFF_ATTEMPTS = 10
_RETRY_PERIOD = 0.5
_STATISTICS_PERIOD = 1.0
_LISTEN = 0.005
# A clock that is off by more was stopped, not late.
_CLOCK_JUMP_NS = 100_000_000
_ALL_FINGERS = (1 << FINGERS) - 1
_SHORTEST_WAY = 0.05


class HandFault(RuntimeError):
    """Why the servo has to go off."""


class HandDriver:
    """Reaches the hand, holds it, moves it as told, and switches it off if anything is wrong.

    For one thread: `step` is called as long as `finished` is false, `close` in any case.

    Attributes:
        finished: Whether it was told to end.
    """

    def __init__(
        self,
        settings: HandSettings,
        open_bus: Callable[[], HandBus] | None = None,
    ) -> None:
        """Prepare; nothing is reached before the first `step`.

        Args:
            settings: How to reach and treat the hand.
            open_bus: Opens the bus; None: as the settings say.
        """
        self.finished = False
        self._settings = settings
        self._open_bus = open_bus or (lambda: HandBus.open(settings.interface, settings.channel))
        self._bus: HandBus | None = None
        self._lease: BusLease | None = None
        self._servo = JointServo(
            settings.stiffness, settings.damping, settings.torque_limits, settings.velocity_cutoff
        )
        self._limits = robot_limits().subset(HAND_JOINTS)
        self._controller = JointTrajectoryController(
            HAND_JOINTS, np.zeros(JOINT_COUNT), self._limits
        )
        self._clock = RobotClock()
        self._report = HandReport(HandMode.CONNECTING)
        self._pose = np.zeros(JOINT_COUNT)
        self._pose_mask = 0
        self._torn = 0
        self._cycles_without_temperature = [0] * FINGERS
        self._info: HandInfo | None = None
        self._torques: Torques | None = None
        self._wanted: SwitchOn | SwitchOff | None = SwitchOn()
        now = time.monotonic()
        self._connect_by = now + settings.connect_timeout
        self._next_try = now
        self._pose_at = self._alive_at = self._torques_at = now
        self._next_health = now
        self._off_pending = self._may_be_on = False
        self._next_off = now
        self._ros_ns = self._cycles_since_ros = 0
        self._periods: deque[float] = deque(maxlen=1000)
        self._next_statistics = now + _STATISTICS_PERIOD

    @property
    def report(self) -> HandReport:
        """The present state."""
        return self._report

    @property
    def powered(self) -> bool:
        """Whether the servo is on."""
        return self._report.mode in POWERED

    def take(self, command: Command) -> None:
        """Obey a command of the node."""
        self._alive_at = time.monotonic()
        match command:
            case Alive():
                if command.ros_ns > self._ros_ns:
                    self._ros_ns, self._cycles_since_ros = command.ros_ns, 0
            case SwitchOn() | SwitchOff():
                self._wanted = command
            case Finish():
                self.finished = True
            case Torques():
                self._take_torques(command)
            case GoTo():
                self._try(lambda: self._way_to(command.positions), 0)
            case Follow():
                self._try(lambda: command.trajectory, command.stamp_ns)

    def step(self) -> None:
        """Take what the bus has, up to the next complete pose, and answer it."""
        try:
            if self._wanted is not None:
                self._switch()
            self._listen()
            self._watch()
        except HandFault as fault:
            self._fail(str(fault))
        except BusError as error:
            self._fail(str(error))

    def close(self) -> bool:
        """Switch the servo off, stop the hand's frames, and leave the bus.

        Returns:
            Whether the bus took the frame that switches off, where the servo had been on.
        """
        for _ in range(_OFF_ATTEMPTS):
            self._try_off()
            if not self._off_pending:
                break
            time.sleep(_OFF_RETRY_PERIOD)
        if self._bus is not None:
            with contextlib.suppress(BusError):
                self._send(set_periods(0, 0, 0, self._settings.device_id))
            self._bus.close()
            self._bus = None
        if self._lease is not None:
            self._lease.close()
            self._lease = None
        if self.powered:
            self._report = replace(self._report, mode=HandMode.OFF, reason='the driver ended')
        return not self._may_be_on

    # Commands

    def _try(self, make: Callable[[], JointTrajectory | None], stamp_ns: int) -> None:
        """Let the controller follow a trajectory, or note why it does not."""
        try:
            if not self.powered:
                raise TrajectoryRejected(
                    f'the hand is {self._report.mode.value} '
                    f'({self._report.reason or "wait for it"}); call ~/recover once the cause '
                    'is removed'
                )
            if self._torques is not None:
                self._torques = None
                self._controller.hold(self._servo.positions)
            self._controller.accept(make(), stamp_ns, self._clock.now_ns)
        except ValueError as error:
            self._report = replace(
                self._report, rejected=self._report.rejected + 1, last_rejection=str(error)
            )

    def _way_to(self, positions: tuple[float, ...]) -> JointTrajectory:
        """A cubic to a posture within the hand's rates, from the desired state of now."""
        here = self._controller.sample(self._clock.now_ns).positions
        way = np.abs(np.asarray(positions) - here)
        if not (way < math.tau).all():
            raise TrajectoryRejected(f'no hand has such a posture: {list(positions)}')
        # Peaks of a cubic from rest to rest over a way s in a time T: 1.5 s/T and 6 s/T^2.
        seconds = max(
            _SHORTEST_WAY,
            float((1.5 * way / self._limits.velocity).max()),
            float(np.sqrt(6.0 * way / self._limits.acceleration).max()),
        )
        goal = np.asarray(positions, dtype=np.float64)[None]
        return JointTrajectory(HAND_JOINTS, np.array([seconds]), goal, np.zeros_like(goal))

    def _take_torques(self, command: Torques) -> None:
        if not self.powered or len(command.torques) != JOINT_COUNT:
            what = f'{len(command.torques)} torques' if self.powered else 'the servo is off'
            self._report = replace(
                self._report, rejected=self._report.rejected + 1, last_rejection=what
            )
            return
        self._torques, self._torques_at = command, time.monotonic()

    # Power

    def _switch(self) -> None:
        """Do what was asked last: on or off."""
        if isinstance(self._wanted, SwitchOff):
            reason, self._wanted = self._wanted.reason, None
            self._power_off(HandMode.OFF, reason)
            return
        now = time.monotonic()
        if self.powered:
            self._wanted = None
        elif now >= self._next_try:
            try:
                self._start()
            except UnsupportedHand as error:
                raise HandFault(str(error)) from error
            except (BusError, HandFault) as error:
                # While it is still early, the hand may only be slow to come up.
                if self._report.mode is not HandMode.CONNECTING or now > self._connect_by:
                    raise
                self._report = replace(self._report, reason=str(error))
                self._next_try = now + _RETRY_PERIOD
                self._try_off()
        else:
            time.sleep(_LISTEN)

    def _start(self) -> None:
        """Find out what the hand is, switch it on, and hold it where it is."""
        device = self._settings.device_id
        self._report = replace(self._report, starts=self._report.starts + 1)
        if self._bus is None:
            self._bus = self._take_bus()
        self._info, self._torques = None, None
        # Frames of another time are in the adapter's buffer.
        while self._bus.receive(0.0) is not None:
            pass
        self._send(servo_off(device))
        self._send(ask_info(device))
        self._send(ask_serial(device))
        self._await(lambda: self._info is not None, 'it does not say what it is')
        assert self._info is not None
        check_generation(self._info)
        if self._info.left:
            raise UnsupportedHand('the hand is a left one; the robot description has a right one')
        self._check_info(self._info)
        self._send(set_periods(round(POSE_PERIOD * 1e3), 0, _TEMPERATURE_MS, device))
        self._send_torques(np.zeros(JOINT_COUNT))
        self._off_pending = self._may_be_on = True
        self._send(servo_on(device))
        self._servo.restart()
        self._pose_mask = self._torn = 0
        self._cycles_without_temperature = [0] * FINGERS
        # Two, for a velocity.
        cycles = self._report.cycles + 2
        self._await(lambda: self._report.cycles >= cycles, 'it sends no positions')
        self._controller.hold(self._servo.positions)
        self._pose_at = self._alive_at = time.monotonic()
        self._next_health = self._pose_at + _HEALTH_PERIOD
        self._info, self._wanted = None, None
        self._report = replace(
            self._report,
            mode=HandMode.HOLDING,
            reason='',
            desired_positions=tuple(self._servo.positions.tolist()),
        )

    def _take_bus(self) -> HandBus:
        """Open the bus, which is this driver's alone from the first time on.

        Raises:
            BusError: It cannot be opened, or another driver has it.
        """
        if self._lease is None:
            self._lease = BusLease(self._settings.interface, self._settings.channel)
        return self._open_bus()

    def _await(self, condition: Callable[[], bool], problem: str) -> None:
        end = time.monotonic() + _HEALTH_PERIOD
        while not condition():
            if time.monotonic() > end:
                raise HandFault(
                    f'the hand does not answer ({problem}): is it powered (12 V), and is its '
                    f'device id {self._settings.device_id}?'
                )
            self._listen()

    def _power_off(self, mode: HandMode, reason: str) -> None:
        self._torques = None
        self._off_pending = True
        self._report = replace(
            self._report, mode=mode, reason=reason, efforts=(0.0,) * JOINT_COUNT
        )
        self._try_off()

    def _fail(self, reason: str) -> None:
        if self._report.mode is HandMode.FAULT and not self._wanted:
            # The first reason is the cause.
            reason = self._report.reason
        self._wanted = None
        self._power_off(HandMode.FAULT, reason)

    def _try_off(self) -> None:
        """Switch the servo off; what the bus does not take is tried again."""
        self._next_off = time.monotonic() + _OFF_RETRY_PERIOD
        try:
            if self._bus is None:
                if not self._off_pending:
                    return
                self._bus = self._take_bus()
            self._send(servo_off(self._settings.device_id))
            self._off_pending = self._may_be_on = False
        except BusError:
            if self._bus is not None:
                self._bus.close()
                self._bus = None

    # Frames

    def _listen(self) -> None:
        """Take frames until a pose is complete, or none comes for a while."""
        if self._bus is None:
            time.sleep(_LISTEN)
            return
        cycles = self._report.cycles
        end = time.monotonic() + _LISTEN
        while self._report.cycles == cycles:
            frame = self._bus.receive(max(0.0, end - time.monotonic()))
            if frame is not None:
                self._take_frame(frame)
            if time.monotonic() >= end:
                return

    def _take_frame(self, frame: Frame) -> None:
        if split_id(frame.arbitration_id)[1] != self._settings.device_id:
            return
        try:
            message = decode(frame)
        except ProtocolError:
            self._report = replace(self._report, foreign_frames=self._report.foreign_frames + 1)
            return
        match message:
            case FingerPose():
                self._take_pose(message)
            case FingerTemperature():
                self._cycles_without_temperature[message.finger] = 0
                first = JOINTS_PER_FINGER * message.finger
                known = list(self._report.temperatures)
                known[first : first + JOINTS_PER_FINGER] = message.celsius
                self._report = replace(self._report, temperatures=tuple(known))
            case HandInfo():
                self._info = message
                self._report = replace(self._report, firmware=message.firmware)
            case SerialNumber():
                self._report = replace(self._report, serial=message.text)

    def _take_pose(self, pose: FingerPose) -> None:
        bit = 1 << pose.finger
        if self._pose_mask & bit:
            # A frame got lost: the set begins anew.
            self._pose_mask = 0
            self._torn += 1
            self._report = replace(self._report, torn_poses=self._report.torn_poses + 1)
        first = JOINTS_PER_FINGER * pose.finger
        self._pose[first : first + JOINTS_PER_FINGER] = pose.positions
        self._pose_mask |= bit
        if self._pose_mask == _ALL_FINGERS:
            periods = 1 + self._torn
            self._pose_mask = self._torn = 0
            self._cycle(periods)

    def _cycle(self, periods: int) -> None:
        """Answer a complete pose; `periods` is how many the hand has had since the last one."""
        now = time.monotonic()
        if self._report.cycles:
            self._periods.append(now - self._pose_at)
        self._pose_at = now
        self._servo.measure(self._pose, periods * POSE_PERIOD)
        self._cycles_since_ros += periods
        self._cycles_without_temperature = [
            cycles + periods for cycles in self._cycles_without_temperature
        ]
        ros_ns = self._now_ns()
        clock_ns = self._clock.advance(periods * _PERIOD_NS, ros_ns)
        if abs(ros_ns - clock_ns) > _CLOCK_JUMP_NS:
            if ros_ns < clock_ns:
                # What was followed until now must not be followed once more.
                self._controller.cancel(clock_ns)
            self._clock.set(ros_ns)
            clock_ns = ros_ns
        mode, efforts = self._report.mode, self._report.efforts
        desired = self._controller.sample(clock_ns)
        if self.powered:
            if self._torques is not None:
                mode, wanted = HandMode.TORQUE, np.array(self._torques.torques)
            else:
                moving = self._controller.is_active(clock_ns)
                mode = HandMode.MOVING if moving else HandMode.HOLDING
                wanted = self._servo.torques(desired.positions, desired.velocities)
            efforts = self._send_torques(wanted)
        self._report = replace(
            self._report,
            mode=mode,
            stamp_ns=ros_ns,
            positions=tuple(self._servo.positions.tolist()),
            velocities=tuple(self._servo.velocities.tolist()),
            efforts=efforts,
            desired_positions=tuple(desired.positions.tolist()),
            cycles=self._report.cycles + 1,
        )

    def _now_ns(self) -> int:
        """ROS time (ns)."""
        if self._settings.robot_time:
            return self._ros_ns + self._cycles_since_ros * _PERIOD_NS
        return time.time_ns()

    def _send_torques(self, torques: np.ndarray) -> tuple[float, ...]:
        """Send torques (16,), N m; return what they became within the limits."""
        pwm = clamp_pwm(torques, self._settings.torque_limits)
        for frame in set_torques(pwm, self._settings.device_id):
            self._send(frame)
        return tuple((pwm / PWM_PER_NEWTON_METRE).tolist())

    def _send(self, frame: Frame) -> None:
        if self._bus is None:
            raise BusOff('the CAN bus is closed')
        self._bus.send(frame)

    # Supervision

    def _watch(self) -> None:
        """Look for what is wrong.

        Raises:
            HandFault: With the reason.
            BusOff: The hand could not be asked how it is.
        """
        now = time.monotonic()
        if now >= self._next_statistics and len(self._periods) > 1:
            self._next_statistics = now + _STATISTICS_PERIOD
            median, high = np.percentile(self._periods, [50, 99])
            self._report = replace(self._report, period_p50=median, period_p99=high)
        if not self.powered:
            if self._off_pending and now >= self._next_off:
                self._try_off()
            self._watch_unpowered(now)
            return
        settings = self._settings
        if now - self._pose_at > settings.pose_timeout:
            raise HandFault(
                f'no positions from the hand for {now - self._pose_at:.3f} s: check its power '
                'and the cable'
            )
        if now - self._alive_at > settings.command_timeout:
            raise HandFault(f'no word from the node for {now - self._alive_at:.3f} s')
        if self._torques is not None and now - self._torques_at > settings.command_timeout:
            raise HandFault(f'no new torques for {now - self._torques_at:.3f} s')
        hottest = int(np.argmax(self._report.temperatures))
        if self._report.temperatures[hottest] >= settings.max_temperature:
            raise HandFault(
                f'the motor of joint_{hottest}.0 has {self._report.temperatures[hottest]} degrees '
                f'Celsius (limit {settings.max_temperature:g}): let it cool down'
            )
        if max(self._cycles_without_temperature) > _TEMPERATURE_CYCLES:
            raise HandFault(
                f'no temperatures of the motors for {_TEMPERATURE_CYCLES * POSE_PERIOD:.1f} s: '
                'they could overheat unseen'
            )
        if self._info is not None:
            info, self._info = self._info, None
            self._check_info(info)
            if not info.servo_on:
                raise HandFault('the hand has switched its servo off by itself')
        self._ask_health(now)

    def _watch_unpowered(self, now: float) -> None:
        if self._info is not None:
            # Whoever switched it on: not this driver.
            self._off_pending |= self._info.servo_on
            self._info = None
        if self._bus is not None and self._report.mode is not HandMode.CONNECTING:
            self._ask_health(now)

    def _ask_health(self, now: float) -> None:
        if now >= self._next_health:
            self._next_health = now + _HEALTH_PERIOD
            self._send(ask_info(self._settings.device_id))

    @staticmethod
    def _check_info(info: HandInfo) -> None:
        if info.too_hot:
            raise HandFault(
                f'the hand reports a motor that is too hot (board: {info.celsius} degrees '
                'Celsius): let it cool down'
            )
        if info.internal_fault:
            raise HandFault(
                'the hand reports a fault of the communication inside it: switch its power off '
                'and on'
            )
