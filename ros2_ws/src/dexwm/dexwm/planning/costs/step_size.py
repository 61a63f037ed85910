"""Size of the steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dexwm.planning.cost import Candidates


@dataclass(frozen=True)
class StepSize:
    """Mean square of the joints' steps over a scale.

    What the goal leaves open, such as the arm's null space, stays near where it is.

    Attributes:
        scale: (23,), rad; a step of this size counts 1.
    """

    scale: Tensor
    name: str = 'step_size'
    needs_latents: bool = False

    def __call__(self, candidates: Candidates) -> Tensor:
        """The term (N,), the mean of all steps."""
        joints = candidates.joints
        start = candidates.start.expand(joints.shape[0], 1, -1)
        steps = torch.cat([start, joints], dim=1).diff(dim=1)
        return (steps / self.scale).square().mean(dim=(1, 2))
