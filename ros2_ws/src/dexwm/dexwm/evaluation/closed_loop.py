"""Whether plans reach their goals: attempts at held-out episodes, by any method, in any world.

The world (a simulator) is known by protocol only. It judges with what it knows; the planner sees
pictures and joint positions.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dexwm.planning.closing import ClosingRule
from dexwm.planning.errors import PlanningError
from dexwm.planning.goal import Goal, PictureGoal
from dexwm.planning.mpc import Plant, PlantError, run_task
from dexwm.planning.planner import Planner, PlanResult


@dataclass(frozen=True)
class Motion:
    """How things stand after a motion and a rest long enough to hold a criterion.

    Attributes:
        what: What it was for.
        success: Whether the paper's criterion (appendix C.4) was met until then.
        strict_success: Whether the stricter criterion was met until then.
        measure: What the criteria look at (m): mean distance of the hand's points from the
            goal's (reach), height lifted (grasp), distance of the object from where the goal
            shows it (place, push).
    """

    what: str
    success: bool
    strict_success: bool
    measure: float


class Attempt(Plant, Protocol):
    """A world at the start of an episode."""

    @property
    def goal(self) -> PictureGoal:
        """What is to be reached."""
        ...

    @property
    def motions(self) -> Sequence[Motion]:
        """What was done so far, as judged."""
        ...

    @property
    def refusals(self) -> Sequence[str]:
        """Why motions were refused; the robot did not move for them."""
        ...

    @property
    def pictures(self) -> Sequence[NDArray[np.uint8]]:
        """What the camera saw (H, W, 3), RGB: at the start, and after each motion."""
        ...

    def rest(self) -> None:
        """Stays where it is; counts as a motion."""
        ...

    def distances(self) -> Mapping[str, float]:
        """Other distances now, by name (m), for the record."""
        ...


class Method(Protocol):
    """A way of doing a task."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    @property
    def digest(self) -> str:
        """Changes with everything that decides what it does."""
        ...

    def run(
        self, attempt: Attempt, task: str, seed: int, on_plan: Callable[[PlanResult], None]
    ) -> None:
        """Acts until it is done, and tells of each plan before it is executed.

        Raises:
            PlanningError: If it finds no plan.
            PlantError: If a plan cannot be executed.
        """
        ...


class PlanningMethod:
    """Plans towards the goal picture, over and over, as the planner's preset says."""

    def __init__(self, planner: Planner, closing: ClosingRule | None = None) -> None:
        """Takes a planner, whose preset gives the method its name, and how a grasp ends."""
        self._planner = planner
        self._closing = closing

    @property
    def name(self) -> str:
        """Name of the preset."""
        return self._planner.preset.name

    @property
    def executed(self) -> int:
        """Waypoints of a plan that are executed before the next."""
        return self._planner.preset.executed

    @property
    def digest(self) -> str:
        """Of preset, closing rule and checkpoint, hexadecimal."""
        planner = self._planner
        settings = f'{planner.preset!r} {self._closing!r} {planner.checkpoint_digest}'
        return hashlib.sha256(settings.encode()).hexdigest()

    def goal_of(self, attempt: Attempt) -> Goal:
        """What it plans towards: the attempt's goal picture."""
        return attempt.goal

    def run(
        self, attempt: Attempt, task: str, seed: int, on_plan: Callable[[PlanResult], None]
    ) -> None:
        """Plans and executes.

        Raises:
            PlanningError: If no plan is found, or the closing rule cannot lift.
            PlantError: If a plan cannot be executed.
        """
        run_task(
            self._planner,
            attempt,
            self.goal_of(attempt),
            task=task,
            seed=seed,
            closing=self._closing,
            on_plan=on_plan,
        )


@dataclass(frozen=True)
class Trial:
    """One attempt of one method at one episode.

    Attributes:
        task: The task.
        method: Name of the method.
        digest: Digest of the method.
        seed: Seed of the episode, and of the method's choices.
        success: Whether the paper's criterion was met at some time.
        strict_success: Whether the stricter one was.
        unaided: The first, before the closing rule; as ``success`` where there is none.
        measure: What the criteria look at, at the end (m), see ``Motion``.
        start: Other distances at the start, by name (m).
        end: The same at the end.
        motions: What was done.
        plan_seconds: How long each plan took (s), refused ones included.
        first_costs: Best cost after the first iteration of each plan.
        last_costs: Best cost of each plan.
        seconds: How long the whole attempt took (s).
        failure: Why the method stopped early; empty if it did not. What was reached until then
            is judged all the same.
        refusals: Why motions were refused. None in a trial from before motions were checked.
        code: What made the trial, see ``code_version``; empty in one from before that was kept.
    """

    task: str
    method: str
    digest: str
    seed: int
    success: bool
    strict_success: bool
    unaided: bool
    measure: float
    start: dict[str, float]
    end: dict[str, float]
    motions: tuple[Motion, ...]
    plan_seconds: tuple[float, ...]
    first_costs: tuple[float, ...]
    last_costs: tuple[float, ...]
    seconds: float
    failure: str
    refusals: tuple[str, ...] | None = None
    code: str = ''


def attempt_episode(
    attempt: Attempt,
    method: Method,
    task: str,
    seed: int,
    on_plan: Callable[[PlanResult], None] | None = None,
    code: str = '',
) -> Trial:
    """Lets a method attempt an episode.

    Args:
        attempt: The world, at the start of the episode.
        method: What acts in it.
        task: The task.
        seed: Seed of the episode, which is the seed of the method's choices too, so that all
            methods have the same.
        on_plan: Told of each plan before it is executed.
        code: What makes the trial, for the record.
    """
    begin = time.perf_counter()
    start = dict(attempt.distances())
    plans: list[PlanResult] = []
    planned = 0

    def take(plan: PlanResult) -> None:
        nonlocal planned
        plans.append(plan)
        # The next motion is this plan's, unless it is refused.
        planned = len(attempt.motions) + 1
        if on_plan is not None:
            on_plan(plan)

    failure = ''
    try:
        method.run(attempt, task, seed, take)
    except (PlanningError, PlantError) as error:
        failure = str(error)
        if not attempt.motions:
            attempt.rest()
    motions = tuple(attempt.motions)
    # What follows the last plan's motion is the closing rule's.
    unaided = motions[:planned] if plans else motions
    return Trial(
        task=task,
        method=method.name,
        digest=method.digest,
        seed=seed,
        success=any(motion.success for motion in motions),
        strict_success=any(motion.strict_success for motion in motions),
        unaided=any(motion.success for motion in unaided),
        measure=motions[-1].measure,
        start=start,
        end=dict(attempt.distances()),
        motions=motions,
        plan_seconds=tuple(plan.seconds['total'] for plan in plans),
        first_costs=tuple(plan.costs[0] for plan in plans if plan.costs),
        last_costs=tuple(plan.costs[-1] for plan in plans if plan.costs),
        seconds=time.perf_counter() - begin,
        failure=failure,
        refusals=tuple(attempt.refusals),
        code=code,
    )
