"""Distance of predicted latents from the goal's."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dexwm.planning.cost import Candidates, at_steps
from dexwm.planning.preset import CostAt


@dataclass(frozen=True)
class LatentDistance:
    """Mean squared difference over tokens and channels.

    It stands for the paper's C_state (section 3.4), an L2 distance.

    Attributes:
        goal: (P, D).
        at: which steps count.
        tokens: (P,) bool, the tokens that count; None for all.
    """

    goal: Tensor
    at: CostAt = 'last'
    tokens: Tensor | None = None
    name: str = 'latent'
    needs_latents: bool = True

    def __call__(self, candidates: Candidates) -> Tensor:
        """The term (N,)."""
        latents, goal = candidates.latents, self.goal
        assert latents is not None
        if self.at == 'last':
            latents = latents[:, -1:]
        if self.tokens is not None:
            latents, goal = latents[:, :, self.tokens], goal[self.tokens]
        return at_steps((latents - goal).square().mean(dim=(2, 3)), self.at)
