"""Reads the published reference checkpoint, a PyTorch `.pth.tar`, into a world model.

The layout is known from descriptions only: a dictionary with the weights under one of its keys,
beside the optimiser and counters, and names that the wrappers of a distributed or compiled model
have prefixed. The names in `NAMES` are an assumption; this has NOT been run on the published
file. Nothing is guessed past them: what does not match name by name and shape by shape is listed,
and another table can be given.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from dexwm.model.encoders.encoder import Encoder
from dexwm.model.predictor import SIZES
from dexwm.model.world_model import WorldModel, WorldModelConfig

NAMES: dict[str, str] = {
    'predictor.input_proj': 'predictor.input_proj',
    'predictor.pos_embed': 'predictor.pos_embed',
    'predictor.blocks.{i}.adaln': 'predictor.blocks.{i}.adaLN_modulation.1',
    'predictor.blocks.{i}.attention.qkv': 'predictor.blocks.{i}.attn.qkv',
    'predictor.blocks.{i}.attention.proj': 'predictor.blocks.{i}.attn.proj',
    'predictor.blocks.{i}.cross_attention.qkv': 'predictor.blocks.{i}.cross_attn.qkv',
    'predictor.blocks.{i}.cross_attention.proj': 'predictor.blocks.{i}.cross_attn.proj',
    'predictor.blocks.{i}.mlp.0': 'predictor.blocks.{i}.mlp.fc1',
    'predictor.blocks.{i}.mlp.2': 'predictor.blocks.{i}.mlp.fc2',
    'predictor.final.adaln': 'predictor.final_layer.adaLN_modulation.1',
    'predictor.final.linear': 'predictor.final_layer.linear',
    'predictor.output_proj': 'predictor.output_proj',
    'keypoint_head.input_proj': 'keypoint_model.embed',
    'keypoint_head.pos_embed': 'keypoint_model.pos_embed',
    'keypoint_head.blocks.{i}.norm1': 'keypoint_model.blocks.{i}.norm1',
    'keypoint_head.blocks.{i}.qkv': 'keypoint_model.blocks.{i}.attn.qkv',
    'keypoint_head.blocks.{i}.proj': 'keypoint_model.blocks.{i}.attn.proj',
    'keypoint_head.blocks.{i}.norm2': 'keypoint_model.blocks.{i}.norm2',
    'keypoint_head.blocks.{i}.mlp.0': 'keypoint_model.blocks.{i}.mlp.fc1',
    'keypoint_head.blocks.{i}.mlp.2': 'keypoint_model.blocks.{i}.mlp.fc2',
    'keypoint_head.norm': 'keypoint_model.norm',
    'keypoint_head.output': 'keypoint_model.head',
}
"""Names here to names there; {i} is the number of a block; `.weight` and `.bias` are kept."""

ENTRIES = ('model', 'state_dict', 'ema')
"""Keys of the file under which weights may lie."""

_WRAPPERS = ('module', '_orig_mod', '_fsdp_wrapped_module', '_checkpoint_wrapped_module')
"""Parts of names that DDP, torch.compile, FSDP and activation checkpointing put in."""


class ReferenceCheckpointError(ValueError):
    """Raised for a file that is no such checkpoint, or whose names or shapes do not match."""


@dataclass(frozen=True)
class NamingTable:
    """How tensors are called in the file.

    Attributes:
        names: like `NAMES`.
        ignore: patterns (`*` for anything) of names in the file that are not wanted, such as a
            frozen encoder's.
    """

    names: Mapping[str, str] = field(default_factory=lambda: NAMES)
    ignore: Sequence[str] = ()

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str]) -> NamingTable:
        """Reads a table with the keys `names` (entries that differ from `NAMES`) and `ignore`.

        Raises:
            ReferenceCheckpointError: where it can't be read, or has other keys or names.
        """
        try:
            table = yaml.safe_load(Path(path).read_text())
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ReferenceCheckpointError(f'{path} cannot be read: {error}') from error
        if not isinstance(table, dict) or not set(table) <= {'names', 'ignore'}:
            raise ReferenceCheckpointError(f'{path} must be a mapping with names and ignore')
        names, ignore = table.get('names') or {}, table.get('ignore') or []
        if not isinstance(names, dict) or not isinstance(ignore, list):
            raise ReferenceCheckpointError(
                f'{path}: names must be a mapping and ignore a list of patterns'
            )
        if unknown := [str(name) for name in names if name not in NAMES]:
            raise ReferenceCheckpointError(
                f'{path}: names has no {", ".join(unknown)}; it has {", ".join(NAMES)}'
            )
        return cls({**NAMES, **names}, ignore)

    def theirs(self, name: str) -> str:
        """The name in the file of a tensor of a world model."""
        parts = name.split('.')
        number = next((part for part in parts if part.isdigit()), '')
        if 'blocks' in parts:
            parts[parts.index('blocks') + 1] = '{i}'
        for end in (len(parts), len(parts) - 1):
            if found := self.names.get('.'.join(parts[:end])):
                return '.'.join([found.replace('{i}', number), *parts[end:]])
        raise ReferenceCheckpointError(f'the reference has nothing for {name}')


def reference_config(size: str, encoder: Encoder) -> WorldModelConfig:
    """The configuration of a reference model: the paper's, with what the published code does.

    Args:
        size: 'S', 'B', 'L' or 'XL'.
        encoder: DINOv2-L for the published one.

    Raises:
        ReferenceCheckpointError: where the paper has no such size.
    """
    paper = [name for name in SIZES if name.isupper()]
    if size not in paper:
        raise ReferenceCheckpointError(f'size must be one of {", ".join(paper)}, got {size!r}')
    side = min(encoder.grid)
    written = {
        'name': f'reference_{size.lower()}',
        'predictor': {'size': size},
        'keypoint_head': {'token_grid': [side, side]},
        'action': {'euler': 'reference', 'camera_frame': 'world'},
    }
    return WorldModelConfig.for_encoder(written, encoder)


def read_reference_weights(
    path: str | os.PathLike[str], entry: str | None = None
) -> dict[str, Tensor]:
    """The weights in a reference checkpoint, wrappers' prefixes taken off.

    Nothing in the file is executed.

    Args:
        path: the `.pth.tar`.
        entry: key under which the weights lie; None where there is one of `ENTRIES` only.

    Raises:
        ReferenceCheckpointError: where the file can't be read so, or the entry is not clear.
    """
    try:
        content: Any = torch.load(path, map_location='cpu', weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ReferenceCheckpointError(f'{path} cannot be read: {error}') from error
    if not isinstance(content, dict):
        raise ReferenceCheckpointError(
            f'{path} holds a {type(content).__name__}, not a dictionary'
        )
    found = [key for key in ENTRIES if key in content] if entry is None else [entry]
    if len(found) != 1 or not _is_state(content.get(found[0])):
        raise ReferenceCheckpointError(
            f'{path} has the entries {", ".join(map(str, content))}: say which holds the weights '
            f'({", ".join(found) or "none of " + ", ".join(ENTRIES)} found)'
        )
    return {_unwrapped(name): tensor for name, tensor in content[found[0]].items()}


def convert_reference(
    weights: Mapping[str, Tensor],
    config: WorldModelConfig,
    encoder: Encoder,
    table: NamingTable | None = None,
) -> WorldModel:
    """Makes a world model with the weights of a reference checkpoint.

    Args:
        weights: from `read_reference_weights`.
        config: of the model, see `reference_config`.
        encoder: the one it was trained with.
        table: how the tensors are called; None: `NAMES`.

    Returns:
        The model, without a decoder, in evaluation mode.

    Raises:
        ReferenceCheckpointError: with all names that are missing or left over and all shapes
            that differ.
    """
    table = NamingTable() if table is None else table
    model = WorldModel(config, encoder)
    own = {k: v for k, v in model.state_dict().items() if not k.startswith('encoder.')}
    theirs = {name: table.theirs(name) for name in own}
    problems = [
        f'missing: {there} {tuple(own[name].shape)} (for {name})'
        for name, there in theirs.items()
        if there not in weights
    ]
    wanted = set(theirs.values())
    problems += [
        f'left over: {there} {tuple(tensor.shape)}'
        for there, tensor in weights.items()
        if there not in wanted and not any(fnmatchcase(there, p) for p in table.ignore)
    ]
    problems += [
        f'other shape: {there} is {tuple(weights[there].shape)} and must be '
        f'{tuple(own[name].shape)}'
        for name, there in theirs.items()
        if there in weights and weights[there].shape != own[name].shape
    ]
    if problems:
        raise ReferenceCheckpointError(
            'the file does not match; a table of names may help (dexwm convert --names):\n'
            + '\n'.join(problems)
        )
    model.load_state_dict(
        {name: weights[there].to(own[name].dtype) for name, there in theirs.items()}, strict=False
    )
    return model.eval()


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, Tensor) for v in value.values())


def _unwrapped(name: str) -> str:
    return '.'.join(part for part in name.split('.') if part not in _WRAPPERS)
