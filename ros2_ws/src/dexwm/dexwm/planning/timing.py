"""Where the time of a plan goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class PartTimes:
    """A stopwatch for parts that may be inside of one another: the innermost one's is running.

    So the parts add up. On a GPU they are the times of launches, unless a part waits for a
    result.

    Attributes:
        seconds: time spent so far, by part.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Counts a block as a part, but for the parts inside of it."""
        self._enter(name)
        try:
            yield
        finally:
            self._leave()

    def both_ways(self, name: str, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Calls a function, and counts it and the gradients through it as a part.

        The result must depend on x alone, as far as gradients go.
        """
        if not (torch.is_grad_enabled() and x.requires_grad):
            with self.part(name):
                return function(x)
        # A tensor of its own: the gradient of x may also come from elsewhere, and later.
        own = x.view_as(x)
        with self.part(name):
            y = function(own)
        y.register_hook(lambda _: self._enter(name))
        own.register_hook(lambda _: self._leave())
        return y

    def _enter(self, name: str) -> None:
        self._count()
        self._open.append(name)

    def _leave(self) -> None:
        self._count()
        self._open.pop()

    def _count(self) -> None:
        now = time.perf_counter()
        if self._open:
            part = self._open[-1]
            self.seconds[part] = self.seconds.get(part, 0.0) + now - self._since
        self._since = now
