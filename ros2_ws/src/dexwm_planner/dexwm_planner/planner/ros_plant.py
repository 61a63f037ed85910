"""The robot as a planner sees it: newest picture and joint states in, plans out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from dexwm_msgs.action import ExecutePlan
from numpy.typing import NDArray
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.task import Future
from rclpy.time import Time
from trajectory_msgs.msg import JointTrajectoryPoint

from dexwm.planning.grip import keep_grip
from dexwm.planning.mpc import MotionRefused, PlantError
from dexwm.planning.observation import Observation, ObservationError
from dexwm.robot.joints import JOINTS, robot_limits
from dexwm_planner.planner.planner_inputs import Inputs, PlannerInputs, StaleInputError
from dexwm_planner.trajectory.commanded_joints import CommandedJoints

ACTION = '/trajectory/execute_plan'

_POLL = 0.02
_ANSWER_TIMEOUT = 5.0
_STALE_ATTEMPTS = 3
_RETRY_PAUSE = 1.0
_ANOTHER_PLAN_MAY_DO = (ExecutePlan.Result.COLLISION, ExecutePlan.Result.LIMITS)


class ExecutionError(PlantError):
    """A motion that was refused or did not end well."""


class RefusedError(ExecutionError, MotionRefused):
    """A motion that was refused for where it goes; the robot did not move."""


class TaskCancelledError(PlantError):
    """The task is to end: nothing more is sent, and the robot is at rest."""


class RosPlant:
    """Implements `dexwm.planning.mpc.Plant` over topics and the trajectory node's action.

    Attributes:
        observed: what the last observation was made of; None before.
    """

    def __init__(
        self,
        node: Node,
        inputs: PlannerInputs,
        client: ActionClient,
        T_base_from_camera: NDArray[np.float64],
        execute_timeout: float,
        should_stop: Callable[[], bool],
        commanded: CommandedJoints,
        grips: bool,
    ) -> None:
        """Takes what one task needs.

        Args:
            node: gives the clock.
            inputs: what is seen.
            client: of the trajectory node's action `ExecutePlan`.
            T_base_from_camera: pose of the camera (4, 4), m.
            execute_timeout: longest time that a motion may take, s.
            should_stop: asked while it waits, before a motion is sent, and during it; the
                motion is cancelled if so.
            commanded: knows where the joints are commanded to be.
            grips: whether the hand holds something that it has to keep hold of.
        """
        self._node, self._inputs, self._client = node, inputs, client
        self._T_base_from_camera = T_base_from_camera
        self._execute_timeout = execute_timeout
        self._should_stop = should_stop
        self._commanded, self._grips = commanded, grips
        self._limits = robot_limits()
        self.observed: Inputs | None = None
        # Stamp of the picture that the next motion was planned from; 0: from none.
        self._picture_ns = 0

    def observe(self) -> Observation:
        """What the camera sees from now on, and where the joints are then.

        Raises:
            TaskCancelledError: If the task is to end before they come.
            PlantError: If no fresh picture or joint states come.
        """
        now_ns = self._node.get_clock().now().nanoseconds
        try:
            self.observed = seen = self._inputs.wait(now_ns, self._should_stop)
            self._picture_ns = seen.stamp_ns
            return Observation(
                seen.image, seen.joint_positions, seen.intrinsics, self._T_base_from_camera
            )
        except (StaleInputError, ObservationError) as error:
            if self._should_stop():
                raise TaskCancelledError('cancelled before a picture came') from error
            raise PlantError(str(error)) from error

    def execute(self, waypoints: NDArray[np.float64], what: str) -> None:
        """Has the trajectory node go through waypoints (T, 23), rad.

        After a motion that was stopped because states came too late, as they do on a busy
        machine, the waypoints that it did not get to are sent: the robot stands, and the rest of
        the way begins there.

        Raises:
            TaskCancelledError: If the task is to end.
            RefusedError: If the waypoints, or the way to them, collide or leave the limits.
            ExecutionError: With what the trajectory node said otherwise.
        """
        if self._grips:
            waypoints = self._gripping(waypoints)
        # What follows the plan, such as the closing rule, looks at no picture.
        picture_ns, self._picture_ns = self._picture_ns, 0
        for attempt in range(1, _STALE_ATTEMPTS + 1):
            towards: list[int] = []
            result = self._execute(waypoints, what, picture_ns, towards)
            if result.error_code == ExecutePlan.Result.SUCCESSFUL:
                return
            reason = f'{what}: code {result.error_code}, {result.error_string}'
            if self._should_stop():
                raise TaskCancelledError(f'cancelled: {reason}')
            if result.error_code in _ANOTHER_PLAN_MAY_DO:
                self._node.get_logger().warning(f'refused: {reason}')
                raise RefusedError(reason)
            stale = result.error_code == ExecutePlan.Result.STALE_STATE
            if not stale or attempt == _STALE_ATTEMPTS:
                raise ExecutionError(reason)
            self._await(lambda: False, _RETRY_PAUSE, what)
            if result.duration > 0.0 and not towards:
                raise ExecutionError(
                    f'{reason}; how far it got is not known, so the rest of the way is not sent'
                )
            # Told ten times a second until the robot rests: it hardly moved since the last.
            waypoints = waypoints[max(towards, default=0) :]
            self._node.get_logger().warning(
                f'the last {len(waypoints)} waypoints again after {reason}'
            )

    def _gripping(self, waypoints: NDArray[np.float64]) -> NDArray[np.float64]:
        commanded, observed = self._commanded.positions, self.observed
        if commanded is None or observed is None:
            raise ExecutionError(
                'where the fingers are commanded to be is not known: is the trajectory node '
                'running?'
            )
        return keep_grip(waypoints, commanded, observed.joint_positions, self._limits)

    def _execute(
        self, waypoints: NDArray[np.float64], what: str, picture_ns: int, towards: list[int]
    ) -> ExecutePlan.Result:
        """Sends waypoints once.

        Args:
            waypoints: (T, 23), rad.
            what: what the motion is for.
            picture_ns: stamp of the picture that it was planned from; 0: from none.
            towards: is given the indices of the waypoints that the robot was on the way to.
        """
        if not self._await(self._client.server_is_ready, _ANSWER_TIMEOUT, what):
            raise ExecutionError(f'nobody answers on {ACTION}: is the trajectory node running?')
        goal = ExecutePlan.Goal()
        goal.plan.header.stamp = self._node.get_clock().now().to_msg()
        goal.plan.observation_stamp = Time(nanoseconds=picture_ns).to_msg()
        goal.plan.task = what
        goal.plan.joint_names = list(JOINTS)
        goal.plan.waypoints = [
            JointTrajectoryPoint(positions=q.tolist(), time_from_start=Duration())
            for q in waypoints
        ]
        answer = self._client.send_goal_async(
            goal, lambda message: towards.append(message.feedback.waypoint)
        )
        handle = self._wait(answer, _ANSWER_TIMEOUT)
        if handle is None:
            # Nobody would watch a motion that begins now.
            answer.add_done_callback(_cancel)
            reason = f'{ACTION} did not answer to the motion {what!r}'
            if self._should_stop():
                raise TaskCancelledError(f'cancelled: {reason}')
            raise ExecutionError(reason)
        if not handle.accepted:
            raise ExecutionError(f'{ACTION} did not accept the motion {what!r}')
        future = handle.get_result_async()
        deadline = time.monotonic() + self._execute_timeout
        cancelled = False
        while not future.done():
            late = time.monotonic() > deadline
            if (late or self._should_stop()) and not cancelled:
                cancelled = True
                handle.cancel_goal_async()
                # The ramp down takes a moment; its result says where it ended.
                deadline = time.monotonic() + _ANSWER_TIMEOUT
            elif late:
                raise ExecutionError(f'the motion {what!r} did not end')
            time.sleep(_POLL)
        return future.result().result

    def _await(self, done: Callable[[], bool], timeout: float, what: str) -> bool:
        """Waits until something is so; False if it is not within the time (s).

        Raises:
            TaskCancelledError: If the task is to end; the motion `what` is not sent then.
        """
        deadline = time.monotonic() + timeout
        while True:
            if self._should_stop():
                raise TaskCancelledError(f'cancelled before the motion {what!r} was sent')
            if done():
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)

    def _wait(self, future: Future, timeout: float) -> Any:
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        return future.result() if done.wait(timeout) else None


def _cancel(answer: Future) -> None:
    handle = answer.result()
    if handle is not None and handle.accepted:
        handle.cancel_goal_async()
