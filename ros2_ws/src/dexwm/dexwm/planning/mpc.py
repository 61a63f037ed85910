"""Plans, executes and plans again until a task is through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dexwm.planning.closing import ClosingRule
from dexwm.planning.goal import Goal
from dexwm.planning.observation import Observation
from dexwm.planning.optimisers.optimiser import Iteration
from dexwm.planning.planner import Planner, PlanResult


class PlantError(RuntimeError):
    """The robot could not be observed, or did not go where it was sent; the message says why."""


class MotionRefused(PlantError):
    """A motion was refused before the robot moved, as it would collide: another plan may do."""


class Plant(Protocol):
    """A robot with a camera, real or simulated."""

    def observe(self) -> Observation:
        """What is seen now, at rest.

        Raises:
            PlantError: where picture or joint states are missing or old.
        """
        ...

    def execute(self, waypoints: NDArray[np.float64], what: str) -> None:
        """Goes through waypoints (T, 23), rad; returns at rest at the last one.

        Args:
            waypoints: in order.
            what: what the motion is for, to be shown to people.

        Raises:
            MotionRefused: where the robot did not move, for the sake of these waypoints.
            PlantError: where the motion was refused for another reason or did not end.
        """
        ...


REPLACEMENTS = 2
"""Plans that are tried in place of one whose motion is refused."""


@dataclass(frozen=True, eq=False)
class TaskResult:
    """How a task went, as far as the planner knows.

    Attributes:
        plans: all plans in order, without those that were refused; the last one of a cancelled
            task was not executed.
        outcome: whether it came to its end.
        closed: whether the closing rule ended it.
    """

    plans: tuple[PlanResult, ...]
    outcome: Literal['done', 'cancelled']
    closed: bool


def run_task(
    planner: Planner,
    plant: Plant,
    goal: Goal,
    *,
    task: str,
    seed: int,
    budget: float | None = None,
    closing: ClosingRule | None = None,
    on_plan: Callable[[PlanResult], None] | None = None,
    on_iteration: Callable[[int, Iteration], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TaskResult:
    """Runs a task in receding horizon, as the planner's preset says.

    A plan whose motion is refused is made anew with another seed, up to `REPLACEMENTS` times.

    Args:
        planner: makes the plans.
        plant: is observed before each plan, and executes it.
        goal: what to reach.
        task: for `Planner.plan`.
        seed: of all plans of the task, but for those that replace refused ones.
        budget: seconds for each plan; None: no limit.
        closing: how to end a grasp; None, and other tasks: not at all.
        on_plan: told of each plan before it is executed.
        on_iteration: told the plan's number, from 0, and the iteration.
        should_stop: asked at each iteration of a plan, and before each motion.

    Raises:
        PlantError: as the plant does.
        GoalError: see `Planner.plan`.
        PlanningError: see `Planner.plan` and `ClosingRule.lift`.
    """
    preset = planner.preset
    stop = should_stop or (lambda: False)
    plans: list[PlanResult] = []

    def result(outcome: Literal['done', 'cancelled'], closed: bool = False) -> TaskResult:
        return TaskResult(tuple(plans), outcome, closed)

    for replan in range(preset.replans):

        def report(iteration: Iteration, replan: int = replan) -> None:
            if on_iteration is not None:
                on_iteration(replan, iteration)

        what = f'{task}, plan {replan + 1} of {preset.replans}'
        for attempt in range(1 + REPLACEMENTS):
            plan = planner.plan(
                plant.observe(),
                goal,
                task=task,
                seed=seed + attempt,
                replan=replan,
                budget=budget,
                on_iteration=report,
                should_stop=stop,
                previous=plans[-1] if plans else None,
            )
            if plan.outcome != 'cancelled' and on_plan is not None:
                on_plan(plan)
            if plan.outcome == 'cancelled' or stop():
                plans.append(plan)
                return result('cancelled')
            try:
                plant.execute(plan.waypoints[: preset.executed], what)
            except MotionRefused:
                if attempt == REPLACEMENTS:
                    raise
                continue
            plans.append(plan)
            break
    if task != 'grasp' or closing is None:
        return result('done')
    last = plans[-1].waypoints[preset.executed - 1 : preset.executed][-1]
    for motion, what in ((_close, 'closing the hand'), (_lift, 'lifting')):
        if stop():
            return result('cancelled')
        waypoints = motion(closing, planner, last)
        plant.execute(waypoints, what)
        last = waypoints[-1]
    return result('done', closed=True)


def _close(
    rule: ClosingRule, planner: Planner, waypoint: NDArray[np.float64]
) -> NDArray[np.float64]:
    return rule.close(waypoint, planner.limits)


def _lift(
    rule: ClosingRule, planner: Planner, waypoint: NDArray[np.float64]
) -> NDArray[np.float64]:
    return rule.lift(planner.robot, waypoint, planner.limits)
