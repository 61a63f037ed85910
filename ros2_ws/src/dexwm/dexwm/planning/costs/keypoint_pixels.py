"""Distance of the keypoints that the model sees in its predictions from the goal's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dexwm.planning.cost import Candidates, at_steps
from dexwm.planning.costs.distances import mean_distance
from dexwm.planning.preset import CostAt


@dataclass(frozen=True)
class KeypointPixels:
    """Mean distance in pixels of the input picture (the paper's C_kp, section 3.4).

    Attributes:
        read: latents (..., P, D) to pixels (..., 12, 2), the model's keypoint head.
        goal: (12, 2), NaN where unknown.
        at: which steps count.
    """

    read: Callable[[Tensor], Tensor]
    goal: Tensor
    at: CostAt = 'last'
    name: str = 'keypoint_pixels'
    needs_latents: bool = True

    def __call__(self, candidates: Candidates) -> Tensor:
        """The term (N,), pixels."""
        latents = candidates.latents
        assert latents is not None
        # The head is the dearest term: it reads only what counts.
        pixels = self.read(latents[:, -1:] if self.at == 'last' else latents)
        return at_steps(mean_distance(pixels, self.goal), self.at)
