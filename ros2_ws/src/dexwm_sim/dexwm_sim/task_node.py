"""The node `task`: gives the planner its goal, shows progress, judges and records.

In the simulated cell it ends with exit code 0 only if the episode's judge says that the task was
done; elsewhere, if the planner says that the plan was executed; and where nothing is executed, if
there is a plan.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from dexwm_msgs.action import PlanToGoal
from dexwm_msgs.msg import CellState, Plan
from numpy.typing import NDArray
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import Image

from dexwm.planning.goal import Goal, GoalError, KeypointGoal, PictureGoal
from dexwm.planning.goal_file import read_goal
from dexwm.planning.preset import parse_preset
from dexwm.planning.time_left import planning_time_left
from dexwm.robot.joints import JOINTS
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.action_client import ThreadedActionClient
from dexwm_franka_bringup.description import robot_description
from dexwm_franka_bringup.image_conversion import ImageMessageError, image_to_array
from dexwm_sim.episode_file import load_episode
from dexwm_sim.run_node import (
    IMAGE_TOPIC,
    RunError,
    RunNode,
    object_positions,
    objects_touched,
    run_node,
)
from dexwm_sim.task_monitor import TaskMonitor

ACTION = '/planner/plan_to_goal'
STRIP = 'strip.png'
COSTS = 'costs.png'

_LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
_HOLD = 1.5
_ANSWER_TIMEOUT = 30.0
_RETRY_PAUSE = 0.5


@dataclass
class TaskSummary:
    """What is left of a task, as JSON.

    Attributes:
        verdict: ``success``, ``no success``, ``executed`` (without a judge), ``planned`` (and
            not executed, as was asked) or ``failed``.
        reason: Why it failed; empty otherwise.
        task: reach, grasp, place or push.
        goal: Path of the goal.
        seed: Seed of the planner.
        paper_criterion: Whether DexWM's criterion was met (appendix C.4).
        strict_criterion: Whether the stricter one was.
        measure: See ``Verdict`` (m).
        plans: For each plan: its last cost and the time it took (s).
        duration: From the goal to the verdict (s).
        frame_rate: Pictures per second.
        real_time_factor: Least simulated over wall time that the cell reported.
        video: File name of the video; empty if none.
    """

    task: str
    goal: str
    seed: int
    verdict: str = 'failed'
    reason: str = ''
    paper_criterion: bool | None = None
    strict_criterion: bool | None = None
    measure: float | None = None
    plans: list[dict[str, float]] = field(default_factory=list)
    duration: float = 0.0
    frame_rate: float = 0.0
    real_time_factor: float | None = None
    video: str = ''

    @property
    def succeeded(self) -> bool:
        """Whether the verdict is what was to be done; in the JSON too."""
        return self.verdict in ('success', 'executed', 'planned')

    def to_json(self) -> str:
        """Returns the summary as JSON."""
        return json.dumps({**asdict(self), 'succeeded': self.succeeded}, indent=2) + '\n'


class TaskNode(RunNode):
    """Sends the goal and watches; ``run`` is the task."""

    def __init__(self) -> None:
        super().__init__('task')
        task = self._declare('task', 'grasp', 'reach, grasp, place or push')
        self._goal_path = Path(
            self._declare('goal', '', 'The goal: a picture, or keypoints in YAML.')
        )
        episode = self._declare('episode_file', '', 'Episode that judges; empty: nobody does.')
        self._preset = self._declare('preset', '', "Planning preset; empty: the planner's.")
        seed = self._declare('seed', 0, 'Seed of the planner.')
        self._execute = self._declare('execute', True, 'Whether to execute the plans.')
        self._task_timeout = self._seconds('task_timeout', 600.0, 'Longest time of the task.')
        self._monitor: TaskMonitor | None = None
        self._episode_file = Path(episode) if episode else None
        self._goal: Goal | None = None
        self._pictures: dict[str, Image] = {}
        self._costs: dict[int, list[tuple[float, float]]] = {}
        self._started = 0.0
        self.summary = TaskSummary(task, str(self._goal_path), seed)
        for name in ('predicted', 'overlay'):
            self.create_subscription(
                Image, f'/planner/{name}', lambda m, name=name: self._keep(name, m), _LATCHED
            )
        self.create_subscription(Plan, '/planner/plan', self._on_plan, _LATCHED)
        self._client = ThreadedActionClient(self, PlanToGoal, ACTION)

    def run(self) -> bool:
        """Does the task; the result is in ``summary``."""
        begun = time.monotonic()
        try:
            self._do(begun)
        except (RunError, GoalError, ValueError) as error:
            self.summary.reason = str(error)
        self.summary.duration = time.monotonic() - begun
        self._finish()
        summary, log = self.summary, self.get_logger()
        if summary.measure is not None:
            log.info(
                f'{summary.task}: criterion of the paper '
                f'{"met" if summary.paper_criterion else "not met"}, stricter one '
                f'{"met" if summary.strict_criterion else "not met"} '
                f'({summary.measure * 100:.1f} cm)'
            )
        say = log.info if summary.succeeded else log.error
        say(f'{summary.verdict}{": " if summary.reason else ""}{summary.reason}')
        return summary.succeeded

    def _judge(self, message: CellState) -> None:
        self._note_pace(message)
        if self._monitor is not None:
            self._monitor.observe(
                Time.from_msg(message.header.stamp).nanoseconds,
                [self._observed.positions[name] for name in JOINTS],
                object_positions(message),
                objects_touched(message),
            )

    def _do(self, begun: float) -> None:
        goal = PlanToGoal.Goal(
            task=self.summary.task,
            preset=self._preset,
            seed=self.summary.seed,
            execute=self._execute,
        )
        self._goal = read_goal(self._goal_path)
        if isinstance(self._goal, KeypointGoal):
            goal.goal_keypoints = self._goal.to_message()
        else:
            picture = self._goal.image
            goal.goal_image = Image(
                height=picture.shape[0],
                width=picture.shape[1],
                encoding='rgb8',
                step=3 * picture.shape[1],
                data=picture.tobytes(),
            )
        self._wait_for(
            (
                (
                    '/joint_states of all 23 joints',
                    lambda: self._observed.positions.keys() >= set(JOINTS),
                ),
                (IMAGE_TOPIC, lambda: self._observed.frames > 0),
                (f'the action server {ACTION}', self._client.server_is_ready),
            )
        )
        if self._episode_file is not None and self._execute:
            self._wait_for((('/cell/state', lambda: self._observed.cell is not None),))
            judge = load_episode(self._episode_file).judge()
            model = RobotModel.from_urdf(robot_description())
            with self._lock:
                self._monitor = TaskMonitor(model, judge)
        with self._lock:
            assert self._observed.picture is not None
            self._pictures['start'] = self._observed.picture
        self._started = time.monotonic()
        result = self._ask(goal)
        if result.error_code != PlanToGoal.Result.SUCCESSFUL:
            raise RunError(f'code {result.error_code}: {result.error_string}')
        self._pause(_HOLD)
        self._conclude()

    def _ask(self, goal: PlanToGoal.Goal) -> PlanToGoal.Result:
        """Sends the goal, again while a planner that just began has no inputs of its own yet."""
        kinds = PlanToGoal.Result
        deadline = time.monotonic() + self._wait_timeout
        while True:
            handle = self._result_of(
                self._client.send_goal_async(goal, self._on_feedback),
                'an answer to the goal',
                _ANSWER_TIMEOUT,
            )
            try:
                result = self._result_of(
                    handle.get_result_async(), 'the end of the task', self._task_timeout
                ).result
            except RunError:
                self._cancel(handle)
                raise
            is_stale = result.error_code in (kinds.STALE_IMAGE, kinds.STALE_STATE)
            if self._costs or not is_stale or time.monotonic() > deadline:
                return result
            self._pause(_RETRY_PAUSE)

    def _conclude(self) -> None:
        with self._lock:
            verdict = None if self._monitor is None else self._monitor.verdict()
        if verdict is None:
            self.summary.verdict = 'executed' if self._execute else 'planned'
            return
        self.summary.verdict = 'success' if verdict.success else 'no success'
        self.summary.paper_criterion = verdict.success
        self.summary.strict_criterion = verdict.strict_success
        self.summary.measure = verdict.measure

    def _on_feedback(self, message: Any) -> None:
        feedback = message.feedback
        with self._lock:
            costs = self._costs.setdefault(feedback.step, [])
            costs.append((feedback.best_cost, feedback.mean_cost))
        left = ''
        if self._preset:
            seconds = planning_time_left(
                parse_preset(self._preset),
                feedback.step,
                feedback.iteration,
                feedback.elapsed,
                plans=None if self._execute else 1,
            )
            left = f', about {seconds:.0f} s of planning left'
        self.get_logger().info(
            f'plan {feedback.step + 1}, iteration {feedback.iteration + 1}: best cost '
            f'{feedback.best_cost:.4f}, mean {feedback.mean_cost:.4f}, '
            f'{feedback.elapsed:.1f} s{left}'
        )

    def _on_plan(self, message: Plan) -> None:
        # A latched plan of an earlier goal does not belong to this one.
        if self._started:
            plan = {'cost': message.costs[-1], 'seconds': message.planning_time}
            self.summary.plans.append(plan)

    def _keep(self, name: str, message: Image) -> None:
        with self._lock:
            if self._started:
                self._pictures[name] = message

    # What is left

    def _finish(self) -> None:
        with self._lock:
            observed, summary = self._observed, self.summary
            if observed.picture is not None and self._started:
                self._pictures['reached'] = observed.picture
            summary.frame_rate = observed.frame_rate
            if np.isfinite(observed.real_time_factor):
                summary.real_time_factor = observed.real_time_factor
            summary.video, _ = self._close_video()
            messages, costs = dict(self._pictures), dict(self._costs)
        summary.reason = summary.reason or self.recording_problem
        self._write_summary(summary.to_json())
        pictures = {}
        for name, message in messages.items():
            try:
                pictures[name] = image_to_array(message)
            except ImageMessageError as error:
                self.get_logger().error(f'{STRIP} lacks the picture {name!r}: {error}')
        if 'start' in pictures:
            if isinstance(self._goal, PictureGoal):
                pictures['goal'] = self._goal.image
            strip = picture_strip(pictures)
            cv2.imwrite(str(self.directory / STRIP), cv2.cvtColor(strip, cv2.COLOR_RGB2BGR))
        if costs:
            plot_costs(costs, self.directory / COSTS)


def picture_strip(pictures: dict[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Start, goal, what was predicted and what was reached, side by side, with their names.

    Args:
        pictures: RGB (height, width, 3) by name; all are scaled to the height of 'start'.

    Returns:
        RGB (height, width, 3).
    """
    height = pictures['start'].shape[0]
    panels = []
    for name in ('start', 'goal', 'predicted', 'overlay', 'reached'):
        if name not in pictures:
            continue
        picture = pictures[name]
        width = round(picture.shape[1] * height / picture.shape[0])
        panel = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(
                panel, name, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thickness, cv2.LINE_AA
            )
        panels.append(panel)
    return np.hstack(panels)


def plot_costs(costs: dict[int, list[tuple[float, float]]], path: Path) -> None:
    """Draws best and mean cost over the iterations of all plans."""
    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3), layout='constrained')
    begin = 0
    for step, values in sorted(costs.items()):
        iterations = begin + np.arange(1, len(values) + 1)
        best, mean = np.array(values).T
        (line,) = axes.plot(iterations, best, label=f'plan {step + 1}, best')
        axes.plot(iterations, mean, color=line.get_color(), linestyle=':')
        begin += len(values)
    axes.set_xlabel('iteration (dotted: mean of the candidates)')
    axes.set_ylabel('cost')
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> int:
    """Runs the task; 0 only if it was done."""
    return run_node(TaskNode)


if __name__ == '__main__':
    sys.exit(main())
