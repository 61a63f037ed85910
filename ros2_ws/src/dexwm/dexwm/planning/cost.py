"""How good candidates are: terms that add up with weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from dexwm.planning.preset import CostAt


@dataclass(frozen=True)
class Candidates:
    """N sequences of T waypoints, and what is known about them.

    Attributes:
        start: (23,) joint positions they start from, rad.
        joints: (N, T, 23), rad.
        keypoints_base: (N, T, 21, 3) of the hand, by forward kinematics, metres.
        latents: (N, T, P, D) that the world model predicts; None where no term asks for them.
    """

    start: Tensor
    joints: Tensor
    keypoints_base: Tensor
    latents: Tensor | None


class CostTerm(Protocol):
    """One thing that a plan should keep small."""

    @property
    def name(self) -> str:
        """What tables and messages call it."""
        ...

    @property
    def needs_latents(self) -> bool:
        """Whether it looks at predictions of the world model."""
        ...

    def __call__(self, candidates: Candidates) -> Tensor:
        """The term (N,), differentiable."""
        ...


@dataclass(frozen=True)
class WeightedCost:
    """A weighted sum of terms.

    Attributes:
        terms: weights and terms.

    Raises:
        ValueError: where there is no term, two have one name, or a weight is not positive.
    """

    terms: Sequence[tuple[float, CostTerm]]

    def __post_init__(self) -> None:
        object.__setattr__(self, 'terms', tuple(self.terms))
        names = [term.name for _, term in self.terms]
        if not names:
            raise ValueError('a cost needs at least one term')
        if len(set(names)) != len(names):
            raise ValueError(f'terms of a cost need different names, got {", ".join(names)}')
        for weight, term in self.terms:
            if not 0 < weight < float('inf'):
                raise ValueError(f'the weight of {term.name} must be positive, got {weight}')

    @property
    def needs_latents(self) -> bool:
        """Whether any term looks at predictions of the world model."""
        return any(term.needs_latents for _, term in self.terms)

    def parts(self, candidates: Candidates) -> dict[str, Tensor]:
        """Each term times its weight (N,), by name; their sum is the cost."""
        return {term.name: weight * term(candidates) for weight, term in self.terms}

    def __call__(self, candidates: Candidates) -> Tensor:
        """The cost (N,)."""
        total, *rest = self.parts(candidates).values()
        for part in rest:
            total = total + part
        return total


def at_steps(values: Tensor, at: CostAt) -> Tensor:
    """Values of the steps (N, T) to one of the candidate (N,): its last, or the mean of all."""
    return values[:, -1] if at == 'last' else values.mean(dim=1)
