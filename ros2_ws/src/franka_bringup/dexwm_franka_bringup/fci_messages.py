"""What the FCI node and its control process tell each other."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from dexwm.control.trajectory import JointTrajectory
from dexwm.robot.joints import ARM_JOINTS
from dexwm_franka_bringup.arm_config import ArmConfig


class FciMode(enum.Enum):
    """What the control process is doing."""

    CONNECTING = 'connecting to the robot'
    HOLDING = 'holding the arm'
    MOVING = 'following a trajectory'
    FAULT = 'not in control'


@dataclass(frozen=True)
class FciSettings:
    """How to reach and treat the robot; see the parameters of the FCI node.

    Attributes:
        robot_ip: Address of the robot.
        realtime: `enforce` or `ignore`: libfranka's demand for a real-time kernel.
        robot_time: Whether ROS time is the robot's own (a simulated robot), or the system's.
        report_rate: Reports sent back (Hz).
        connect_timeout: How long to try to reach the robot at the start (s).
        joint_stiffness: Stiffness of the joint impedance controller (7), N m/rad.
        arm: Load on the flange, and what counts as contact and as collision.
    """

    robot_ip: str
    realtime: str
    robot_time: bool
    report_rate: float
    connect_timeout: float
    joint_stiffness: tuple[float, ...]
    arm: ArmConfig

    def __post_init__(self) -> None:
        if self.realtime not in ('enforce', 'ignore'):
            raise ValueError(f'realtime is {self.realtime!r}; it must be enforce or ignore.')
        stiffness = self.joint_stiffness
        if len(stiffness) != len(ARM_JOINTS) or not all(value > 0 for value in stiffness):
            raise ValueError(
                f'joint_stiffness needs {len(ARM_JOINTS)} positive numbers, got {list(stiffness)}.'
            )


@dataclass(frozen=True)
class Follow:
    """Follow a trajectory of the seven joints.

    Attributes:
        trajectory: What to follow.
        stamp_ns: When it starts, in the control loop's time (ns); 0 means at the splice.
        splice_ns: When it replaces the trajectory before (ns).
    """

    trajectory: JointTrajectory
    stamp_ns: int
    splice_ns: int


@dataclass(frozen=True)
class Recover:
    """Clear the robot's errors and take control again, where the arm stands."""


@dataclass(frozen=True)
class Finish:
    """Hand the arm back to the robot's own brakes as soon as it rests, and end."""


@dataclass(frozen=True)
class Report:
    """State of the robot and of the control of it. Nothing gets lost with a missed report.

    Attributes:
        mode: What the control process is doing.
        reason: Why it is not in control; empty if it is.
        stamp_ns: ROS time of the robot state (ns).
        clock_ns: Time in which trajectories are followed (ns); see `RobotClock`.
        positions: Measured joint positions (7), rad.
        velocities: Measured joint velocities (7), rad/s.
        efforts: Measured joint torques (7), N m.
        desired_positions: Commanded joint positions (7), rad.
        load: Mass that the robot believes to carry beyond the flange, kg.
        robot_mode: libfranka's name of the robot's mode.
        success_rate: Fraction of the last 100 commands that reached the robot in time.
        cycles: Control cycles since the start.
        missed_cycles: Milliseconds of the robot without a command of ours since the start.
        recoveries: How often a recovery was tried.
        rejected: Trajectories refused by the control process.
        last_rejection: The reason of the last of them.
        real_time_priority: Whether the control process runs with real-time priority.
    """

    mode: FciMode
    reason: str = ''
    stamp_ns: int = 0
    clock_ns: int = 0
    positions: tuple[float, ...] = field(default=(0.0,) * 7)
    velocities: tuple[float, ...] = field(default=(0.0,) * 7)
    efforts: tuple[float, ...] = field(default=(0.0,) * 7)
    desired_positions: tuple[float, ...] = field(default=(0.0,) * 7)
    load: float = 0.0
    robot_mode: str = ''
    success_rate: float = 0.0
    cycles: int = 0
    missed_cycles: int = 0
    recoveries: int = 0
    rejected: int = 0
    last_rejection: str = ''
    real_time_priority: bool = False
