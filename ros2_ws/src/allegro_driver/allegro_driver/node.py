"""The hand node: drives an Allegro hand V4 on a CAN bus, as a joint trajectory controller would.

Takes `/allegro_hand_controller/joint_trajectory`, publishes the hand's `/joint_states`,
`/desired_joint_states` while it holds or moves the fingers, and `/diagnostics`. For programs made
for SimLab's and Wonik's drivers there are `~/joint_cmd` (positions or efforts) and `~/lib_cmd` (a
posture by name, or `off`); remap them to the names that such a program uses. `~/off` takes the
motors' power away; after that, and after a fault, only `~/recover` gives it back.
"""

from __future__ import annotations

import contextlib

from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import FloatingPointRange, IntegerRange
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMessage

from allegro_driver.hand_process import ControlProcessHangs, HandProcess
from allegro_driver.joint_command import InvalidJointCommand, parse_joint_command
from allegro_driver.messages import (
    POWERED,
    Alive,
    Command,
    Follow,
    GoTo,
    HandMode,
    HandReport,
    HandSettings,
    SwitchOff,
)
from allegro_driver.postures import POSTURES
from dexwm.control.trajectory import InvalidTrajectory
from dexwm.control.trajectory_message import nanoseconds, parse_trajectory
from dexwm.robot.joints import HAND_JOINTS
from dexwm_franka_bringup.driver_node import CycleRate, DriverNode, key_values, run_driver

CONTROLLER = 'allegro_hand_controller'
_ALIVE_PERIOD = 0.02
_OFF_TIMEOUT = 1.0
_RECOVERY_TIMEOUT = 5.0
_LOW_RATE = 300.0


