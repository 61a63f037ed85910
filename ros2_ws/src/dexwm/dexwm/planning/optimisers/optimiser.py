"""What an optimiser takes and gives."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from dexwm.planning.errors import PlanningError


class Interrupted(Exception):
    """Raised by a cost that was told to stop before it was through."""


@dataclass(frozen=True)
class Problem:
    """Waypoints to find.

    Attributes:
        cost: joints (N, T, 23) to costs (N,); NaN for a candidate that can't be judged. May
            raise `Interrupted`.
        mean: (T, 23) where to look first, rad.
        sigma: (T, 23) how far around it, rad.
        lower: (23,) limits of the joints, rad.
        upper: (23,), rad.
    """

    cost: Callable[[Tensor], Tensor]
    mean: Tensor
    sigma: Tensor
    lower: Tensor
    upper: Tensor

    def clamp(self, joints: Tensor) -> Tensor:
        """Joints (..., 23) moved into the limits."""
        return torch.clamp(joints, self.lower, self.upper)

    def sample(self, mean: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """Candidates (N, T, 23) of noise (N, T, 23) of unit variance, inside the limits.

        The first is the mean itself.
        """
        candidates = mean + sigma * noise
        candidates[0] = mean
        return self.clamp(candidates)


@dataclass(frozen=True)
class Iteration:
    """How far an optimisation is.

    Attributes:
        iteration: its number, from 0.
        best_cost: the lowest so far.
        mean_cost: of this iteration's candidates that can be judged.
        spread: mean standard deviation of the joints, rad.
        elapsed: since the optimisation began, seconds.
    """

    iteration: int
    best_cost: float
    mean_cost: float
    spread: float
    elapsed: float


@dataclass(frozen=True)
class Solution:
    """The best that was found.

    Attributes:
        joints: (T, 23), rad; the first guess where nothing was judged.
        cost: its cost; infinite where nothing was judged.
        costs: the best so far after each iteration.
        stopped: whether it was told to stop before it was through.
    """

    joints: Tensor
    cost: float
    costs: tuple[float, ...]
    stopped: bool


OnIteration = Callable[[Iteration], None]
ShouldStop = Callable[[], bool]


class Optimiser(Protocol):
    """Looks for waypoints of low cost."""

    def optimise(
        self,
        problem: Problem,
        generator: torch.Generator,
        on_iteration: OnIteration,
        should_stop: ShouldStop,
    ) -> Solution:
        """Returns the best candidate that was ever judged.

        Args:
            problem: what to look for.
            generator: the only source of randomness, on the device of the problem.
            on_iteration: told after each iteration.
            should_stop: asked before each iteration.

        Raises:
            PlanningError: where no candidate of an iteration can be judged.
        """
        ...


@dataclass
class Search:
    """The bookkeeping of an optimisation: best candidate, statistics, interruption.

    Attributes:
        problem: what is looked for.
        on_iteration: told after each iteration.
        should_stop: asked before each.
    """

    problem: Problem
    on_iteration: OnIteration
    should_stop: ShouldStop
    _best: Tensor | None = None
    _best_cost: float = float('inf')
    _costs: list[float] = field(default_factory=list)
    _stopped: bool = False
    _begin: float = field(default_factory=time.perf_counter)

    def judge(self, candidates: Tensor, *, may_fail: bool = False) -> Tensor | None:
        """Costs (N,) of candidates (N, T, 23), infinite where NaN; None: stop.

        The best is kept.

        Args:
            candidates: to be judged.
            may_fail: whether it is no error that none can be judged.

        Raises:
            PlanningError: where no candidate can be judged.
        """
        if self.should_stop():
            self._stopped = True
            return None
        try:
            costs = self.problem.cost(candidates)
        except Interrupted:
            self._stopped = True
            return None
        judged = costs.detach()
        if not may_fail and not torch.isfinite(judged).any():
            raise PlanningError(
                f'none of {len(candidates)} candidates can be judged: their costs are '
                f'{judged[0].item()}. Look for NaN in the weights of the model and in the goal'
            )
        costs = torch.where(torch.isfinite(costs), costs, torch.inf)
        best = int(costs.argmin())
        if (cost := float(costs[best].detach())) < self._best_cost:
            self._best, self._best_cost = candidates[best].detach().clone(), cost
        return costs

    def report(self, costs: Tensor, spread: Tensor) -> None:
        """Ends an iteration whose candidates had these costs (N,), spread (T, 23) about."""
        self._costs.append(self._best_cost)
        judged = costs.detach()
        self.on_iteration(
            Iteration(
                len(self._costs) - 1,
                self._best_cost,
                float(judged[torch.isfinite(judged)].mean()),
                float(spread.mean()),
                time.perf_counter() - self._begin,
            )
        )

    def solution(self) -> Solution:
        """What was found until now."""
        joints = self.problem.clamp(self.problem.mean) if self._best is None else self._best
        return Solution(joints, self._best_cost, tuple(self._costs), self._stopped)


def elites(candidates: Tensor, costs: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best candidates (K, T, 23) and their costs (K,), best first; K at most `count`.

    Candidates of infinite cost are never among them.
    """
    count = min(count, int(torch.isfinite(costs).sum()))
    chosen = costs.topk(count, largest=False)
    return candidates[chosen.indices], chosen.values


def unit_noise(problem: Problem, count: int, generator: torch.Generator) -> Tensor:
    """Gaussian noise (count, T, 23) of unit variance."""
    return torch.randn(count, *problem.mean.shape, generator=generator, device=problem.mean.device)
