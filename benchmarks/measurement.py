"""What a benchmark takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console


class BenchmarkError(RuntimeError):
    """A benchmark could not measure; the message says what stood in its way."""


@dataclass(frozen=True)
class Goal:
    """What a value shall be.

    Attributes:
        value: The bound, which itself is good enough.
        at_least: Whether it bounds from below; else from above.
    """

    value: float
    at_least: bool = True

    def is_met_by(self, value: float) -> bool:
        """Whether a value is as it shall be."""
        return value >= self.value if self.at_least else value <= self.value

    def __str__(self) -> str:
        """The goal as a table shows it."""
        return f'{"≥" if self.at_least else "≤"} {self.value:,g}'


@dataclass(frozen=True)
class Measurement:
    """One measured value.

    Attributes:
        name: What was measured.
        value: The value.
        unit: Its unit; empty if it has none.
        goal: What it shall be; None where nothing is asked of it.
    """

    name: str
    value: float
    unit: str
    goal: Goal | None = None


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        seconds: Length of each measurement without its warm-up (s); None: the benchmark's own.
        directory: Folder for what nodes leave behind.
        console: Where to say what is going on.
    """

    seconds: float | None
    directory: Path
    console: Console


def percentiles(
    name: str, samples: ArrayLike, unit: str, which: Sequence[float] = (50, 99)
) -> list[Measurement]:
    """Returns percentiles and the largest of raw samples.

    Raises:
        BenchmarkError: If there are no samples.
    """
    values = np.asarray(samples, dtype=np.float64)
    if not values.size:
        raise BenchmarkError(f'there is not one sample of {name}: measure for longer')
    return [
        *(Measurement(f'{name}, p{p:g}', float(np.percentile(values, p)), unit) for p in which),
        Measurement(f'{name}, largest', float(values.max()), unit),
    ]
