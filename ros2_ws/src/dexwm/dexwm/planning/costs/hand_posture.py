"""Distance of the fingers from a posture of the hand."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dexwm.planning.cost import Candidates
from dexwm.robot.joints import HAND


@dataclass(frozen=True)
class HandPosture:
    """Mean square of the last waypoint's finger joints from given ones, rad².

    Few keypoints leave the fingers open: stretched ones of a hand that is too far back have
    their tips where a closed hand has.

    Attributes:
        fingers: (16,) rad.
    """

    fingers: Tensor
    name: str = 'hand_posture'
    needs_latents: bool = False

    def __call__(self, candidates: Candidates) -> Tensor:
        """The term (N,), rad²."""
        return (candidates.joints[:, -1, HAND] - self.fingers).square().mean(dim=-1)
