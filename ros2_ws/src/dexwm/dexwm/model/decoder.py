"""The decoder: from latents to pictures, for people to look at.

In the manner of RAE (Zheng et al., 2025), as DexWM does it (appendix A.4): a plain vision
transformer over the tokens, then pixels. Nothing but pictures of predictions depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dexwm.model.keypoint_head import HeadBlock

Output = Literal['linear', 'convolutions']


class DecoderError(ValueError):
    """Raised for a configuration that makes no decoder, or latents that do not fit it."""


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a decoder. Depth and width of the paper's are dim 1024, depth 24, heads 16.

    The defaults, about 2.3 M parameters, are for the small models; with them the picture has half
    the size of an input picture whose patches are 32 pixels wide.

    Attributes:
        latent_dim: Channels D of the encoder's latents.
        grid: Rows and columns of the encoder's tokens.
        patch: Pixels of the decoded picture along a token's side. The encoder's own patch gives
            pictures of the input's size.
        dim: Channels inside.
        depth: Number of transformer blocks.
        heads: Attention heads; divides dim.
        mlp_ratio: Hidden channels of the MLP over dim.
        output: 'linear': one linear layer from a token to its pixels, as in the paper;
            'convolutions': doubles the grid by convolutions until it has the picture's size,
            which needs fewer parameters and joins patches without seams.

    Raises:
        DecoderError: A value is out of range.
    """

    latent_dim: int
    grid: tuple[int, int]
    patch: int = 16
    dim: int = 192
    depth: int = 3
    heads: int = 4
    mlp_ratio: float = 4.0
    output: Output = 'convolutions'

    def __post_init__(self) -> None:
        if len(self.grid) != 2 or min(self.grid) < 1:
            raise DecoderError(f'grid must be (rows, columns), got {self.grid}')
        # A list, as JSON has it, would make the configuration unequal to itself.
        object.__setattr__(self, 'grid', tuple(self.grid))
        for name in ('latent_dim', 'patch', 'dim', 'heads'):
            if getattr(self, name) < 1:
                raise DecoderError(f'{name} must be at least 1, got {getattr(self, name)}')
        if self.depth < 0 or self.mlp_ratio <= 0:
            raise DecoderError(
                f'depth must not be negative and mlp_ratio be positive, '
                f'got {self.depth} and {self.mlp_ratio}'
            )
        if self.dim % self.heads:
            raise DecoderError(f'{self.heads} heads do not divide dim={self.dim}')
        if self.output not in get_args(Output):
            raise DecoderError(
                f'output must be one of {", ".join(get_args(Output))}, got {self.output!r}'
            )
        if self.output == 'convolutions' and (self.patch & (self.patch - 1)):
            raise DecoderError(
                f"output 'convolutions' needs a patch that is a power of 2, got {self.patch}: "
                "choose one, or output 'linear'"
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """Rows and columns of the decoded pictures."""
        return self.grid[0] * self.patch, self.grid[1] * self.patch


class Decoder(nn.Module):
    """Draws the picture of a frame's latents.

    Attributes:
        config: Its sizes.
    """

    def __init__(self, config: DecoderConfig) -> None:
        """Build it with random weights."""
        super().__init__()
        self.config = config
        rows, columns = config.grid
        self.input_proj = nn.Linear(config.latent_dim, config.dim)
        self.pos_embed = nn.Parameter(torch.empty(rows * columns, config.dim))
        nn.init.normal_(self.pos_embed, std=0.02)
        self.blocks = nn.ModuleList(
            HeadBlock(config.dim, config.heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.output: nn.Module
        if config.output == 'linear':
            self.output = nn.Sequential(
                nn.Conv2d(config.dim, 3 * config.patch**2, 1), nn.PixelShuffle(config.patch)
            )
        else:
            self.output = _upsampling(config.dim, config.patch)

    @property
    def last_layer(self) -> Tensor:
        """Weight of the layer whose output is pixels; balances losses, as RAE does."""
        layers = [m for m in self.output.modules() if isinstance(m, nn.Conv2d)]
        return layers[-1].weight

    def forward(self, latents: Tensor) -> Tensor:
        """Pictures of latents.

        Args:
            latents: (..., P, D).

        Returns:
            (..., 3, H, W) RGB in [0, 1], H and W being `config.image_size`.

        Raises:
            DecoderError: The latents have another shape.
        """
        config = self.config
        rows, columns = config.grid
        if latents.ndim < 2 or latents.shape[-2:] != (rows * columns, config.latent_dim):
            raise DecoderError(
                f'latents must be (..., {rows * columns}, {config.latent_dim}), '
                f'got {tuple(latents.shape)}: are they of another encoder?'
            )
        x = self.input_proj(latents.reshape(-1, *latents.shape[-2:])) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        x = self.norm(x).transpose(1, 2).unflatten(2, config.grid)
        images = 0.5 + 0.5 * torch.tanh(self.output(x))
        return images.reshape(*latents.shape[:-2], *images.shape[1:])


class _Doubling(nn.Module):
    """Twice the grid with half the channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.Conv2d(inputs, 4 * outputs, 3, padding=1)
        self.mix = nn.Conv2d(outputs, outputs, 3, padding=1)
        # PyTorch's default makes the signal smaller in each of the many layers.
        nn.init.kaiming_normal_(self.up.weight, nonlinearity='relu')

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(F.pixel_shuffle(self.up(x), 2))
        return x + F.gelu(self.mix(x))


def _upsampling(dim: int, patch: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = dim
    for _ in range(patch.bit_length() - 1):
        fewer = max(channels // 2, 12)
        layers.append(_Doubling(channels, fewer))
        channels = fewer
    return nn.Sequential(*layers, nn.Conv2d(channels, 3, 3, padding=1))
