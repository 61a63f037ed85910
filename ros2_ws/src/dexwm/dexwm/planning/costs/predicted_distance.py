"""Distance in space of the keypoints that the model sees in its predictions from the goal's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dexwm.planning.cost import Candidates, at_steps
from dexwm.planning.costs.distances import mean_distance
from dexwm.planning.preset import CostAt


@dataclass(frozen=True)
class PredictedDistance:
    """Mean distance in metres: pixels tell little of how far from the camera a hand is.

    Not in the paper, whose model reads no depths.

    Attributes:
        read: latents (..., P, D) to points (..., K, 3) in the base, metres: the model's keypoint
            head and the camera.
        goal: (K, 3) in the base, metres, NaN where unknown.
        at: which steps count.
    """

    read: Callable[[Tensor], Tensor]
    goal: Tensor
    at: CostAt = 'last'
    name: str = 'predicted_distance'
    needs_latents: bool = True

    def __call__(self, candidates: Candidates) -> Tensor:
        """The term (N,), metres."""
        latents = candidates.latents
        assert latents is not None
        # The head is the dearest term: it reads only what counts.
        points = self.read(latents[:, -1:] if self.at == 'last' else latents)
        return at_steps(mean_distance(points, self.goal), self.at)
