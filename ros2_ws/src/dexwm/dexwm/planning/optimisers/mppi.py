"""Model predictive path integral control (Williams et al., ICRA 2017), iterated."""

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
class Mppi:
    """Like CEM, but the better an elite, the more it counts.

    Weights are exp(-(c - c_best) / (temperature * (c_worst - c_best))) over the elites: the
    scale of the costs does not matter.

    Attributes:
        samples: candidates an iteration.
        iterations: how often.
        elites: candidates that count.
        sigma_floor: least spread, as part of the first.
        temperature: small: the best alone counts; large: all elites alike.
    """

    samples: int
    iterations: int
    elites: int
    sigma_floor: float
    temperature: float = 0.5

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
            best, best_costs = elites(candidates, costs, self.elites)
            scale = (best_costs[-1] - best_costs[0]).clamp(min=1e-12)
            weights = torch.softmax(-(best_costs - best_costs[0]) / (self.temperature * scale), 0)
            weights = weights[:, None, None]
            mean = (weights * best).sum(dim=0)
            sigma = (weights * (best - mean).square()).sum(dim=0).sqrt()
            sigma = torch.maximum(sigma, self.sigma_floor * problem.sigma)
            search.report(costs, sigma)
        return search.solution()
