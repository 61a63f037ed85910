"""Distance of the objects that the model sees in its predictions from where the goal has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dexwm.planning.cost import Candidates
from dexwm.planning.preset import ObjectsAt


@dataclass(frozen=True)
class ObjectDistance:
    """Expected distances of centres in the picture, summed over objects. Not in the paper.

    Expected under the map of where a centre may be: an object of which the model does not know
    whether it is moved at all is not taken for one that is moved half the way.

    Attributes:
        read: latents (..., P, D) to maps (..., K, rows, columns), probabilities of an object's
            centre, by the model's object head.
        away: (K, rows, columns) distances of the maps' cells from where the goal has a centre,
            pixels of the input picture; NaN for objects that it does not tell.
        at: the waypoint that counts.
    """

    read: Callable[[Tensor], Tensor]
    away: Tensor
    at: ObjectsAt = 'last'
    name: str = 'object_pixels'
    needs_latents: bool = True

    def __call__(self, candidates: Candidates) -> Tensor:
        """The term (N,), pixels."""
        latents = candidates.latents
        assert latents is not None
        maps = self.read(latents[:, 0 if self.at == 'first' else -1])
        told = self.away.isfinite().all(dim=(-2, -1))
        return (maps[:, told] * self.away[told]).sum(dim=(-3, -2, -1))
