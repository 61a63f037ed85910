"""A first-order optimiser: gradients through the world model and the forward kinematics."""

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
class Gradient:
    """Adam from several starts at once, each step projected to the limits.

    It works on joints over their sigma, so that arm and fingers move in proportion. The first
    start is the mean, the others are drawn around it.

    Attributes:
        starts: how many.
        iterations: steps of Adam.
        learning_rate: of the first step, in sigmas; falls linearly to a fifth.
        start_spread: of the drawn starts, in sigmas.
    """

    starts: int
    iterations: int
    learning_rate: float = 0.3
    start_spread: float = 0.7

    def optimise(
        self,
        problem: Problem,
        generator: torch.Generator,
        on_iteration: OnIteration,
        should_stop: ShouldStop,
    ) -> Solution:
        """See `Optimiser`."""
        search = Search(problem, on_iteration, should_stop)
        noise = self.start_spread * unit_noise(problem, self.starts, generator)
        begin = problem.sample(problem.mean, problem.sigma, noise)
        # A posture outside the limits must not be where the others are measured from.
        mean = problem.clamp(problem.mean)
        offset = ((begin - mean) / problem.sigma).requires_grad_()
        adam = torch.optim.Adam([offset], lr=self.learning_rate)
        good = offset.detach().clone()
        for iteration in range(self.iterations):
            for group in adam.param_groups:
                group['lr'] = self.learning_rate * (1 - 0.8 * iteration / self.iterations)
            with torch.enable_grad():
                candidates = problem.clamp(mean + problem.sigma * offset)
                costs = search.judge(candidates, may_fail=iteration > 0)
                if costs is None:
                    break
                judged = torch.isfinite(costs)
                (gradient,) = torch.autograd.grad(costs[judged].sum(), offset)
            lost = ~judged
            good[judged] = offset.detach()[judged]
            offset.grad = torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
            adam.step()
            with torch.no_grad():
                # What can't be judged goes half of the way back, and starts anew from there.
                adam.state[offset]['exp_avg'][lost] = 0
                offset[lost] = (candidates[lost] - mean) / problem.sigma
                offset[lost] = (offset[lost] + good[lost]) / 2
                joints = problem.clamp(mean + problem.sigma * offset)
                offset.copy_((joints - mean) / problem.sigma)
                spread = joints.std(dim=0, correction=0)
            search.report(costs, spread)
        return search.solution()
