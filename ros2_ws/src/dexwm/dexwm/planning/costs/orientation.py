"""Tilt of the palm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dexwm.planning.cost import Candidates, at_steps
from dexwm.planning.preset import CostAt
from dexwm.robot.keypoints import KEYPOINTS

_WRIST, _INDEX, _MIDDLE, _RING = (
    KEYPOINTS.index(name) for name in ('wrist', 'index_mcp', 'middle_mcp', 'ring_mcp')
)


def up_in_palm(keypoints_base: Tensor) -> Tensor:
    """The direction up (the base's z) as the palm sees it.

    Args:
        keypoints_base: (..., 21, 3), metres.

    Returns:
        (..., 3) unit vectors: along the fingers, across the palm towards the index finger, and
        along the palm's normal. Turning the hand about the vertical changes none of them.
    """
    along = keypoints_base[..., _MIDDLE, :] - keypoints_base[..., _WRIST, :]
    along = torch.nn.functional.normalize(along, dim=-1)
    across = keypoints_base[..., _INDEX, :] - keypoints_base[..., _RING, :]
    across = across - (across * along).sum(dim=-1, keepdim=True) * along
    across = torch.nn.functional.normalize(across, dim=-1)
    normal = torch.linalg.cross(along, across)
    return torch.stack([along, across, normal], dim=-2)[..., 2]


@dataclass(frozen=True)
class EndEffectorOrientation:
    """Keeps a neutral tilt of the palm, for grasps (paper, section 3.4).

    Attributes:
        neutral: (3,) what `up_in_palm` gives for the neutral posture.
        at: which steps count.
    """

    neutral: Tensor
    at: CostAt = 'last'
    name: str = 'orientation'
    needs_latents: bool = False

    def __call__(self, candidates: Candidates) -> Tensor:
        """The term (N,): 1 - cos of the angle to the neutral tilt."""
        cosine = (up_in_palm(candidates.keypoints_base) * self.neutral).sum(dim=-1)
        return at_steps(1 - cosine, self.at)
