"""The trajectory node's parameters."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.node import Node

from dexwm.control.plan_checks import MARGIN_ARM, MARGIN_HAND, MAX_FIRST_STEP

STREAMING = 'streaming'
FOLLOW_JOINT_TRAJECTORY = 'follow_joint_trajectory'
COMMAND_INTERFACES = (STREAMING, FOLLOW_JOINT_TRAJECTORY)
"""What the parameter `command_interface` may be."""

NO_RECOVERY = 'none'
RECOVERY_BY_FCI_NODE = 'fci'
RECOVERY_BY_FRANKA_ROS2 = 'franka_ros2'
RECOVERIES = (NO_RECOVERY, RECOVERY_BY_FCI_NODE, RECOVERY_BY_FRANKA_ROS2)
"""What the parameter `recovery` may be."""


class TrajectoryConfigError(ValueError):
    """The parameters ask for what can never work."""


class TrajectoryParameters:
    """Declares the parameters on a node and reads them.

    All but `speed_scale` are read once, at the start.

    Attributes:
        arm_controller: name of the arm's joint trajectory controller.
        hand_controller: name of the hand's.
        command_interface: how they are commanded, one of `COMMAND_INTERFACES`.
        chunk_period: time between two pieces of motion, s.
        chunk_horizon: how far ahead of the present a piece goes on before its stop ramp, s.
        lead: time that a message needs to a controller at most, s.
        margin_arm: kept from the arm's position limits, rad.
        margin_hand: kept from the hand's, rad.
        clearance: kept between bodies, m.
        max_first_step: largest distance to a plan's first waypoint, rad.
        max_plan_age: age of the picture that a plan was made from at which it is refused, s.
        tracking_tolerance_arm: largest distance of measured from commanded position, rad.
        tracking_tolerance_hand: the same; infinite where the parameter is 0.
        joint_state_timeout: age of joint states at which a motion stops, s.
        heartbeats: topics that must keep coming during a motion.
        heartbeat_timeout: silence on one of them at which a motion stops, s.
        drivers: names of the diagnostic statuses of drivers that must be well.
        driver_timeout: time without such a status at which a motion stops, s.
        clock_tolerance: jump of the clock at which a motion stops, s.
        keep_out_depth: how deep a measured body may be in one of the cell's boxes, m.
        hold_after_fault: whether a motion that a fault ended needs ~/resume before the next.
        confirm: whether a person confirms each execution.
        confirm_timeout: how long the question stands, s.
        recovery: how the arm is recovered, one of `RECOVERIES`.
        hand_recovery: service of the hand's driver that recovers the hand; empty for none.
        robot_description: URDF; empty for the package dexwm_franka_bringup's.
        cell_config: path of the cell's YAML file; empty for that package's.

    Raises:
        TrajectoryConfigError: where parameters contradict each other.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        node.declare_parameter(
            'speed_scale',
            0.2,
            ParameterDescriptor(
                description='part of the velocity limits that motions use unless a goal says',
                floating_point_range=[FloatingPointRange(from_value=0.01, to_value=1.0)],
            ),
        )
        self.arm_controller = self._text('arm_controller', 'fr3_arm_controller', 'of the arm')
        self.hand_controller = self._text(
            'hand_controller', 'allegro_hand_controller', 'of the hand'
        )
        self.command_interface = self._text(
            'command_interface', STREAMING, ' or '.join(COMMAND_INTERFACES)
        )
        if self.command_interface not in COMMAND_INTERFACES:
            raise TrajectoryConfigError(
                f'command_interface is {" or ".join(COMMAND_INTERFACES)}, '
                f'not {self.command_interface!r}'
            )
        self.chunk_period = self._real(
            'chunk_period', 0.05, 0.01, 0.2, 'time between two pieces of motion, s'
        )
        self.chunk_horizon = self._real(
            'chunk_horizon', 0.15, 0.05, 1.0, 'motion in a piece before its stop ramp, s'
        )
        self.lead = self._real('lead', 0.03, 0.01, 0.2, 'time for a message to a controller, s')
        if self.chunk_horizon < self.chunk_period + self.lead:
            raise TrajectoryConfigError(
                f'chunk_horizon ({self.chunk_horizon} s) must be at least chunk_period + lead '
                f'({self.chunk_period} s + {self.lead} s), or the robot stops between pieces'
            )
        self.margin_arm = self._real(
            'margin_arm', MARGIN_ARM, 0.0, 0.3, "kept from the arm's position limits, rad"
        )
        self.margin_hand = self._real(
            'margin_hand', MARGIN_HAND, 0.0, 0.1, "kept from the hand's position limits, rad"
        )
        self.clearance = self._real('clearance', 0.0, 0.0, 0.1, 'kept between bodies, m')
        self.max_first_step = self._real(
            'max_first_step',
            MAX_FIRST_STEP,
            0.01,
            6.0,
            "largest distance to a plan's first waypoint, rad",
        )
        self.max_plan_age = self._real(
            'max_plan_age',
            180.0,
            0.1,
            3600.0,
            'age of the picture behind a plan that is refused, s; the time that planning and '
            "a person's confirmation take counts",
        )
        self.tracking_tolerance_arm = self._real(
            'tracking_tolerance_arm', 0.2, 0.01, 1.0, 'measured from commanded, rad'
        )
        hand = self._real(
            'tracking_tolerance_hand',
            0.0,
            0.0,
            3.0,
            'measured from commanded, rad; 0: any, for a grasp holds the fingers back',
        )
        self.tracking_tolerance_hand = hand or float('inf')
        self.joint_state_timeout = self._real(
            'joint_state_timeout', 0.1, 0.01, 5.0, 'age of joint states that stops a motion, s'
        )
        self.heartbeats: list[str] = list(
            self._declare(
                'heartbeats',
                ['/camera/color/camera_info'],
                'CameraInfo topics that must keep coming during a motion; [""] for none',
            )
        )
        self.heartbeats = [topic for topic in self.heartbeats if topic]
        self.heartbeat_timeout = self._real(
            'heartbeat_timeout', 0.3, 0.05, 10.0, 'silence on one that stops a motion, s'
        )
        self.drivers: list[str] = [
            name
            for name in self._declare(
                'drivers', [''], 'names of diagnostic statuses that must not be errors; [""]: none'
            )
            if name
        ]
        self.driver_timeout = self._real(
            'driver_timeout', 2.5, 0.1, 60.0, 'silence of a driver that stops a motion, s'
        )
        self.clock_tolerance = self._real(
            'clock_tolerance', 0.1, 0.02, 10.0, 'jump of the clock that stops a motion, s'
        )
        self.keep_out_depth = self._real(
            'keep_out_depth', 0.01, 0.001, 0.5, 'depth in a box of the cell that stops, m'
        )
        self.hold_after_fault = bool(
            self._declare(
                'hold_after_fault', True, 'a motion that a fault ended needs ~/resume after it'
            )
        )
        self.confirm = bool(
            self._declare('confirm', False, 'a person confirms each execution by ~/confirm')
        )
        self.confirm_timeout = self._real(
            'confirm_timeout', 30.0, 1.0, 600.0, 'how long a plan waits to be confirmed, s'
        )
        self.recovery = self._text('recovery', NO_RECOVERY, ' or '.join(RECOVERIES))
        if self.recovery not in RECOVERIES:
            raise TrajectoryConfigError(
                f'recovery is {" or ".join(RECOVERIES)}, not {self.recovery!r}'
            )
        self.hand_recovery = self._text(
            'hand_recovery', '', "service (Trigger) of the hand's driver that recovers the hand"
        )
        self.robot_description = self._text(
            'robot_description', '', "URDF with meshes; empty: dexwm_franka_bringup's"
        )
        self.cell_config = self._text(
            'cell_config', '', "the cell's YAML file; empty: the one of dexwm_franka_bringup"
        )

    @property
    def speed_scale(self) -> float:
        """Part of the velocity limits to use; may change at run time."""
        return float(self._node.get_parameter('speed_scale').value)

    def _declare(self, name: str, default: Any, description: str, **ranges: Any) -> Any:
        descriptor = ParameterDescriptor(description=description, read_only=True, **ranges)
        return self._node.declare_parameter(name, default, descriptor).value

    def _text(self, name: str, default: str, description: str) -> str:
        return str(self._declare(name, default, description))

    def _real(
        self, name: str, default: float, lowest: float, highest: float, description: str
    ) -> float:
        span = FloatingPointRange(from_value=lowest, to_value=highest)
        return float(self._declare(name, default, description, floating_point_range=[span]))
