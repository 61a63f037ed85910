"""Figures of a training on disk: JSON lines and TensorBoard."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from torch.utils.tensorboard import SummaryWriter

FILE = 'metrics.jsonl'


class MetricsLog:
    """Writes figures by step into a folder.

    Figures of steps that a resumed training takes again are dropped first, so that every step
    stands there once.
    """

    def __init__(self, folder: Path, resume_at: int = 0) -> None:
        """Opens the files, or begins them.

        Args:
            folder: Where; made if missing.
            resume_at: Steps already taken; figures of later ones are removed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE
        kept = [line for line in _lines(path) if _step(line) <= resume_at]
        temporary = path.with_suffix('.part')
        temporary.write_text(''.join(line + '\n' for line in kept))
        os.replace(temporary, path)
        self._file = path.open('a')
        self._board = SummaryWriter(str(folder), purge_step=resume_at + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._board.close()

    def write(self, step: int, group: str, figures: Mapping[str, float]) -> None:
        """Writes figures.

        Args:
            step: Steps taken.
            group: What they are of: 'train' or 'validation'.
            figures: Numbers by name.
        """
        self._file.write(json.dumps({'step': step, 'group': group, **figures}) + '\n')
        self._file.flush()
        for name, value in figures.items():
            self._board.add_scalar(f'{group}/{name}', value, step)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _step(line: str) -> float:
    """The step of a line; infinite for one that a killed process did not finish."""
    try:
        return float(json.loads(line)['step'])
    except (ValueError, KeyError, TypeError):
        return float('inf')
