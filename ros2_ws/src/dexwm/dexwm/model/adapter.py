"""The trained adapter: from an encoder's features to smaller latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dexwm.model.pca import mean_and_covariance


class AdapterError(ValueError):
    """Raised for an adapter's configuration or input that can't be."""


@dataclass(frozen=True)
class AdapterConfig:
    """Shape of an :class:`Adapter`.

    Attributes:
        in_dim: Length of the features.
        grid: Rows and columns of the features.
        dim: Length of the latents.
        hidden: Channels inside.
        blocks: Residual blocks of two 3x3 convolutions each.
        upsample: 1 keeps the grid, 2 gives latents on a grid twice as fine.
        fine_channels: How many of `in_dim` are 2x2 finer ones (`Encoder.fine_channels`); with
            `upsample` 2 they are put where they belong and the others are repeated.

    Raises:
        AdapterError: A value is out of its range.
    """

    in_dim: int
    grid: tuple[int, int]
    dim: int = 128
    hidden: int = 256
    blocks: int = 2
    upsample: int = 1
    fine_channels: int = 0

    def __post_init__(self) -> None:
        sizes = {
            'in_dim': self.in_dim,
            'grid rows': self.grid[0],
            'grid columns': self.grid[1],
            'dim': self.dim,
            'hidden': self.hidden,
            'blocks': self.blocks,
        }
        wrong = [f'{name}={value}' for name, value in sizes.items() if value < 1]
        if wrong:
            raise AdapterError(f'an adapter needs sizes of at least 1, got {", ".join(wrong)}')
        if self.upsample not in (1, 2):
            raise AdapterError(f'upsample must be 1 or 2, got {self.upsample}')
        if self.upsample == 2 and self.fine_channels < 4:
            raise AdapterError(
                'upsample 2 needs an encoder with finer features (Encoder.fine_channels), '
                'as efficientnet_lite0 has'
            )
        if not 0 <= self.fine_channels <= self.in_dim or self.fine_channels % 4:
            raise AdapterError(
                f'fine_channels must be a multiple of 4 up to in_dim={self.in_dim}, '
                f'got {self.fine_channels}'
            )

    @property
    def out_grid(self) -> tuple[int, int]:
        """Rows and columns of the latents."""
        return self.grid[0] * self.upsample, self.grid[1] * self.upsample


class Adapter(nn.Module):
    """Standardises features, mixes neighbours by residual convolutions, and normalises.

    Attributes:
        config: Its shape.
        mean: (in_dim,) subtracted from features.
        std: (in_dim,) that they are divided by then.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: AdapterConfig) -> None:
        """Build it with random weights, for training or for loading into."""
        super().__init__()
        self.config = config
        rows, columns = config.out_grid
        self.register_buffer('mean', torch.zeros(config.in_dim))
        self.register_buffer('std', torch.ones(config.in_dim))
        channels = config.in_dim
        if config.upsample == 2:
            channels -= config.fine_channels * 3 // 4
        self.input = nn.Linear(channels, config.hidden)
        self.position = nn.Parameter(torch.zeros(rows * columns, config.hidden))
        self.blocks = nn.ModuleList(_ResidualBlock(config.hidden) for _ in range(config.blocks))
        self.output = nn.Linear(config.hidden, config.dim)

    @torch.no_grad()
    def fit_standardisation(self, features: Tensor) -> None:
        """Set what features are standardised by, from a sample of them.

        Args:
            features: (..., in_dim).
        """
        mean, covariance = mean_and_covariance(features.reshape(-1, self.config.in_dim))
        self.mean.copy_(mean)
        # The floor keeps channels that are almost always zero from being blown up.
        self.std.copy_(covariance.diagonal().sqrt().clamp(min=1e-2))

    def forward(self, features: Tensor) -> Tensor:
        """Latents of features.

        Args:
            features: (B, P, in_dim), P tokens row by row.

        Returns:
            (B, P * upsample^2, dim), each of mean 0 and variance 1.

        Raises:
            AdapterError: The features have another shape.
        """
        config = self.config
        rows, columns = config.grid
        if features.ndim != 3 or tuple(features.shape[1:]) != (rows * columns, config.in_dim):
            raise AdapterError(
                f'the adapter takes features of shape (B, {rows * columns}, {config.in_dim}), '
                f'got {tuple(features.shape)}'
            )
        x = (features.to(self.mean.dtype) - self.mean) / self.std
        if config.upsample == 2:
            x = self._on_finer_grid(x)
        x = self.input(x) + self.position
        x = x.transpose(1, 2).unflatten(2, config.out_grid)
        for block in self.blocks:
            x = block(x)
        x = self.output(F.gelu(x).flatten(2).transpose(1, 2))
        return F.layer_norm(x, (config.dim,))

    def _on_finer_grid(self, x: Tensor) -> Tensor:
        maps = x.transpose(1, 2).unflatten(2, self.config.grid)
        fine = F.pixel_shuffle(maps[:, : self.config.fine_channels], 2)
        coarse = F.interpolate(maps[:, self.config.fine_channels :], scale_factor=2.0)
        return torch.cat([fine, coarse], 1).flatten(2).transpose(1, 2)


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.gelu(self.first(F.gelu(x))))
