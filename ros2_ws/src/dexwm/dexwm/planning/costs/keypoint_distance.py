"""Distance of the hand, by forward kinematics, from where the goal shows it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dexwm.planning.cost import Candidates, at_steps
from dexwm.planning.costs.distances import mean_distance
from dexwm.planning.preset import CostAt


@dataclass(frozen=True)
class KeypointDistance:
    """Mean distance of the hand's keypoints in space, metres; asks no world model.

    Attributes:
        goal: (21, 3) in the base, metres, NaN where unknown.
        at: which steps count.
    """

    goal: Tensor
    at: CostAt = 'last'
    name: str = 'keypoint_distance'
    needs_latents: bool = False

    def __call__(self, candidates: Candidates) -> Tensor:
        """The term (N,), metres."""
        return at_steps(mean_distance(candidates.keypoints_base, self.goal), self.at)
