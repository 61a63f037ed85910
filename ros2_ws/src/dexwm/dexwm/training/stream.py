"""Where the training loop gets its batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from dexwm.data.episode import Problem
from dexwm.training.recipe import Phase


class BatchStream(Protocol):
    """An endless sequence of batches, the part of one process."""

    def __next__(self) -> Any:
        """The next batch."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where the sequence stands after the batches that were taken."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where another one stood, on any number of processes."""
        ...


class BatchSource(Protocol):
    """Gives streams of batches."""

    @property
    def problems(self) -> list[Problem]:
        """What was left out so far, and why: each file once."""
        ...

    def windows_per_epoch(self) -> int:
        """How many windows (or frames) one pass over the data has."""
        ...

    def training(self, phase: Phase, batch_size: int, rank: int, processes: int) -> BatchStream:
        """Batches of a phase.

        Args:
            phase: Which.
            batch_size: Windows of a batch of this process.
            rank: Number of this process.
            processes: How many there are.
        """
        ...

    def validation(self, rank: int, processes: int) -> Iterator[Any]:
        """The batches of a validation, the same each time."""
        ...
