"""Distance of the hand, by forward kinematics seen through the camera, from the goal's pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dexwm.planning.cost import Candidates, at_steps
from dexwm.planning.costs.distances import mean_distance
from dexwm.planning.preset import CostAt


@dataclass(frozen=True)
class ProjectedPixels:
    """Mean distance of projected keypoints, pixels of the input picture; asks no world model.

    Attributes:
        project: keypoints in the base (..., 21, 3) to pixels (..., 12, 2).
        goal: (12, 2), NaN where unknown.
        at: which steps count.
    """

    project: Callable[[Tensor], Tensor]
    goal: Tensor
    at: CostAt = 'last'
    name: str = 'projected_pixels'
    needs_latents: bool = False

    def __call__(self, candidates: Candidates) -> Tensor:
        """The term (N,), pixels; NaN where the hand is behind the camera."""
        pixels = self.project(candidates.keypoints_base)
        return at_steps(mean_distance(pixels, self.goal), self.at)
