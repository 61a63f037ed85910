"""Principal components of an encoder's features: smaller latents that nothing supervises."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


class PcaError(ValueError):
    """Raised for a projection's configuration or input that can't be."""


@dataclass(frozen=True)
class PcaConfig:
    """Shape of a :class:`Pca`.

    Attributes:
        in_dim: Length of the features.
        grid: Rows and columns of the features.
        dim: Components kept.

    Raises:
        PcaError: `dim` isn't between 1 and `in_dim`.
    """

    in_dim: int
    grid: tuple[int, int]
    dim: int = 128

    def __post_init__(self) -> None:
        if not 1 <= self.dim <= self.in_dim:
            raise PcaError(f'dim must be from 1 to in_dim={self.in_dim}, got {self.dim}')

    @property
    def out_grid(self) -> tuple[int, int]:
        """Rows and columns of the latents."""
        return self.grid


class Pca(nn.Module):
    """Standardises features and keeps their first principal components.

    All components are divided by one number, so that their variance is 1 on average and their
    proportions stay.

    Attributes:
        config: Its shape.
        explained: () share of the standardised features' variance that is kept.
    """

    _mean: Tensor
    _projection: Tensor
    explained: Tensor

    def __init__(self, config: PcaConfig) -> None:
        """Build it, all zero: :meth:`fit` it, or load into it."""
        super().__init__()
        self.config = config
        self.register_buffer('_mean', torch.zeros(config.in_dim))
        self.register_buffer('_projection', torch.zeros(config.in_dim, config.dim))
        self.register_buffer('explained', torch.zeros(()))

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Find the components of a sample of features.

        Args:
            features: (..., in_dim), more of them than `dim`.

        Raises:
            PcaError: There are too few, they have another length, or they aren't finite.
        """
        config = self.config
        if features.ndim < 2 or features.shape[-1] != config.in_dim:
            raise PcaError(
                f'the projection is fitted to features (..., {config.in_dim}), '
                f'got {tuple(features.shape)}'
            )
        sample = features.reshape(-1, config.in_dim)
        if len(sample) <= config.dim:
            raise PcaError(f'{len(sample)} features are too few for {config.dim} components')
        mean, covariance = mean_and_covariance(sample)
        if not bool(torch.isfinite(covariance).all()):
            raise PcaError('the features to fit to have values that are not finite')
        std = covariance.diagonal().sqrt().clamp(min=1e-2)
        standardised = covariance / std / std.unsqueeze(1)
        variance, axes = torch.linalg.eigh(standardised)
        # eigh gives the smallest first; a component's sign is fixed by its largest entry.
        variance, axes = variance.flip(0)[: config.dim], axes.flip(1)[:, : config.dim]
        largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
        axes = axes * largest.sign()
        self._mean.copy_(mean)
        self._projection.copy_(axes / std.unsqueeze(1) / variance.mean().sqrt())
        self.explained.copy_(variance.sum() / standardised.trace())

    def forward(self, features: Tensor) -> Tensor:
        """Latents of features.

        Args:
            features: (B, P, in_dim).

        Returns:
            (B, P, dim).

        Raises:
            PcaError: The features have another shape.
        """
        tokens = self.config.grid[0] * self.config.grid[1]
        if features.ndim != 3 or tuple(features.shape[1:]) != (tokens, self.config.in_dim):
            raise PcaError(
                f'the projection takes features of shape (B, {tokens}, {self.config.in_dim}), '
                f'got {tuple(features.shape)}'
            )
        return (features.to(self._mean.dtype) - self._mean) @ self._projection


def mean_and_covariance(sample: Tensor, chunk: int = 4096) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of vectors (N, D), float64; N of at least 2.

    They are converted a chunk at a time: samples of half precision fill much of a memory.
    """
    # Sums around about the mean lose no digits.
    origin = sample[:chunk].double().mean(0)
    total = torch.zeros_like(origin)
    products = origin.new_zeros(len(origin), len(origin))
    for part in sample.split(chunk):
        centred = part.double() - origin
        total += centred.sum(0)
        products += centred.T @ centred
    offset = total / len(sample)
    covariance = (products - len(sample) * torch.outer(offset, offset)) / (len(sample) - 1)
    return origin + offset, covariance
