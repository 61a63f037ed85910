"""A real arm under franka_ros2: its state in words, and its recovery in three steps.

franka_msgs and controller_manager_msgs come with franka_ros2; they are imported only here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data

from dexwm.robot.franka_errors import describe_errors, describe_mode
from dexwm_franka_bringup.action_client import ThreadedActionClient
from dexwm_planner.trajectory.recovery import RecoveryError, call, finished
from dexwm_planner.trajectory.trajectory_parameters import TrajectoryConfigError

STATE_TOPIC = '/franka_robot_state_broadcaster/robot_state'
HARDWARE = 'FrankaHardwareInterface'
BROADCASTERS = ('joint_state_broadcaster', 'franka_robot_state_broadcaster')
"""Controllers that command nothing; an error deactivates them with the hardware."""

STATUS = 'franka_ros2: arm'
"""Name under which the arm's state is watched, as if a driver reported it on /diagnostics."""

_OK, _ERROR = 0, 2
_FOUND = 2.0
_ACTIVE = 3  # lifecycle_msgs/State.PRIMARY_STATE_ACTIVE
_MODES = {
    0: 'Other',
    1: 'Idle',
    2: 'Move',
    3: 'Guiding',
    4: 'Reflex',
    5: 'UserStopped',
    6: 'AutomaticErrorRecovery',
}


class FrankaRos2Arm:
    """Watches the robot state, and recovers in the order that Franka's documentation demands.

    1. The action /action_server/error_recovery clears the robot's errors.
    2. controller_manager activates the hardware again, which an error leaves unconfigured.
    3. controller_manager activates broadcasters and the arm's controller again, those of them
       that are not active.

    Args:
        node: the clients' node.
        controller: name of the arm's joint trajectory controller.
        report: called with level, message of the arm's state, as `DriverWatch.observe` wants.

    Raises:
        TrajectoryConfigError: if franka_msgs or controller_manager_msgs is not installed.
    """

    def __init__(self, node: Node, controller: str, report: Callable[[int, str], None]):
        try:
            from controller_manager_msgs.srv import (
                ListControllers,
                SetHardwareComponentState,
                SwitchController,
            )
            from franka_msgs.action import ErrorRecovery
            from franka_msgs.msg import FrankaRobotState
        except ImportError as error:
            raise TrajectoryConfigError(
                'recovery franka_ros2 needs franka_msgs and controller_manager_msgs: source the '
                'workspace of franka_ros2, or use recovery none'
            ) from error
        self._controller = controller
        self._report = report
        self._error_recovery = ErrorRecovery
        self._list = ListControllers
        self._set_state, self._switch = SetHardwareComponentState, SwitchController
        group = ReentrantCallbackGroup()
        self._recovery = ThreadedActionClient(
            node, ErrorRecovery, '/action_server/error_recovery', callback_group=group
        )
        self._hardware_client = node.create_client(
            SetHardwareComponentState,
            '/controller_manager/set_hardware_component_state',
            callback_group=group,
        )
        self._list_client = node.create_client(
            ListControllers, '/controller_manager/list_controllers', callback_group=group
        )
        self._switch_client = node.create_client(
            SwitchController, '/controller_manager/switch_controller', callback_group=group
        )
        node.create_subscription(
            FrankaRobotState,
            STATE_TOPIC,
            self._on_state,
            qos_profile_sensor_data,
            # One at a time, or an old state may be told after a newer one.
            callback_group=MutuallyExclusiveCallbackGroup(),
        )

    def recover(self) -> None:
        """Go through the three steps.

        Raises:
            RecoveryError: if a step failed; the steps after it were not tried.
        """
        if not self._recovery.wait_for_server(_FOUND):
            raise RecoveryError(
                'step 1, error recovery: there is no action /action_server/error_recovery; is '
                'franka_ros2 running?'
            )
        sent = self._recovery.send_goal_async(self._error_recovery.Goal())
        handle = finished(sent, 'step 1, error recovery,')
        if not handle.accepted:
            raise RecoveryError(
                'step 1, error recovery: refused; release the user stop and unlock the joints in '
                'Desk first'
            )
        answer = finished(handle.get_result_async(), 'step 1, error recovery,')
        if answer.status != GoalStatus.STATUS_SUCCEEDED:
            raise RecoveryError(
                'step 1, error recovery: the arm did not clear its errors; release the user stop '
                'and unlock the joints in Desk first, see the log of ros2_control_node'
            )
        request = self._set_state.Request(name=HARDWARE)
        request.target_state.id, request.target_state.label = _ACTIVE, 'active'
        if not call(self._hardware_client, request).ok:
            raise RecoveryError(f'step 2, hardware: {HARDWARE} could not be activated')
        self._activate_controllers()

    def _activate_controllers(self) -> None:
        listed = call(self._list_client, self._list.Request()).controller
        active = {controller.name for controller in listed if controller.state == 'active'}
        # A strict switch is refused as a whole if one of its controllers is active already.
        missing = [name for name in (*BROADCASTERS, self._controller) if name not in active]
        if not missing:
            return
        switch = self._switch.Request(
            activate_controllers=missing, strictness=self._switch.Request.STRICT
        )
        if not call(self._switch_client, switch).ok:
            raise RecoveryError(
                f'step 3, controllers: {", ".join(missing)} could not be activated; see '
                '`ros2 control list_controllers`'
            )

    def _on_state(self, message: Any) -> None:
        errors = message.current_errors
        active = [name for name in errors.get_fields_and_field_types() if getattr(errors, name)]
        mode = _MODES.get(message.robot_mode, 'Other')
        problem = '; '.join(filter(None, (describe_mode(mode), describe_errors(active))))
        self._report(_ERROR if problem else _OK, problem or mode)
