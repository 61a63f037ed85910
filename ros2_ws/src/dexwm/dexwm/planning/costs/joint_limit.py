"""Distance of the joints from their limits."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dexwm.planning.cost import Candidates


@dataclass(frozen=True)
class JointLimit:
    """Mean over joints of how far they are inside a band before their limits, squared.

    Attributes:
        lower: (23,), rad.
        upper: (23,), rad.
        band: width of the band, rad. At a limit a joint counts 1, at the band's edge 0.
    """

    lower: Tensor
    upper: Tensor
    band: float = 0.1
    name: str = 'joint_limit'
    needs_latents: bool = False

    def __call__(self, candidates: Candidates) -> Tensor:
        """The term (N,), the mean of all steps."""
        joints = candidates.joints
        below = (self.lower + self.band - joints).clamp(min=0)
        above = (joints - self.upper + self.band).clamp(min=0)
        return ((below + above) / self.band).square().mean(dim=(1, 2))
