"""Vision transformers out of transformers as encoders: Web-SSL and V-JEPA 2."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dexwm.model.encoders.encoder import Encoder
from dexwm.model.encoders.timm_encoder import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    image_pair,
    patch_grid,
)
from dexwm.model.encoders.torchvision_operators import define_missing_torchvision_operators
from dexwm.model.encoders.weights import (
    WeightsError,
    find_in_hub,
    find_weights,
    not_found,
)

FILES = ('config.json', '*.safetensors')


@dataclass(frozen=True)
class TransformersArchitecture:
    """A published network of transformers.

    Attributes:
        repository: Where it is published; its shape stands in the config.json there.
        model_type: What that config.json calls it: 'dinov2' (Web-SSL's form) or 'vjepa2'.
    """

    repository: str
    model_type: str


TRANSFORMERS_ARCHITECTURES: dict[str, TransformersArchitecture] = {
    'webssl_300m': TransformersArchitecture('facebook/webssl-dino300m-full2b-224', 'dinov2'),
    'webssl_1b': TransformersArchitecture('facebook/webssl-dino1b-full2b-224', 'dinov2'),
    'vjepa2_l': TransformersArchitecture('facebook/vjepa2-vitl-fpc64-256', 'vjepa2'),
    'vjepa2_h': TransformersArchitecture('facebook/vjepa2-vith-fpc64-256', 'vjepa2'),
    'vjepa2_g': TransformersArchitecture('facebook/vjepa2-vitg-fpc64-256', 'vjepa2'),
}


class WebSslEncoder(Encoder):
    """Web-SSL's normalised patch tokens, without the class token."""

    def __init__(self, name: str, model: nn.Module, image_size: tuple[int, int]) -> None:
        """Take a `Dinov2Model`.

        Args:
            name: The encoder's name.
            model: The network with its weights.
            image_size: Rows and columns, multiples of its patch.
        """
        config: Any = model.config
        grid = patch_grid(name, image_size, config.patch_size)
        super().__init__(name, image_size, grid, config.hidden_size, IMAGENET_MEAN, IMAGENET_STD)
        self.model = model
        self.freeze()

    @property
    def options(self) -> dict[str, Any]:
        """See the base class."""
        return {'image_size': list(self.image_size)}

    def _encode(self, pixels: Tensor) -> Tensor:
        tokens: Tensor = self.model(pixels).last_hidden_state
        return tokens[:, 1:]


class VJepa2Encoder(Encoder):
    """V-JEPA 2's normalised patch tokens of a still clip.

    A picture is encoded as a clip of as many equal frames as one token spans (two). Rotary
    positions are the patch's row and column, which leave the square of its training where the
    picture is wider.
    """

    _positions: Tensor

    def __init__(self, name: str, encoder: nn.Module, image_size: tuple[int, int]) -> None:
        """Take the encoder of a `VJEPA2Model` whose `crop_size` is the picture's longer side.

        Args:
            name: The encoder's name.
            encoder: The network with its weights.
            image_size: Rows and columns, multiples of its patch.
        """
        config: Any = encoder.config
        rows, columns = patch_grid(name, image_size, config.patch_size)
        super().__init__(
            name, image_size, (rows, columns), config.hidden_size, IMAGENET_MEAN, IMAGENET_STD
        )
        self.encoder = encoder
        self._frames = int(config.tubelet_size)
        # The network reads row and column out of a number on a square of this width.
        width = config.crop_size // config.patch_size
        row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing='ij')
        positions = (row * width + column).flatten().unsqueeze(0)
        self.register_buffer('_positions', positions, persistent=False)
        self.freeze()

    @property
    def options(self) -> dict[str, Any]:
        """See the base class."""
        return {'image_size': list(self.image_size)}

    def _encode(self, pixels: Tensor) -> Tensor:
        network: Any = self.encoder
        clip = pixels.unsqueeze(1).expand(-1, self._frames, -1, -1, -1)
        x = network.embeddings(clip)
        for layer in network.layer:
            x = layer(x, self._positions)[0]
        tokens: Tensor = network.layernorm(x)
        return tokens


def build_transformers_encoder(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    image_size: Sequence[int] | None = None,
    download: bool = False,
) -> Encoder:
    """Build an encoder of :data:`TRANSFORMERS_ARCHITECTURES` with its published weights.

    Args:
        name: Its name.
        weights: A folder with config.json and .safetensors files; looked for where None.
        image_size: Rows and columns; else 224 x 392 for patches of 14 and 224 x 384 for 16.
        download: Whether they may be fetched.

    Raises:
        WeightsNotFoundError: They aren't on this machine.
        WeightsError: They aren't this network's.
        EncoderError: The image size isn't one.
    """
    architecture = TRANSFORMERS_ARCHITECTURES[name]
    folder = find_weights(name, weights) or find_in_hub(architecture.repository, FILES, download)
    if folder is None:
        form = f'a folder with config.json and the .safetensors files of {architecture.repository}'
        raise not_found(name, architecture.repository, form)
    define_missing_torchvision_operators()
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise WeightsError(f'{folder} has no config.json that can be read: {error}') from error
    if config.model_type != architecture.model_type:
        raise WeightsError(
            f'{folder} is a network of type {config.model_type}, '
            f'{name} is {architecture.model_type}'
        )
    size = (224, 392 if config.patch_size == 14 else 384)
    if image_size is not None:
        size = image_pair(name, image_size)
    if architecture.model_type == 'dinov2':
        return WebSslEncoder(name, _load(folder, config, ''), size)
    config.crop_size = max(size)
    return VJepa2Encoder(name, _load(folder, config, 'encoder.').encoder, size)


def _load(folder: Path, config: Any, needed: str) -> Any:
    """The network of a folder; tensors whose names begin with `needed` must all be there."""
    from transformers import AutoModel

    try:
        model, found = AutoModel.from_pretrained(
            folder, config=config, local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsError(f'the weights in {folder} do not load: {error}') from error
    missing = sorted(key for key in found['missing_keys'] if key.startswith(needed))
    # transformers would leave these random.
    if missing:
        raise WeightsError(f'{folder} lacks {", ".join(missing[:5])}')
    return model.float()
