"""Batches as the training loop sees them: dataclasses of tensors whose first axis is the batch."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor


def tensors(batch: Any) -> dict[str, Tensor]:
    """The tensors of a batch by name."""
    values = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def batch_size(batch: Any) -> int:
    """How many windows or frames a batch has."""
    return len(next(iter(tensors(batch).values())))


def to_device(batch: Any, device: torch.device) -> Any:
    """The same batch with its tensors on a device."""
    moved = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors(batch).items()}
    return dataclasses.replace(batch, **moved)


def split(batch: Any, size: int) -> list[Any]:
    """Cuts a batch into parts of at most so many windows, in their order."""
    parts = {name: tensor.split(size) for name, tensor in tensors(batch).items()}
    count = len(next(iter(parts.values())))
    return [
        dataclasses.replace(batch, **{name: pieces[index] for name, pieces in parts.items()})
        for index in range(count)
    ]


def not_finite(batch: Any) -> dict[str, list[int]]:
    """Which windows of a batch have a value that is not finite, by the tensor it is in."""
    found = {}
    for name, tensor in tensors(batch).items():
        if tensor.is_floating_point():
            wrong = ~torch.isfinite(tensor).reshape(len(tensor), -1).all(dim=1)
            if rows := wrong.nonzero().flatten().tolist():
                found[name] = rows
    return found


def origin(batch: Any, row: int) -> str:
    """Where a window is from, as far as its batch says."""
    names = ('source', 'episode', 'frame_indices')
    known = {name: value for name, value in tensors(batch).items() if name in names}
    return ', '.join(f'{name} {value[row].tolist()}' for name, value in known.items())
