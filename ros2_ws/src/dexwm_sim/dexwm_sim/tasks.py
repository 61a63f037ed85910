"""The tasks reach, grasp, place and push, and when they count as done.

The criteria of the first three are those of DexWM, appendix C.4, where a time step is 0.1 s ("10
consecutive time steps (approximately 1 second)"). Beside each stands a stricter one of our own,
held as long. The paper's "fingertips and wrists" are, for one Allegro hand, the wrist face and its
four fingertips. The paper has no push, hence both its criteria are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

TASKS: tuple[str, ...] = ('reach', 'grasp', 'place', 'push')

STEP = 0.1
"""Time between two states that a judge is shown (s)."""

CONSECUTIVE_STEPS = 10
"""States in a row in which a criterion must hold."""

REACH_DISTANCE = 0.15
GRASP_DISTANCE = 0.20
PLACE_DISTANCE = 0.10
PUSH_DISTANCE = 0.05
STRICT_LIFT_HEIGHT = 0.05
STRICT_DISTANCES = {'reach': 0.05, 'place': 0.05, 'push': 0.03}


@dataclass(frozen=True)
class TaskState:
    """What the judges look at.

    Attributes:
        hand_points: Wrist, then index, middle, ring and thumb tip (5, 3), in the base frame (m).
        object_positions: Position (3,) of each object by name, in the base frame (m).
        touched: Names of the objects in contact with the hand.
    """

    hand_points: NDArray[np.float64]
    object_positions: Mapping[str, NDArray[np.float64]]
    touched: frozenset[str]

    def __post_init__(self) -> None:
        if np.shape(self.hand_points) != (5, 3):
            raise ValueError(f'expected 5 hand points, got shape {np.shape(self.hand_points)}')


@dataclass(frozen=True)
class Verdict:
    """How a task went.

    Attributes:
        success: Whether the paper's criterion (push: ours) was met at some time.
        strict_success: Whether the stricter criterion was met at some time.
        measure: The quantity judged, at the last state (m): mean distance of the hand points
            (reach), height lifted (grasp), distance of the object from its goal (place, push).
    """

    success: bool
    strict_success: bool
    measure: float


class Judge(Protocol):
    """Watches one attempt at a task."""

    def update(self, state: TaskState) -> None:
        """Takes in the next state, ``STEP`` after the one before."""

    def verdict(self) -> Verdict:
        """Returns the verdict so far. Success, once reached, stays."""


class _Streak:
    """Whether a condition has held long enough."""

    def __init__(self) -> None:
        self.length = 0
        self.reached = False

    def update(self, holds: bool) -> None:
        self.length = self.length + 1 if holds else 0
        self.reached = self.reached or self.length >= CONSECUTIVE_STEPS


class _StreakJudge:
    def __init__(self) -> None:
        self._paper = _Streak()
        self._strict = _Streak()
        self._measure = float('nan')

    def verdict(self) -> Verdict:
        """Returns the verdict so far. Success, once reached, stays."""
        return Verdict(self._paper.reached, self._strict.reached, self._measure)


class ReachJudge(_StreakJudge):
    """Reach: hand points on average within 15 cm (strict: 5 cm) of those in the goal."""

    def __init__(self, goal_hand_points: NDArray[np.float64]) -> None:
        """Takes the hand points (5, 3) of the goal in the base frame (m)."""
        super().__init__()
        self._goal = np.array(goal_hand_points, dtype=np.float64)
        if self._goal.shape != (5, 3):
            raise ValueError(f'expected 5 hand points, got shape {self._goal.shape}')

    def update(self, state: TaskState) -> None:
        """Takes in the next state."""
        distances = np.linalg.norm(state.hand_points - self._goal, axis=1)
        self._measure = float(distances.mean())
        self._paper.update(self._measure < REACH_DISTANCE)
        self._strict.update(holds_strictly('reach', self._measure))


class GraspJudge(_StreakJudge):
    """Grasp: wrist within 20 cm of the object and hand in contact (strict: lifted by 5 cm)."""

    def __init__(self, target: str, start_height: float) -> None:
        """Takes the object's name and its height at the start, in the base frame (m)."""
        super().__init__()
        self._target = target
        self._start_height = start_height

    def update(self, state: TaskState) -> None:
        """Takes in the next state."""
        position = state.object_positions[self._target]
        distance = float(np.linalg.norm(state.hand_points[0] - position))
        self._measure = float(position[2] - self._start_height)
        self._paper.update(distance < GRASP_DISTANCE and self._target in state.touched)
        self._strict.update(holds_strictly('grasp', self._measure))


class _ObjectJudge(_StreakJudge):
    def __init__(
        self, task: str, target: str, goal_position: NDArray[np.float64], distance: float
    ) -> None:
        super().__init__()
        self._task = task
        self._target = target
        self._goal = np.array(goal_position, dtype=np.float64)
        self._distance = distance
        if self._goal.shape != (3,):
            raise ValueError(f'expected a position, got shape {self._goal.shape}')

    def update(self, state: TaskState) -> None:
        """Takes in the next state."""
        offset = state.object_positions[self._target] - self._goal
        self._measure = float(np.linalg.norm(offset))
        self._paper.update(self._measure < self._distance)
        self._strict.update(holds_strictly(self._task, self._measure))


class PlaceJudge(_ObjectJudge):
    """Place: object within 10 cm (strict: 5 cm) of its position in the goal."""

    def __init__(self, target: str, goal_position: NDArray[np.float64]) -> None:
        """Takes the object's name and its position (3,) in the goal, in the base frame (m)."""
        super().__init__('place', target, goal_position, PLACE_DISTANCE)


class PushJudge(_ObjectJudge):
    """Push: object within 5 cm (strict: 3 cm) of its position in the goal."""

    def __init__(self, target: str, goal_position: NDArray[np.float64]) -> None:
        """Takes the object's name and its position (3,) in the goal, in the base frame (m)."""
        super().__init__('push', target, goal_position, PUSH_DISTANCE)


def holds_strictly(task: str, measure: float) -> bool:
    """Whether a measure (m, see ``Verdict``) meets the stricter criterion of a task.

    Raises:
        ValueError: If there is no such task.
    """
    if task == 'grasp':
        return measure >= STRICT_LIFT_HEIGHT
    if task not in STRICT_DISTANCES:
        raise ValueError(f'unknown task {task!r}; there are {", ".join(TASKS)}')
    return measure < STRICT_DISTANCES[task]


def make_judge(
    task: str,
    target: str,
    start: TaskState,
    goal_hand_points: NDArray[np.float64],
    goal_positions: Mapping[str, NDArray[np.float64]],
) -> Judge:
    """Makes the judge of an attempt at a task.

    Args:
        task: One of ``TASKS``.
        target: Name of the object that the task is about; reach has none.
        start: The state at the start.
        goal_hand_points: Hand points (5, 3) of the goal, in the base frame (m).
        goal_positions: Position (3,) of each object in the goal, in the base frame (m).

    Raises:
        ValueError: If there is no such task.
    """
    if task == 'reach':
        return ReachJudge(goal_hand_points)
    if task == 'grasp':
        return GraspJudge(target, start.object_positions[target][2])
    if task == 'place':
        return PlaceJudge(target, goal_positions[target])
    if task == 'push':
        return PushJudge(target, goal_positions[target])
    raise ValueError(f'unknown task {task!r}; there are {", ".join(TASKS)}')
