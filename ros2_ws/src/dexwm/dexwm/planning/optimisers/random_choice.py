"""What any planner must beat."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dexwm.planning.optimisers.optimiser import (
    OnIteration,
    Problem,
    Search,
    ShouldStop,
    Solution,
    unit_noise,
)


@dataclass(frozen=True)
class RandomChoice:
    """One draw from where a planner would look first."""

    def optimise(
        self,
        problem: Problem,
        generator: torch.Generator,
        on_iteration: OnIteration,
        should_stop: ShouldStop,
    ) -> Solution:
        """See `Optimiser`."""
        search = Search(problem, on_iteration, should_stop)
        noise = unit_noise(problem, 1, generator)
        costs = search.judge(problem.clamp(problem.mean + problem.sigma * noise))
        if costs is not None:
            search.report(costs, torch.zeros_like(problem.mean))
        return search.solution()
