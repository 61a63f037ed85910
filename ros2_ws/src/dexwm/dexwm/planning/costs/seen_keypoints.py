"""Distance of the keypoints that the model sees in its predictions from the goal's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dexwm.planning.cost import Candidates, at_steps
from dexwm.planning.costs.distances import mean_distance
from dexwm.planning.preset import CostAt


@dataclass(frozen=True)
class SeenKeypoints:
    """Mean distance: in the picture (the paper's C_kp, section 3.4), or in space.

    In space is not in the paper, whose model reads no depths: pixels tell little of how far from
    the camera a hand is.

    Attributes:
        read: latents (..., P, D) to points (..., K, d) by the model's keypoint head: pixels of the
            input picture (d 2), or metres in the base (d 3).
        goal: (K, d), NaN where unknown.
        name: 'keypoint_pixels' or 'predicted_distance'.
        at: which steps count.
    """

    read: Callable[[Tensor], Tensor]
    goal: Tensor
    name: str
    at: CostAt = 'last'
    needs_latents: bool = True

    def __call__(self, candidates: Candidates) -> Tensor:
        """The term (N,), in the unit of what is read."""
        latents = candidates.latents
        assert latents is not None
        # The head is the dearest term: it reads only what counts.
        points = self.read(latents[:, -1:] if self.at == 'last' else latents)
        return at_steps(mean_distance(points, self.goal), self.at)