class HandNode(DriverNode):
    """Passes trajectories to the hand and its state to the graph."""

    def __init__(self) -> None:
        """Start the control process.

        Raises:
            ValueError: If a parameter cannot be used.
        """
        super().__init__('hand')
        settings = self._declare()
        self._accepted = self._rejected = 0
        self._last_rejection = ''
        self._seen = HandReport(HandMode.CONNECTING)
        self._cycle_rate = CycleRate()
        self._hand = HandProcess(settings, self._take_report)
        self.create_subscription(
            JointTrajectoryMessage, f'/{CONTROLLER}/joint_trajectory', self._take_trajectory, 10
        )
        self.create_subscription(JointState, '~/joint_cmd', self._take_joint_command, 10)
        self.create_subscription(String, '~/lib_cmd', self._take_name, 10)
        self.create_service(Trigger, '~/off', self._off)
        self.create_service(Trigger, '~/recover', self._recover)
        # On the wall's clock: a simulated robot's seconds may be long.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_ALIVE_PERIOD, self._say_alive, clock=steady)
        self.create_timer(1.0, self._diagnose, clock=steady)
        self._hand.start()

    def check(self) -> None:
        """Raise if the control process has ended.

        Raises:
            ControlProcessError: It has.
        """
        self._hand.check()

    def destroy_node(self) -> None:
        """Switch the servo off."""
        problem = self._hand.close()
        if problem:
            self.get_logger().error(problem)
        super().destroy_node()

    def _declare(self) -> HandSettings:
        def between(lower: float, upper: float) -> list[FloatingPointRange]:
            return [FloatingPointRange(from_value=lower, to_value=upper)]

        declare, defaults = self.declare, HandSettings('', '')
        return HandSettings(
            interface=declare(
                'interface',
                'socketcan',
                'The CAN bus: socketcan, or unix (a simulated hand on this machine).',
            ),
            channel=declare('channel', 'can0', 'Network interface, or path of the socket.'),
            device_id=declare(
                'device_id',
                defaults.device_id,
                "The hand's device id on the bus.",
                integer_range=[IntegerRange(from_value=0, to_value=3)],
            ),
            robot_time=self.get_parameter('use_sim_time').value,
            report_rate=declare(
                'joint_state_rate',
                defaults.report_rate,
                'Rate of /joint_states (Hz).',
                floating_point_range=between(1.0, 333.0),
            ),
            connect_timeout=declare(
                'connect_timeout',
                defaults.connect_timeout,
                'How long to try to reach the hand at the start (s).',
                floating_point_range=between(0.1, 3600.0),
            ),
            command_timeout=declare(
                'command_timeout',
                defaults.command_timeout,
                'Silence of this node, or of a sender of efforts, after which the servo goes off '
                '(s).',
                floating_point_range=between(0.05, 10.0),
            ),
            pose_timeout=declare(
                'pose_timeout',
                defaults.pose_timeout,
                'Silence of the hand after which the servo goes off (s).',
                floating_point_range=between(0.01, 10.0),
            ),
            max_temperature=declare(
                'max_temperature',
                defaults.max_temperature,
                'Temperature of a motor at which the servo goes off (degrees Celsius).',
                floating_point_range=between(30.0, 90.0),
            ),
            velocity_cutoff=declare(
                'velocity_cutoff',
                defaults.velocity_cutoff,
                'Cut-off of the low-pass of the velocities (Hz).',
                floating_point_range=between(1.0, 166.0),
            ),
            stiffness=declare(
                'stiffness', list(defaults.stiffness), 'Proportional gains (N m/rad).'
            ),
            damping=declare('damping', list(defaults.damping), 'Derivative gains (N m s/rad).'),
            torque_limits=declare(
                'torque_limits', list(defaults.torque_limits), 'Largest torques (N m).'
            ),
        )

    # Commands

    def _take_trajectory(self, message: JointTrajectoryMessage) -> None:
        try:
            trajectory = parse_trajectory(message)
        except InvalidTrajectory as error:
            self._refuse(CONTROLLER, error)
            return
        self._send(CONTROLLER, Follow(trajectory, nanoseconds(message.header.stamp)))

    def _take_joint_command(self, message: JointState) -> None:
        try:
            command = parse_joint_command(message)
        except InvalidJointCommand as error:
            self._refuse('joint_cmd', error)
            return
        self._send('joint_cmd', command)

    def _take_name(self, message: String) -> None:
        if message.data == 'off':
            self._send('lib_cmd', SwitchOff())
        elif message.data in POSTURES:
            self._send('lib_cmd', GoTo(tuple(POSTURES[message.data].tolist())))
        else:
            known = ', '.join([*POSTURES, 'off'])
            self._refuse('lib_cmd', ValueError(f'there is no {message.data!r}; known: {known}'))

    def _send(self, what: str, command: Command) -> None:
        try:
            self._hand.send(command)
        except ControlProcessHangs as error:
            self._refuse(what, error)
            return
        self._accepted += 1

    def _refuse(self, what: str, error: Exception) -> None:
        self._rejected += 1
        self._last_rejection = str(error)
        self.get_logger().warning(f'{what} refused: {error}')

    def _off(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = self._hand.switch_off(_OFF_TIMEOUT)
        return response

    def _recover(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        # Meanwhile this thread cannot say that it lives, and the servo is off.
        problem = self._hand.recover(_RECOVERY_TIMEOUT)
        response.success = not problem
        response.message = problem or 'The servo is on and holds the fingers.'
        # Who asked may want to go on at once.
        self._diagnose()
        return response

    def _say_alive(self) -> None:
        known = self._hand.hung
        self._hand.watch()
        if self._hand.hung not in ('', known):
            self.get_logger().error(self._hand.hung)
            self._diagnose()
        # One that hangs has no use for it.
        with contextlib.suppress(ControlProcessHangs):
            self._hand.send(Alive(self.get_clock().now().nanoseconds))

    # Reports

    def _take_report(self, report: HandReport) -> None:
        """Publish a report's state and log what changed; called from the reader thread."""
        seen, self._seen = self._seen, report
        if (report.mode in POWERED) != (seen.mode in POWERED):
            # Whoever moves the robot must know at once, and before the hand is seen to be there.
            self._diagnose()
        if report.stamp_ns > seen.stamp_ns:
            if report.mode in (HandMode.HOLDING, HandMode.MOVING):
                self.publish_references(HAND_JOINTS, report.stamp_ns, report.desired_positions)
            self.publish_joints(
                HAND_JOINTS,
                report.stamp_ns,
                report.positions,
                report.velocities,
                report.efforts,
            )
        if report.rejected > seen.rejected:
            self.get_logger().warning(f'{CONTROLLER} refused: {report.last_rejection}')
        if (report.mode in POWERED, report.reason) == (seen.mode in POWERED, seen.reason):
            return
        if report.mode in POWERED:
            priority = '' if report.real_time_priority else ', without real-time priority'
            self.get_logger().info(f'The servo is on, hand {report.serial}{priority}')
        elif report.mode is HandMode.FAULT:
            self.get_logger().error(
                f'The servo is off: {report.reason}. Remove the cause, then call ~/recover.'
            )
        elif report.mode is HandMode.OFF:
            self.get_logger().warning(report.reason)
        elif report.reason:
            self.get_logger().info(f'Waiting for the hand: {report.reason}')

    def _diagnose(self) -> None:
        report = self._hand.report
        rate = self._cycle_rate.update(report.cycles)
        status = DiagnosticStatus(name='hand: can', hardware_id=report.serial or 'Allegro V4')
        status.level, status.message = DiagnosticStatus.OK, report.mode.value
        if self._hand.hung:
            status.level, status.message = DiagnosticStatus.ERROR, self._hand.hung
        elif report.mode in (HandMode.FAULT, HandMode.OFF):
            status.level = DiagnosticStatus.ERROR
            status.message = f'the servo is off: {report.reason}'
        elif report.mode is HandMode.CONNECTING:
            # Nothing can move yet, and nothing is wrong yet.
            status.level = DiagnosticStatus.STALE
            status.message = report.reason or report.mode.value
        elif self._cycle_rate.is_settled and rate < _LOW_RATE:
            status.level = DiagnosticStatus.WARN
            status.message = f'{report.mode.value}; only {rate:.0f} cycles a second'
        status.values = key_values(
            {
                'mode': report.mode.name.lower(),
                'reason': report.reason,
                'cycle_rate': f'{rate:.1f}',
                'cycle_period_p50_ms': f'{report.period_p50 * 1e3:.3f}',
                'cycle_period_p99_ms': f'{report.period_p99 * 1e3:.3f}',
                'cycles': report.cycles,
                'torn_poses': report.torn_poses,
                'foreign_frames': report.foreign_frames,
                'hottest_motor': max(report.temperatures),
                'firmware': f'{report.firmware:#06x}',
                'real_time_priority': report.real_time_priority,
                'accepted': self._accepted,
                'rejected': self._rejected + report.rejected,
                'last_rejection': report.last_rejection or self._last_rejection,
            }
        )
        self.publish_diagnostics(status)


def main() -> int:
    """Run the node until it is told to stop; the servo is off when it ends."""
    return run_driver('hand', HandNode)
