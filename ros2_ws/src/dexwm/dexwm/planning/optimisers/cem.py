"""The cross-entropy method (paper, appendix B)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dexwm.planning.optimisers.optimiser import (
    OnIteration,
    Problem,
    Search,
    ShouldStop,
    Solution,
    elites,
    unit_noise,
)


@dataclass(frozen=True)
class Cem:
    """Samples around a mean; the best samples give the next mean and spread.

    The mean is itself a candidate, samples are kept inside the limits, the spread does not fall
    below a floor, and the best candidate ever judged is the result.

    Attributes:
        samples: candidates an iteration.
        iterations: how often.
        elites: candidates that give the next mean and spread.
        sigma_floor: least spread, as part of the first.
    """

    samples: int
    iterations: int
    elites: int
    sigma_floor: float

    def optimise(
        self,
        problem: Problem,
        generator: torch.Generator,
        on_iteration: OnIteration,
        should_stop: ShouldStop,
    ) -> Solution:
        """See `Optimiser`."""
        search = Search(problem, on_iteration, should_stop)
        mean, sigma = problem.mean, problem.sigma
        for _ in range(self.iterations):
            noise = unit_noise(problem, self.samples, generator)
            candidates = problem.sample(mean, sigma, noise)
            costs = search.judge(candidates)
            if costs is None:
                break
            best, _ = elites(candidates, costs, self.elites)
            mean = best.mean(dim=0)
            sigma = best.std(dim=0, correction=0)
            sigma = torch.maximum(sigma, self.sigma_floor * problem.sigma)
            search.report(costs, sigma)
        return search.solution()
