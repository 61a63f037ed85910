"""The node `pick`: a scripted grasp through the whole ROS graph, judged and recorded.

It asks the trajectory node to do what the expert wants with an object that it knows from
`/cell/state`, and ends with exit code 0 only if the object was lifted by 5 cm for a second.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from dexwm_msgs.action import ExecutePlan
from dexwm_msgs.msg import CellState
from rclpy.time import Time
from trajectory_msgs.msg import JointTrajectoryPoint

from dexwm.robot.joints import JOINTS
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.action_client import ThreadedActionClient
from dexwm_franka_bringup.description import robot_description
from dexwm_sim.expert import Expert, UnreachableError
from dexwm_sim.pick_run import ArmTracking, PickMonitor, PickSummary, Stage, stages
from dexwm_sim.run_node import (
    IMAGE_TOPIC,
    RunError,
    RunNode,
    object_positions,
    objects_touched,
    run_node,
)

ACTION = '/trajectory/execute_plan'

_HOLD = 1.3
_RETRY_PAUSE = 1.0


class PickNode(RunNode):
    """Listens, and sends plans; ``run`` is the grasp, in a thread that does not spin."""

    def __init__(self) -> None:
        super().__init__('pick')
        self._target = self._declare('target', '', "Object to lift; empty: the scene's first.")
        self._motion_timeout = self._seconds('motion_timeout', 60.0, 'Longest time of a plan.')
        self._monitor: PickMonitor | None = None
        self._tracking = ArmTracking()
        self.summary = PickSummary()
        self._client = ThreadedActionClient(self, ExecutePlan, ACTION)

    def _judge(self, message: CellState) -> None:
        if self._monitor is None:
            return
        self._note_pace(message)
        self._monitor.observe(
            Time.from_msg(message.header.stamp).nanoseconds,
            [self._observed.positions[name] for name in JOINTS],
            object_positions(message),
            objects_touched(message),
        )

    # The grasp

    def run(self) -> bool:
        """Tries the grasp; the result is in ``summary``."""
        begun = time.monotonic()
        try:
            self._pick()
        except (RunError, UnreachableError) as error:
            self.summary.reason = str(error)
        self.summary.duration = self.summary.duration or time.monotonic() - begun
        self._finish()
        summary, log = self.summary, self.get_logger()
        if summary.succeeded:
            log.info(f'Lifted {summary.target} by {summary.height * 100:.0f} cm.')
        else:
            log.error(f'{summary.verdict}: {summary.reason or summary.target}')
        return summary.succeeded

    def _pick(self) -> None:
        self._wait_for_inputs()
        model = RobotModel.from_urdf(robot_description())
        with self._lock:
            cell = self._observed.cell
            start = np.array([self._observed.positions[name] for name in JOINTS])
        positions = object_positions(cell)
        target = self._target or next(iter(positions), '')
        if target not in positions:
            raise RunError(f'no object {target!r} in the cell; there are {list(positions)}')
        self.summary.target, self.summary.scene_seed = target, cell.scene_seed
        plans = stages(Expert(model).pick(positions[target], start))
        with self._lock:
            self._monitor = PickMonitor(model, target, float(positions[target][2]))
        self.get_logger().info(f'Lifting {target} at {positions[target].round(3).tolist()}.')
        begun = time.monotonic()
        for plan in plans:
            self._execute(plan)
            self._dwell(plan.dwell, self._motion_timeout)
        self._dwell(_HOLD, self._motion_timeout)
        self.summary.duration = time.monotonic() - begun
        with self._lock:
            self.summary.conclude(self._monitor.verdict(), self._monitor.highest)

    def _wait_for_inputs(self) -> None:
        self._wait_for(
            (
                (
                    '/joint_states of all 23 joints',
                    lambda: self._observed.positions.keys() >= set(JOINTS),
                ),
                ('/cell/state', lambda: self._observed.cell is not None),
                (IMAGE_TOPIC, lambda: self._observed.frames > 0),
                (f'the action server {ACTION}', self._client.server_is_ready),
            )
        )

    def _execute(self, stage: Stage, attempts: int = 3) -> None:
        """Has the trajectory node execute a plan, and waits for its end.

        A stop because states came too late, as they do on a busy machine, is no reason to give
        up: the plan is sent again.
        """
        begun = time.monotonic()
        goal = ExecutePlan.Goal()
        goal.plan.header.stamp = self.get_clock().now().to_msg()
        goal.plan.task = f'pick: {stage.name}'
        goal.plan.joint_names = list(JOINTS)
        goal.plan.waypoints = [
            JointTrajectoryPoint(positions=q.tolist(), time_from_start=Duration())
            for q in stage.waypoints
        ]
        handle = self._result_of(
            self._client.send_goal_async(goal, self._on_feedback),
            f'an answer to the plan {stage.name!r}',
            self._motion_timeout,
        )
        if not handle.accepted:
            raise RunError(f'{ACTION} rejected the plan {stage.name!r}')
        try:
            result = self._result_of(
                handle.get_result_async(),
                f'the end of the plan {stage.name!r}',
                self._motion_timeout,
            ).result
        except RunError:
            self._cancel(handle)
            raise
        if result.error_code != ExecutePlan.Result.SUCCESSFUL:
            reason = f'code {result.error_code}: {result.error_string}'
            if result.error_code == ExecutePlan.Result.STALE_STATE and attempts > 1:
                # The robot stands; the rest of the way starts from there.
                self.get_logger().warning(f'Plan {stage.name!r} again after {reason}')
                self._pause(_RETRY_PAUSE)
                self._execute(stage, attempts - 1)
                return
            raise RunError(f'plan {stage.name!r} failed with {reason}')
        self.summary.stages.append(
            {
                'name': stage.name,
                'motion_s': result.duration,
                'until_result_s': time.monotonic() - begun,
            }
        )

    def _on_feedback(self, message: Any) -> None:
        with self._lock:
            self._tracking.observe(message.feedback.tracking_error)

    def _finish(self) -> None:
        """Closes the video and writes the summary."""
        with self._lock:
            observed, summary = self._observed, self.summary
            summary.frames_received = observed.frames
            summary.frame_rate = observed.frame_rate
            summary.max_tracking_error_arm = self._tracking.largest
            if np.isfinite(observed.real_time_factor):
                summary.real_time_factor = observed.real_time_factor
            summary.video, summary.frames_recorded = self._close_video()
        if self.recording_problem and summary.succeeded:
            summary.verdict, summary.reason = 'failed', self.recording_problem
        self._write_summary(summary.to_json())


def main() -> int:
    """Runs the grasp; 0 only if the object was lifted."""
    return run_node(PickNode)


if __name__ == '__main__':
    sys.exit(main())
