"""The state of a training on disk, from which it goes on exactly."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

FILE = 'state.pt'

_FORMAT_VERSION = 1
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)


class StateError(RuntimeError):
    """A state that cannot be written or taken up."""


def gather(module: nn.Module, optimisers: Mapping[str, Optimizer]) -> dict[str, Any]:
    """Trained weights and the optimisers' state, by the names of the parameters.

    All processes call this; where the weights are spread over devices, the first one gets them
    whole and the others nothing. Frozen weights are left out.
    """
    return {
        'module': get_model_state_dict(module, options=_WHOLE),
        'optimisers': {
            name: get_optimizer_state_dict(module, optimiser, options=_WHOLE)
            for name, optimiser in optimisers.items()
        },
    }


def scatter(
    state: Mapping[str, Any], module: nn.Module, optimisers: Mapping[str, Optimizer]
) -> None:
    """Takes up what `gather` gave; all processes hold it whole."""
    options = StateDictOptions(full_state_dict=True, strict=False)
    set_model_state_dict(module, state['module'], options=options)
    for name, optimiser in optimisers.items():
        set_optimizer_state_dict(
            module,
            optimiser,
            state['optimisers'][name],
            options=StateDictOptions(full_state_dict=True),
        )


def whole(tensor: Tensor) -> Tensor:
    """A tensor on the CPU, put together if it is spread over devices."""
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.detach().cpu()


def copy_whole(source: Tensor, target: Tensor) -> None:
    """Copies a tensor that is whole into one that may be spread over devices."""
    if isinstance(target, DTensor):
        source = source.to(target.device)
        source = distribute_tensor(source, target.device_mesh, target.placements)
    target.copy_(source)


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Writes the state beside the old one, then puts it in the old one's place.

    Args:
        folder: Folder of the training.
        state: Tensors and plain values.

    Raises:
        StateError: If the disk is full or the folder not writable; the old state stays whole.
    """
    path = folder / FILE
    temporary = path.with_suffix('.part')
    try:
        with temporary.open('wb') as file:
            torch.save({**state, 'format_version': _FORMAT_VERSION}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    # torch reports a failed write as RuntimeError.
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        kept = 'the state before it is whole' if path.exists() else 'there is none before it'
        raise StateError(f'{temporary} cannot be written ({error}); {kept}') from error


def read_state(folder: Path) -> dict[str, Any] | None:
    """Reads the state; None if there is none.

    Raises:
        StateError: If the file is damaged or of another version.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        # Reading a damaged archive raises whatever it comes upon.
        raise StateError(f'{path} cannot be read ({error}); begin anew with --restart') from error
    version = state.get('format_version')
    if version != _FORMAT_VERSION:
        raise StateError(
            f'{path} has format version {version}, this is {_FORMAT_VERSION}; '
            'go on with the version that wrote it, or begin anew with --restart'
        )
    return dict(state)
