"""The FCI node: drives an FR3 through libfranka, as a joint trajectory controller would.

For a robot PC without ros2_control. Takes `/fr3_arm_controller/joint_trajectory`, publishes the
arm's `/joint_states` and `/diagnostics`. A reflex ends the motion and is reported with its
reason; only the service `~/recover` takes control again, holding where the arm stands. With
`use_sim_time`, ROS time is taken to be the robot's own clock, as the simulated robot has it.
"""

from __future__ import annotations

import importlib.util

from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import FloatingPointRange
from rclpy.clock import Clock, ClockType
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMessage

from dexwm.control.joint_trajectory_controller import TrajectoryRejected
from dexwm.control.trajectory import InvalidTrajectory
from dexwm.control.trajectory_message import nanoseconds, parse_trajectory
from dexwm.robot.joints import ARM_JOINTS
from dexwm_franka_bringup.arm_config import load_arm_config
from dexwm_franka_bringup.driver_node import CycleRate, DriverNode, key_values, run_driver
from dexwm_franka_bringup.fci_arm import SILENT_AFTER, FciArm
from dexwm_franka_bringup.fci_messages import FciMode, FciSettings, Report

CONTROLLER = 'fr3_arm_controller'
RECOVERY_TIMEOUT = 10.0

_LOW_SUCCESS_RATE = 0.9


class FciNode(DriverNode):
    """Passes trajectories to the arm and its state to the graph."""

    def __init__(self) -> None:
        """Start the control process.

        Raises:
            ValueError: If a parameter cannot be used.
            RuntimeError: If libfranka's binding is missing.
        """
        if importlib.util.find_spec('pylibfranka') is None:
            raise RuntimeError(
                "The FCI node needs libfranka's Python binding: pip install pylibfranka"
            )
        super().__init__('fci')
        settings = self._declare()
        self._accepted = self._rejected = 0
        self._last_rejection = ''
        self._seen = Report(FciMode.CONNECTING)
        self._cycle_rate = CycleRate()
        self._arm = FciArm(settings, self._take_report)
        self.create_subscription(
            JointTrajectoryMessage,
            f'/{CONTROLLER}/joint_trajectory',
            self._take,
            10,
        )
        self.create_service(Trigger, '~/recover', self._recover)
        # On the wall's clock: a simulated robot's seconds may be long.
        self.create_timer(1.0, self._diagnose, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._arm.start()

    def check(self) -> None:
        """Raise if the control process has ended.

        Raises:
            ControlProcessError: It has.
        """
        self._arm.check()

    def destroy_node(self) -> None:
        """Brake to rest and hand the arm back."""
        self._arm.close()
        super().destroy_node()

    def _declare(self) -> FciSettings:
        declare = self.declare

        def positive(upper: float) -> list[FloatingPointRange]:
            return [FloatingPointRange(from_value=1.0, to_value=upper)]

        # The stiffness is that of libfranka's examples (setDefaultBehavior).
        return FciSettings(
            robot_ip=declare('robot_ip', '127.0.0.1', 'Address of the robot.'),
            realtime=declare(
                'realtime',
                'enforce',
                'enforce or ignore: whether libfranka insists on a real-time kernel.',
            ),
            robot_time=self.get_parameter('use_sim_time').value,
            report_rate=declare(
                'joint_state_rate',
                100.0,
                'Rate of /joint_states (Hz).',
                floating_point_range=positive(1000.0),
            ),
            connect_timeout=declare(
                'connect_timeout',
                30.0,
                'How long to try to reach the robot at the start (s).',
                floating_point_range=positive(3600.0),
            ),
            joint_stiffness=declare(
                'joint_stiffness',
                [3000.0, 3000.0, 3000.0, 2500.0, 2500.0, 2000.0, 2000.0],
                'Stiffness of the joint impedance controller (N m/rad).',
            ),
            arm=load_arm_config(
                declare(
                    'arm_config',
                    '',
                    'YAML file with load and collision thresholds; empty: the installed arm.yaml.',
                )
            ),
        )

    def _take(self, message: JointTrajectoryMessage) -> None:
        try:
            self._arm.accept(parse_trajectory(message), nanoseconds(message.header.stamp))
            self._accepted += 1
        except (InvalidTrajectory, TrajectoryRejected) as error:
            self._rejected += 1
            self._last_rejection = str(error)
            self.get_logger().warning(f'{CONTROLLER} rejected a trajectory: {error}')

    def _take_report(self, report: Report) -> None:
        """Publish a report's state and log what changed; called from the reader thread."""
        if report.stamp_ns > self._seen.stamp_ns:
            if report.mode in (FciMode.HOLDING, FciMode.MOVING):
                self.publish_references(ARM_JOINTS, report.stamp_ns, report.desired_positions)
            self.publish_joints(
                ARM_JOINTS,
                report.stamp_ns,
                report.positions,
                report.velocities,
                report.efforts,
            )
        seen, self._seen = self._seen, report
        if (report.mode is FciMode.FAULT) != (seen.mode is FciMode.FAULT):
            # Whoever moves the arm must know at once.
            self._diagnose()
        if report.rejected > seen.rejected:
            self.get_logger().warning(
                f'{CONTROLLER} rejected a trajectory: {report.last_rejection}'
            )
        if (report.mode is FciMode.FAULT, report.reason) != (
            seen.mode is FciMode.FAULT,
            seen.reason,
        ):
            if report.mode is FciMode.FAULT:
                self.get_logger().error(
                    f'Not in control of the arm: {report.reason.rstrip(".")}. Remove the cause, '
                    'then call ~/recover.'
                )
            elif report.reason:
                self.get_logger().warning(report.reason)
            else:
                priority = '' if report.real_time_priority else ', without real-time priority'
                self.get_logger().info(f'In control of the arm{priority}')

    def _recover(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        problem = self._arm.recover(RECOVERY_TIMEOUT)
        response.success = not problem
        response.message = problem or 'In control of the arm.'
        return response

    def _diagnose(self) -> None:
        report = self._arm.report
        rate = self._cycle_rate.update(report.cycles)
        status = DiagnosticStatus(name='fci: arm', hardware_id='FR3')
        status.level, status.message = DiagnosticStatus.OK, report.mode.value
        if report.mode is FciMode.FAULT:
            status.level, status.message = DiagnosticStatus.ERROR, report.reason
        elif report.mode is FciMode.CONNECTING:
            status.level = DiagnosticStatus.WARN
            status.message = report.reason or report.mode.value
        elif self._arm.silence() > SILENT_AFTER:
            status.level, status.message = DiagnosticStatus.STALE, 'no news of the control process'
        elif report.success_rate < _LOW_SUCCESS_RATE:
            status.level = DiagnosticStatus.WARN
            status.message = report.reason or f'{report.mode.value}; commands get lost'
        status.values = key_values(
            {
                'mode': report.mode.name.lower(),
                'robot_mode': report.robot_mode,
                'load_kg': f'{report.load:.3f}',
                'reason': report.reason,
                'cycle_rate': f'{rate:.1f}',
                'success_rate': f'{report.success_rate:.3f}',
                'cycles': report.cycles,
                'missed_cycles': report.missed_cycles,
                'real_time_priority': report.real_time_priority,
                'accepted': self._accepted,
                'rejected': self._rejected + report.rejected,
                'last_rejection': self._last_rejection or report.last_rejection,
            }
        )
        self.publish_diagnostics(status)


def main() -> int:
    """Run the node until it is told to stop; the arm is at rest and handed back when it ends."""
    return run_driver('fci', FciNode)
