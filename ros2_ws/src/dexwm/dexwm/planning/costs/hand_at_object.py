"""Distance of the hand from where the goal has the object that moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dexwm.planning.cost import Candidates
from dexwm.planning.preset import ObjectsAt

# The fingertips, behind the wrist, of the right hand's heat map keypoints.
_TIPS = slice(-5, None)


@dataclass(frozen=True)
class HandAtObject:
    """Distance in the picture of the fingertips' mean, by forward kinematics, from a place.

    It knows where an object is to be and nothing of how objects move: what a push gains by the
    world model shows beside it. Not in the paper.

    Attributes:
        project: keypoints (..., 21, 3) in the base, metres, to pixels (..., 12, 2).
        place: (2,) of the object, pixels of the input picture.
        at: the waypoint that counts.
    """

    project: Callable[[Tensor], Tensor]
    place: Tensor
    at: ObjectsAt = 'last'
    name: str = 'hand_at_object'
    needs_latents: bool = False

    def __call__(self, candidates: Candidates) -> Tensor:
        """The term (N,), pixels."""
        hands = candidates.keypoints_base[:, 0 if self.at == 'first' else -1]
        return (self.project(hands)[..., _TIPS, :].mean(dim=-2) - self.place).norm(dim=-1)
