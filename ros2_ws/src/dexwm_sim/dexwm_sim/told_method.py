"""What planning reaches where nothing has to be read of the goal: a ceiling for planners."""

from __future__ import annotations

import hashlib

from dexwm.evaluation.closed_loop import Attempt, PlanningMethod
from dexwm.planning.goal import KeypointGoal
from dexwm_sim.attempt import SimulatedAttempt


class ToldMethod(PlanningMethod):
    """Plans towards the hand's 21 keypoints of the goal, as the simulator knows them.

    What it is ahead of the same preset with the picture, reading the picture costs.
    """

    name = 'told'
    preset = 'keypoints'

    @property
    def digest(self) -> str:
        """Of what its preset's has, hexadecimal."""
        return hashlib.sha256(f'told {super().digest}'.encode()).hexdigest()

    def goal_of(self, attempt: Attempt) -> KeypointGoal:
        """Where the hand is at the episode's end.

        Raises:
            TypeError: If the attempt is not a simulated one.
        """
        if not isinstance(attempt, SimulatedAttempt):
            raise TypeError(f'told needs a simulated attempt, got {type(attempt).__name__}')
        return KeypointGoal(points_base=attempt.episode.goal.keypoints)
