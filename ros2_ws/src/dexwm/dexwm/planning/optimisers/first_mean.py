"""No optimisation."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dexwm.planning.optimisers.optimiser import (
    OnIteration,
    Problem,
    Search,
    ShouldStop,
    Solution,
)


@dataclass(frozen=True)
class FirstMean:
    """Where a planner would look first, as it is: what is left of a hybrid without its search."""

    def optimise(
        self,
        problem: Problem,
        generator: torch.Generator,
        on_iteration: OnIteration,
        should_stop: ShouldStop,
    ) -> Solution:
        """See `Optimiser`."""
        search = Search(problem, on_iteration, should_stop)
        costs = search.judge(problem.clamp(problem.mean)[None])
        if costs is not None:
            search.report(costs, torch.zeros_like(problem.mean))
        return search.solution()
