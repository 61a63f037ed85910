"""The scripted expert among the methods of the closed-loop evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from dexwm.evaluation.closed_loop import Attempt
from dexwm.planning.planner import PlanResult
from dexwm_sim.attempt import SimulatedAttempt


class ExpertMethod:
    """Does what the expert did when the episode was made: the ceiling.

    It knows where everything is, and is no planner.
    """

    name = 'expert'
    digest = hashlib.sha256(b'the motion that comes with the episode').hexdigest()

    def run(
        self, attempt: Attempt, task: str, seed: int, on_plan: Callable[[PlanResult], None]
    ) -> None:
        """Moves along the episode's legs.

        Raises:
            TypeError: If the attempt is not a simulated one.
        """
        if not isinstance(attempt, SimulatedAttempt):
            raise TypeError(f'the expert needs a simulated attempt, got {type(attempt).__name__}')
        attempt.follow(attempt.episode.expert, task)
