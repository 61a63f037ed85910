"""What every picture encoder is: frozen, from uint8 pictures to tokens on a grid."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class EncoderError(ValueError):
    """Raised for a picture, an option or weights that an encoder can't take."""


class Encoder(nn.Module, ABC):
    """A frozen network from pictures to one vector per patch.

    Normalisation is inside: callers pass the bytes that
    :func:`dexwm.geometry.preprocess.resize_and_crop` returns. An encoder stays in evaluation mode
    and its parameters never ask for gradients.

    Attributes:
        name: Its name in :data:`dexwm.model.encoders.registry.ENCODERS`.
        image_size: Rows and columns of the pictures that it takes.
        grid: Rows and columns of its tokens; tokens are listed row by row.
        dim: Length of a token.
        fine_channels: How many channels at a token's start are 2x2 finer ones, rearranged as
            `torch.nn.functional.pixel_unshuffle` does; 0 where the encoder has none.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        name: str,
        image_size: tuple[int, int],
        grid: tuple[int, int],
        dim: int,
        mean: Sequence[float],
        std: Sequence[float],
        fine_channels: int = 0,
    ) -> None:
        """Set what every encoder has.

        Args:
            name: See the class.
            image_size: See the class.
            grid: See the class.
            dim: See the class.
            mean: Of red, green and blue, 0 to 255, subtracted from the picture.
            std: Of red, green and blue, 0 to 255, that the picture is divided by then.
            fine_channels: See the class.
        """
        super().__init__()
        self.name = name
        self.image_size = image_size
        self.grid = grid
        self.dim = dim
        self.fine_channels = fine_channels
        for key, value in {'_mean': mean, '_std': std}.items():
            tensor = torch.tensor(value, dtype=torch.float32).view(3, 1, 1)
            self.register_buffer(key, tensor, persistent=False)

    @property
    def tokens(self) -> int:
        """Tokens per picture."""
        return self.grid[0] * self.grid[1]

    @property
    def options(self) -> dict[str, Any]:
        """What :func:`~dexwm.model.encoders.registry.build_encoder` needs to build it again.

        Numbers, strings and lists of them; no paths of weights.
        """
        return {}

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Encode pictures.

        Args:
            images: (B, H, W, 3) uint8, RGB, H and W being `image_size`.

        Returns:
            (B, rows * columns, dim) float32.

        Raises:
            EncoderError: The pictures have another type, layout or size.
        """
        self._check(images)
        pixels = images.permute(0, 3, 1, 2).float().sub(self._mean).div(self._std)
        return self._encode(pixels).float()

    @abstractmethod
    def _encode(self, pixels: Tensor) -> Tensor:
        """Tokens (B, rows * columns, dim) of normalised pictures (B, 3, H, W)."""

    def _check(self, images: Tensor) -> None:
        height, width = self.image_size
        found = f'got shape {tuple(images.shape)} of {str(images.dtype).removeprefix("torch.")}'
        if images.ndim == 4 and images.shape[1] == 3 and images.shape[3] != 3:
            raise EncoderError(
                f'encoder {self.name} takes pictures channel-last, (B, {height}, {width}, 3), '
                f'{found}, which looks channel-first: permute(0, 2, 3, 1) it'
            )
        if images.ndim != 4 or tuple(images.shape[1:]) != (height, width, 3):
            raise EncoderError(
                f'encoder {self.name} takes pictures of shape (B, {height}, {width}, 3), {found}: '
                'bring each through dexwm.geometry.preprocess.resize_and_crop with '
                f'height={height}, width={width}'
            )
        if images.dtype != torch.uint8:
            raise EncoderError(
                f'encoder {self.name} takes RGB bytes (uint8, 0 to 255) and normalises them '
                f'itself, {found}: pass the picture as resize_and_crop returns it'
            )

    def train(self, mode: bool = True) -> Encoder:
        """Stay in evaluation mode: an encoder is frozen.

        Args:
            mode: Ignored.
        """
        del mode
        super().train(False)
        return self

    def freeze(self) -> Encoder:
        """Put it into evaluation mode, its parameters without gradients; returns itself."""
        self.requires_grad_(False)
        return self.train(False)

    def digest(self) -> str:
        """SHA-256 of its settings and all its weights: what its latents depend on."""
        settings = {
            'name': self.name,
            'image_size': list(self.image_size),
            'grid': list(self.grid),
            'dim': self.dim,
            'options': self.options,
            'mean': self._mean.flatten().tolist(),
            'std': self._std.flatten().tolist(),
        }
        return digest_of(settings, self.state_dict())

    def frozen_digest(self) -> str:
        """SHA-256 of the part that was trained elsewhere, which checkpoints don't store."""
        return self.digest()

    def trained_state(self) -> dict[str, Tensor]:
        """The weights that were trained here, which checkpoints store; empty where none were."""
        return {}

    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`trained_state` gave.

        Raises:
            EncoderError: The state isn't this encoder's.
        """
        if state:
            raise EncoderError(
                f'encoder {self.name} has no trained part, got weights for {", ".join(state)}'
            )


def digest_of(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over settings (as JSON) and named tensors, in hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
