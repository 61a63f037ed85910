"""What the training loop asks of that which it trains."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dexwm.training.recipe import Phase


class Task(nn.Module):
    """Trainable modules with the losses they are trained on.

    Attributes:
        turns: What is optimised one after the other in every step, each with an optimiser of its
            own: a model, then perhaps its discriminator.
    """

    turns: tuple[str, ...] = ('model',)

    def trained(self, turn: str) -> nn.Module:
        """The module whose parameters a turn optimises."""
        return self

    @abstractmethod
    def forward(self, batch: Any, phase: Phase, turn: str) -> dict[str, Tensor]:
        """Losses by name, each a mean over the batch; 'loss' is what is minimised."""

    @abstractmethod
    def validate(self, batch: Any) -> dict[str, Tensor]:
        """Sums over a batch, by name, which `summary` makes figures of."""

    @abstractmethod
    def summary(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Figures from the sums over all batches of a validation."""

    def compiled(self) -> tuple[nn.Module, ...]:
        """Modules that are worth compiling."""
        return ()

    def sharded(self) -> tuple[tuple[nn.Module, tuple[str, ...]], ...]:
        """Modules whose weights are gathered one module at a time where they are spread.

        With each, the names of methods that use its weights besides forward.
        """
        return ()

    def checkpoint_activations(self) -> None:
        """Computes activations again in the backward pass from now on.

        Raises:
            ValueError: If the task has no such modules.
        """
        raise ValueError('there is no activation checkpointing for this kind of training')

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes what was trained, in the form in which it is used."""
