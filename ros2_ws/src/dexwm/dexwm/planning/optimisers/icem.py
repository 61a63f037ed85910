"""The improved cross-entropy method (Pinneri et al., CoRL 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

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
class Icem:
    """CEM that keeps elites, mixes old and new statistics, and samples less and less.

    Over more than one step its noise is coloured: neighbouring steps go the same way.

    Attributes:
        samples: candidates of the first iteration.
        iterations: how often.
        elites: candidates that give the next mean and spread.
        sigma_floor: least spread, as part of the first.
        kept: part of the elites that are candidates again.
        momentum: part of the old mean and spread in the new ones.
        decay: each iteration has as many candidates as the one before over this, at least twice
            the elites.
        colour: exponent of the noise's power spectrum; 0 is white.
    """

    samples: int
    iterations: int
    elites: int
    sigma_floor: float
    kept: float = 0.3
    momentum: float = 0.1
    decay: float = 1.25
    colour: float = 2.0

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
        kept = mean.new_empty(0, *mean.shape)
        for iteration in range(self.iterations):
            count = min(
                self.samples,
                max(round(self.samples * self.decay**-iteration), 2 * self.elites),
            )
            noise = coloured(unit_noise(problem, count, generator), self.colour)
            candidates = torch.cat([problem.sample(mean, sigma, noise), kept])
            costs = search.judge(candidates)
            if costs is None:
                break
            best, _ = elites(candidates, costs, self.elites)
            kept = best[: max(1, math.floor(self.kept * self.elites))]
            old = self.momentum
            mean = old * mean + (1 - old) * best.mean(dim=0)
            sigma = old * sigma + (1 - old) * best.std(dim=0, correction=0)
            sigma = torch.maximum(sigma, self.sigma_floor * problem.sigma)
            search.report(costs, sigma)
        return search.solution()


def coloured(noise: Tensor, exponent: float) -> Tensor:
    """White noise (N, T, J) with the power spectrum f^-exponent along its steps, unit variance.

    The frequency 0 counts as that of one period in 2 T steps; a single step stays white.
    """
    steps = noise.shape[1]
    if steps == 1 or exponent == 0:
        return noise
    frequency = torch.fft.rfftfreq(steps, device=noise.device).clamp(min=0.5 / steps)
    spectrum = torch.fft.rfft(noise, dim=1)
    gain = frequency ** (-exponent / 2)
    # Variance of the result, by Parseval: all frequencies but the ends appear twice in the sum.
    twice = torch.full_like(frequency, 2.0)
    twice[0] = 1.0
    if steps % 2 == 0:
        twice[-1] = 1.0
    scale = ((twice * gain.square()).sum() / steps).sqrt()
    return torch.fft.irfft(spectrum * (gain / scale)[:, None], n=steps, dim=1)
