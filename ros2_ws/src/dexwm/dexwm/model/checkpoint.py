"""Models on disk: a folder with config.json and model.safetensors.

The public weights of the encoder are not stored, only a digest of them, so that a model can't be
used with others; what was trained behind them (an adapter) is stored. So are the names of the
hand's keypoints, whose number and order are what an action means.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dexwm.model.encoders.encoder import Encoder
from dexwm.model.encoders.registry import build_encoder
from dexwm.model.world_model import WorldModel, WorldModelConfig, WorldModelError
from dexwm.robot.keypoints import KEYPOINTS

FORMAT_VERSION = 3
CONFIG_FILE = 'config.json'
WEIGHTS_FILE = 'model.safetensors'
_KEYS = ('format_version', 'encoder_digest', 'frozen_encoder_digest', 'keypoints', 'model')


class CheckpointError(ValueError):
    """Raised for a folder that holds no model that can be used, or one that can't be written."""


def save_checkpoint(model: WorldModel, folder: str | os.PathLike[str]) -> None:
    """Writes a model into a folder, over the one that is there.

    Both files are written beside the old ones and take their places when they are complete on
    the disk: whatever goes wrong before, the old model stays whole.

    Args:
        model: on any device.
        folder: made where it does not exist; other files in it are left alone.

    Raises:
        CheckpointError: where it can't be written, as on a full disk.
    """
    config = _describe(model)
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in _stored(model).items()
    }
    folder = Path(folder)
    parts = [folder / f'{name}.part' for name in (WEIGHTS_FILE, CONFIG_FILE)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The weights say what they belong to: a power cut between the two renames is noticed.
        save_file(tensors, parts[0], metadata={'config': config})
        parts[1].write_text(config)
        for part in parts:
            with part.open('rb') as file:
                os.fsync(file.fileno())
        for part in parts:
            part.replace(part.with_suffix(''))
    except (OSError, SafetensorError) as error:
        for part in parts:
            part.unlink(missing_ok=True)
        raise CheckpointError(
            f'the model could not be written to {folder}: {error}. '
            'What was there before is unchanged'
        ) from error


def load_checkpoint(
    folder: str | os.PathLike[str],
    device: str | torch.device = 'cpu',
    encoder: Encoder | None = None,
) -> WorldModel:
    """Reads a model and its encoder, ready for inference.

    Args:
        folder: which `save_checkpoint` wrote.
        device: where the model is to be.
        encoder: one that is in memory already and is to be shared; must be the model's own,
            adapter included. None builds it.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: where there is no such device, a file is missing, damaged or of another
            version, the model is for other keypoints of a hand, or weights or encoder do not
            belong to the configuration.
        WeightsNotFoundError: where the public weights of the encoder are not on this machine.
    """
    folder = Path(folder)
    device = _device(device)
    stored, config = _read_config(folder / CONFIG_FILE)
    tensors = _read_weights(folder / WEIGHTS_FILE, stored)
    try:
        if encoder is None:
            encoder = build_encoder(config.encoder.name, config.encoder.options)
            if encoder.frozen_digest() != stored['frozen_encoder_digest']:
                raise CheckpointError(
                    f'{folder} was trained with other public weights of {config.encoder.name} '
                    'than are on this machine: install those'
                )
            trained = {
                name.removeprefix('encoder.'): tensor
                for name, tensor in tensors.items()
                if name.startswith('encoder.')
            }
            encoder.load_trained_state(trained)
        if encoder.digest() != stored['encoder_digest']:
            raise CheckpointError(
                f'{folder} was trained with another encoder, or other weights or settings of it, '
                f'than the {encoder.name} given'
            )
        model = WorldModel(config, encoder)
    except WorldModelError as error:
        raise CheckpointError(f'{folder}: {error}') from error
    _load(model, {k: v for k, v in tensors.items() if not k.startswith('encoder.')}, folder)
    return model.to(device).eval()


def _device(name: str | torch.device) -> torch.device:
    """The device of a name, such as cuda:1.

    Raises:
        CheckpointError: where it is none, or not here.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CheckpointError(
            f'{name!r} is no device: load the model on cpu, cuda or cuda:1'
        ) from error
    if device.type == 'cuda':
        if not torch.cuda.is_available():
            raise CheckpointError('there is no CUDA device here: load the model on cpu')
        last = torch.cuda.device_count() - 1
        if device.index is not None and device.index > last:
            raise CheckpointError(
                f'there is no {device} here, the last CUDA device is cuda:{last}'
            )
    return device


def _stored(model: WorldModel) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name."""
    own = {k: v for k, v in model.state_dict().items() if not k.startswith('encoder.')}
    return {**own, **{f'encoder.{k}': v for k, v in model.encoder.trained_state().items()}}


def _describe(model: WorldModel) -> str:
    """The text of config.json."""
    settings = {
        'format_version': FORMAT_VERSION,
        'encoder_digest': model.encoder.digest(),
        'frozen_encoder_digest': model.encoder.frozen_digest(),
        'keypoints': list(KEYPOINTS),
        'model': model.config.to_dict(),
    }
    return json.dumps(settings, indent=2) + '\n'


def _read_config(path: Path) -> tuple[dict[str, Any], WorldModelConfig]:
    try:
        stored = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(
            f'there is no model in {path.parent}: {path.name} is missing. Give the folder that '
            'a training wrote'
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f'{path} cannot be read: {error}') from error
    version = stored.get('format_version') if isinstance(stored, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f'{path} has format_version {version}, this program reads {FORMAT_VERSION}: use the '
            'release that wrote it, or train the model anew'
        )
    if set(stored) != set(_KEYS):
        raise CheckpointError(
            f'{path} must have the keys {", ".join(_KEYS)}, got {", ".join(stored)}'
        )
    if stored['keypoints'] != list(KEYPOINTS):
        raise CheckpointError(
            f'{path} is of a model for other keypoints of a hand, or another order of them: '
            f'{stored["keypoints"]}; this program has {list(KEYPOINTS)}. Use a model that was '
            'trained with these'
        )
    try:
        return stored, WorldModelConfig.from_dict(stored['model'])
    except WorldModelError as error:
        raise CheckpointError(f'{path}: {error}') from error


def _read_weights(path: Path, stored: dict[str, Any]) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f'{path} is missing: copy the whole folder of the model')
    try:
        with safe_open(path, 'pt') as file:
            metadata = file.metadata() or {}
            names: list[str] = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
        belongs = json.loads(metadata.get('config', 'null')) == stored
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f'{path} cannot be read, copy it again: {error}') from error
    if not belongs:
        raise CheckpointError(
            f'{path} belongs to another {CONFIG_FILE} than lies beside it: copy both again'
        )
    return tensors


def _load(model: WorldModel, tensors: dict[str, Tensor], folder: Path) -> None:
    """Loads all weights but the encoder's, which must be exactly those of the configuration."""
    expected = {k: v for k, v in model.state_dict().items() if not k.startswith('encoder.')}
    problems = [f'{name} is missing' for name in expected if name not in tensors]
    problems += [f'{name} is unknown' for name in tensors if name not in expected]
    problems += [
        f'{name} is {tuple(tensor.shape)} of {tensor.dtype} and must be '
        f'{tuple(expected[name].shape)} of {expected[name].dtype}'
        for name, tensor in tensors.items()
        if name in expected
        and (tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype)
    ]
    if problems:
        raise CheckpointError(
            f'the weights in {folder} do not fit its {CONFIG_FILE}: {"; ".join(problems)}'
        )
    model.load_state_dict(tensors, strict=False)
