"""Distance of the hand from boxes that it must not touch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dexwm.planning.cost import Candidates
from dexwm.robot.box import Box

CLEARANCE = 0.02
"""Kept between keypoints and boxes: fingers are about this thick around them, metres."""


class KeepOut:
    """How far keypoints are inside boxes grown by a clearance, metres, summed over keypoints.

    The motion's own check looks at all bodies and at the way, and refuses what collides. This term
    keeps plans from being refused.
    """

    name = 'keep_out'
    needs_latents = False

    def __init__(
        self, boxes: Sequence[Box], device: torch.device, clearance: float = CLEARANCE
    ) -> None:
        """Takes boxes in the base.

        Args:
            boxes: at least one.
            device: where candidates are.
            clearance: kept from them, metres.
        """
        centres = [torch.from_numpy(box.position.copy()) for box in boxes]
        halves = [torch.from_numpy(box.size / 2) for box in boxes]
        self._centres = torch.stack(centres).float().to(device)
        self._halves = torch.stack(halves).float().to(device)
        self._clearance = clearance

    def __call__(self, candidates: Candidates) -> Tensor:
        """The term (N,), the mean of all steps."""
        points = candidates.keypoints_base[..., None, :]
        # Negative inside; outside of an edge it is less than the distance, which errs to safety.
        beyond = ((points - self._centres).abs() - self._halves).amax(dim=-1)
        return (self._clearance - beyond).clamp(min=0).sum(dim=(-2, -1)).mean(dim=1)
