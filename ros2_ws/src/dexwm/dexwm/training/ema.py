"""A moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dexwm.training.state import copy_whole, whole


class MovingAverage:
    """Exponential moving average of parameters, which is what training then saves.

    Early on the average follows quickly: the decay of step n (from 1) is at most n / (n + 50).
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        """Starts at the parameters' present values.

        Args:
            parameters: What is averaged; kept, and read at every update.
            decay: Weight of the average against the newest values, below 1.
        """
        self._parameters = list(parameters)
        self._decay = decay
        self._updates = 0
        self._averages = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Takes the present values of the parameters in."""
        self._updates += 1
        decay = min(self._decay, self._updates / (self._updates + 50))
        torch._foreach_lerp_(self._averages, self._parameters, 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters hold the averages inside the context, and their own values after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes; all processes call it."""
        return {'updates': self._updates, 'averages': [whole(item) for item in self._averages]}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up an average of the same parameters."""
        for average, saved in zip(self._averages, state['averages'], strict=True):
            copy_whole(saved, average)
        self._updates = state['updates']

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self._parameters, self._averages, strict=True):
            values = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(values)
