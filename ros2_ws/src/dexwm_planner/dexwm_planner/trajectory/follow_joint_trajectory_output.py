"""Commands the controllers through the action control_msgs/FollowJointTrajectory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rclpy.node import Node
from rclpy.task import Future

from dexwm.control.motion import Chunk
from dexwm.control.outcome import Outcome
from dexwm_franka_bringup.action_client import ThreadedActionClient
from dexwm_planner.trajectory.command_output import trajectory_message
from dexwm_planner.trajectory.trajectory_parameters import TrajectoryConfigError

_GOAL_TIME_TOLERANCE = 1


class FollowJointTrajectoryOutput:
    """Sends every motion as one goal to each controller; the goals share their start.

    Stopping and splicing are goals too: a newer one preempts the older. What this way lacks
    against streaming: if this process dies, the controllers finish the motion.

    Args:
        node: the clients' node.
        controllers: names of the controllers with the joints that each one moves.
        tolerances: path tolerance of every joint that has one (rad).

    Raises:
        TrajectoryConfigError: if the package control_msgs is not installed.
    """

    horizon = float('inf')

    def __init__(
        self,
        node: Node,
        controllers: Mapping[str, Sequence[str]],
        tolerances: Mapping[str, float],
    ):
        try:
            from control_msgs.action import FollowJointTrajectory
            from control_msgs.msg import JointTolerance
        except ImportError as error:
            raise TrajectoryConfigError(
                'command_interface follow_joint_trajectory needs the package control_msgs: '
                'install ros-jazzy-control-msgs, or use command_interface streaming'
            ) from error
        self._action = FollowJointTrajectory
        self._tolerance = JointTolerance
        self._tolerances = tolerances
        self._clients = {
            name: ThreadedActionClient(
                node, FollowJointTrajectory, f'/{name}/follow_joint_trajectory'
            )
            for name in controllers
        }
        self._controllers = controllers
        self._lock = threading.Lock()
        self._batch = 0
        self._open: set[str] = set()
        self._failure: tuple[Outcome, str] | None = None

    def missing(self) -> str:
        """Which controller is absent, and what that means; empty if all are there."""
        absent = [name for name, client in self._clients.items() if not client.server_is_ready()]
        if not absent:
            return ''
        return f'no follow_joint_trajectory action of {" and ".join(absent)}; start the controller'

    def send(self, chunk: Chunk, now_ns: Callable[[], int]) -> bool:
        """Send a motion as one goal to every controller, see `CommandOutput.send`."""
        goals = {name: self._goal(chunk, joints) for name, joints in self._controllers.items()}
        if now_ns() > chunk.due_ns:
            return False
        with self._lock:
            self._batch += 1
            batch = self._batch
            self._open = set(self._clients)
            self._failure = None
        for name, goal in goals.items():
            future = self._clients[name].send_goal_async(goal)
            future.add_done_callback(lambda f, n=name: self._accepted(f, n, batch))
        return True

    def failure(self) -> tuple[Outcome, str] | None:
        """Why a controller gave up the last goal, if it did."""
        with self._lock:
            return self._failure

    def settled(self) -> bool:
        """Whether all controllers have reported on the last goal."""
        with self._lock:
            return not self._open

    def _goal(self, chunk: Chunk, joints: Sequence[str]) -> Any:
        goal = self._action.Goal()
        goal.trajectory = trajectory_message(chunk, joints)
        goal.path_tolerance = [
            self._tolerance(name=joint, position=self._tolerances[joint])
            for joint in joints
            if joint in self._tolerances
        ]
        goal.goal_tolerance = list(goal.path_tolerance)
        goal.goal_time_tolerance.sec = _GOAL_TIME_TOLERANCE
        return goal

    def _accepted(self, future: Future, name: str, batch: int) -> None:
        handle = future.result()
        if not handle.accepted:
            self._close(name, batch, (Outcome.REFUSED, f'{name} rejected the trajectory'))
            return
        handle.get_result_async().add_done_callback(lambda f: self._done(f, name, batch))

    def _done(self, future: Future, name: str, batch: int) -> None:
        result: Any = future.result().result
        codes = self._action.Result
        if result.error_code == codes.SUCCESSFUL:
            self._close(name, batch, None)
            return
        strayed = (codes.PATH_TOLERANCE_VIOLATED, codes.GOAL_TOLERANCE_VIOLATED)
        outcome = Outcome.TRACKING if result.error_code in strayed else Outcome.REFUSED
        reason = f'{name} gave up (error {result.error_code}): {result.error_string}'
        self._close(name, batch, (outcome, reason))

    def _close(self, name: str, batch: int, failure: tuple[Outcome, str] | None) -> None:
        with self._lock:
            if batch != self._batch:
                return  # Of a goal that a newer one replaced.
            self._open.discard(name)
            self._failure = self._failure or failure
