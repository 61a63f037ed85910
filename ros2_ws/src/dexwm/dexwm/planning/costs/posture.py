"""Distance from a posture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dexwm.planning.cost import Candidates


@dataclass(frozen=True)
class Posture:
    """Mean square of the last waypoint's joints from given ones, over a scale.

    Few keypoints leave much of 23 joints open: stretched fingers of a hand that is too far back
    have their tips where a closed hand has, and an arm has its null space.

    Attributes:
        joints: (23,) rad.
        scale: (23,) rad; so far away counts 1. Infinite where a joint does not count.
        name: of the term.
    """

    joints: Tensor
    scale: Tensor
    name: str = 'posture'
    needs_latents: bool = False

    def __call__(self, candidates: Candidates) -> Tensor:
        """The term (N,)."""
        off = (candidates.joints[:, -1] - self.joints) / self.scale
        return off.square().sum(dim=-1) / torch.isfinite(self.scale).sum()
