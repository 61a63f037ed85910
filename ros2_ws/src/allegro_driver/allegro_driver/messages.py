"""What the hand node and its control process tell each other."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field

from allegro_driver.protocol import JOINT_COUNT, TORQUE_LIMITS
from dexwm.control.trajectory import JointTrajectory

# Softer than SimLab's for the V4, which are 3.3 N m/rad and 0.125 to 0.25 N m s/rad: bus and
# filter delay what the damping answers to.
STIFFNESS = (3.0,) * JOINT_COUNT
DAMPING = (0.08,) * JOINT_COUNT


class HandMode(enum.Enum):
    """What the control process is doing."""

    CONNECTING = 'connecting to the hand'
    HOLDING = 'holding the fingers'
    MOVING = 'following a trajectory'
    TORQUE = 'passing torques on'
    OFF = 'switched off'
    FAULT = 'off after a fault'


POWERED = (HandMode.HOLDING, HandMode.MOVING, HandMode.TORQUE)
"""Modes in which the motors have power."""


@dataclass(frozen=True)
class HandSettings:
    """How to reach and treat the hand; see the parameters of the hand node.

    Attributes:
        interface: Kind of the CAN bus; see `HandBus.open`.
        channel: Its name.
        device_id: The hand's device id on the bus.
        robot_time: Whether ROS time is the hand's own (a simulated one), or the system's.
        report_rate: Reports sent back (Hz).
        connect_timeout: How long to wait for the hand's first answers (s).
        command_timeout: Silence of the node after which the servo goes off (s).
        pose_timeout: Silence of the hand after which the servo goes off (s).
        max_temperature: Temperature of a motor at which the servo goes off, degrees Celsius.
        velocity_cutoff: Cut-off of the filter of the velocities (Hz).
        stiffness: Proportional gains (16,), N m/rad.
        damping: Derivative gains (16,), N m s/rad.
        torque_limits: Largest torques (16,), N m, up to those of the protocol.
    """

    interface: str
    channel: str
    device_id: int = 0
    robot_time: bool = False
    report_rate: float = 100.0
    connect_timeout: float = 5.0
    command_timeout: float = 0.1
    pose_timeout: float = 0.05
    max_temperature: float = 70.0
    velocity_cutoff: float = 30.0
    stiffness: tuple[float, ...] = STIFFNESS
    damping: tuple[float, ...] = DAMPING
    torque_limits: tuple[float, ...] = tuple(TORQUE_LIMITS.tolist())

    def __post_init__(self) -> None:
        for name in (
            'report_rate',
            'connect_timeout',
            'command_timeout',
            'pose_timeout',
            'max_temperature',
            'velocity_cutoff',
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f'{name} must be positive, got {value}.')
        for name in ('stiffness', 'damping', 'torque_limits'):
            values = getattr(self, name)
            if len(values) != JOINT_COUNT or not all(0 <= v < math.inf for v in values):
                raise ValueError(
                    f'{name} needs {JOINT_COUNT} numbers that are not negative, '
                    f'got {list(values)}.'
                )
        for joint, (value, limit) in enumerate(
            zip(self.torque_limits, TORQUE_LIMITS, strict=True)
        ):
            if value > limit + 1e-9:
                raise ValueError(
                    f'torque_limits of joint_{joint}.0 is {value} N m; '
                    f'the hand allows {limit:.4f}.'
                )


@dataclass(frozen=True)
class Alive:
    """The node lives.

    Attributes:
        ros_ns: ROS time (ns), the hand's own where that is simulated.
    """

    ros_ns: int


@dataclass(frozen=True)
class Follow:
    """Follow a trajectory of the 16 joints.

    Attributes:
        trajectory: What to follow; None cancels: the desired position is held.
        stamp_ns: When it starts, in ROS time (ns); 0 means now.
    """

    trajectory: JointTrajectory | None
    stamp_ns: int = 0


@dataclass(frozen=True)
class GoTo:
    """Go to a posture by the hand's velocity limits, from wherever a motion is.

    Attributes:
        positions: The posture (16,), rad.
    """

    positions: tuple[float, ...]


@dataclass(frozen=True)
class Torques:
    """Pass torques on until the next ones, but for no longer than the command timeout.

    Attributes:
        torques: Torques (16,), N m; they are clamped as all are.
    """

    torques: tuple[float, ...]


@dataclass(frozen=True)
class SwitchOff:
    """Take the motors' power away.

    Attributes:
        reason: Why, and what to do.
    """

    reason: str = 'switched off by ~/off; call ~/recover to switch on'


@dataclass(frozen=True)
class SwitchOn:
    """Give the motors power, and hold the fingers where they are; clears a fault."""


@dataclass(frozen=True)
class Finish:
    """Switch off and end."""


Command = Alive | Follow | GoTo | Torques | SwitchOff | SwitchOn | Finish


@dataclass(frozen=True)
class HandReport:
    """State of the hand and of the control of it. Nothing gets lost with a missed report.

    Attributes:
        mode: What the control process is doing.
        reason: Why the servo is off; empty if it is on.
        stamp_ns: ROS time of the positions (ns); 0 before the first.
        positions: Measured joint positions (16,), rad.
        velocities: Filtered joint velocities (16,), rad/s.
        efforts: Torques last sent (16,), N m: the V4 measures none.
        desired_positions: Joint positions to be (16,), rad.
        temperatures: Of the motors (16,), degrees Celsius; 0 before the first.
        cycles: Control cycles since the start.
        torn_poses: Sets of four pose frames that were incomplete, since the start.
        foreign_frames: Frames that are none of a V4's, since the start.
        starts: How often the servo was to be switched on.
        rejected: Trajectories refused.
        last_rejection: The reason of the last of them.
        serial: Serial number of the hand.
        firmware: Its firmware's version.
        real_time_priority: Whether the control process runs with real-time priority.
        period_p50: Median time between control cycles (s), of the last thousand.
        period_p99: 99th percentile of the same (s).
    """

    mode: HandMode
    reason: str = ''
    stamp_ns: int = 0
    positions: tuple[float, ...] = field(default=(0.0,) * JOINT_COUNT)
    velocities: tuple[float, ...] = field(default=(0.0,) * JOINT_COUNT)
    efforts: tuple[float, ...] = field(default=(0.0,) * JOINT_COUNT)
    desired_positions: tuple[float, ...] = field(default=(0.0,) * JOINT_COUNT)
    temperatures: tuple[int, ...] = field(default=(0,) * JOINT_COUNT)
    cycles: int = 0
    torn_poses: int = 0
    foreign_frames: int = 0
    starts: int = 0
    rejected: int = 0
    last_rejection: str = ''
    serial: str = ''
    firmware: int = 0
    real_time_priority: bool = False
    period_p50: float = 0.0
    period_p99: float = 0.0
