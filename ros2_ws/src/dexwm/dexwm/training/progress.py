"""How a training goes, for whoever watches."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class TrainingProgress:
    """A progress bar with the time that is left; lines of figures where it is not a terminal."""

    def __init__(self, console: Console, step: int, steps: int) -> None:
        """Shows nothing yet.

        Args:
            console: Where.
            step: Steps already taken.
            steps: Steps of the whole training.
        """
        self._console, self._begun_at, self._step, self._steps = console, step, step, steps
        self._begun = time.monotonic()
        self._progress = Progress(
            TextColumn('step'),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn('{task.description}'),
            TimeElapsedColumn(),
            TextColumn('left'),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task('', total=steps, completed=step)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def advance(self) -> None:
        """Counts a step."""
        self._step += 1
        self._progress.advance(self._task)

    def show(self, group: str, figures: Mapping[str, float]) -> None:
        """Shows figures."""
        text = '  '.join(f'{name} {_digits(value)}' for name, value in figures.items())
        if group == 'train' and self._console.is_terminal:
            rate, loss = figures['windows_per_second'], figures.get('loss')
            shown = '' if loss is None else f'loss {_digits(loss)}  '
            self._progress.update(
                self._task,
                description=f'{shown}{rate:.1f} windows/s  MFU {figures["utilisation"]:.0%}',
            )
        else:
            self._console.print(
                f'[{self._step}/{self._steps}, {self._left()} left] {group}: {text}',
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    def _left(self) -> str:
        done = self._step - self._begun_at
        per_step = (time.monotonic() - self._begun) / max(1, done)
        return str(timedelta(seconds=round(per_step * (self._steps - self._step))))


def _digits(value: float) -> str:
    return f'{value:.3e}' if value and (abs(value) < 1e-3 or abs(value) >= 1e5) else f'{value:.4g}'
