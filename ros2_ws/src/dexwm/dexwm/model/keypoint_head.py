"""The keypoint head: from latents to heat maps of wrists and fingertips.

The g of the paper (DexWM, section 3.3 and appendix A.3): a linear layer to 256 channels, a
learned position embedding, 6 transformer blocks of 16 heads, and a linear layer to the pixels of
each patch in each of the 12 maps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dexwm.geometry.heatmaps import HEATMAP_KEYPOINTS

TYPICAL_DEPTH = 0.6
"""Depth of a keypoint for which a map of depths says 0 (m)."""


class KeypointHeadError(ValueError):
    """Raised for a configuration that makes no head, or latents that do not fit it."""


@dataclass(frozen=True)
class KeypointHeadConfig:
    """Sizes of a keypoint head. The defaults are the paper's, but for those without a default.

    Attributes:
        latent_dim: channels D of the encoder's latents.
        grid: rows and columns of the encoder's tokens.
        patch: pixels of the input picture along a token's side.
        dim: channels inside.
        depth: number of transformer blocks.
        heads: attention heads; divides dim.
        stride: pixels of the input picture along a heat map cell's side; divides patch. 1 in the
            paper; 4 or 8 is far cheaper.
        mlp_ratio: hidden channels of the MLP over dim.
        token_grid: rows and columns that the tokens are resampled to before the blocks; the maps
            are resampled back. None, as in the paper, does neither. The published code makes
            its 16x28 tokens 16x16.
        depths: also one map of depths for each keypoint, which is read where its heat map says
            that the keypoint is. Not in the paper; a picture of a hand tells its distance badly
            through the places of its keypoints alone.

    Raises:
        KeypointHeadError: where a value is out of range.
    """

    latent_dim: int
    grid: tuple[int, int]
    patch: int
    dim: int = 256
    depth: int = 6
    heads: int = 16
    stride: int = 1
    mlp_ratio: float = 4.0
    token_grid: tuple[int, int] | None = None
    depths: bool = False

    def __post_init__(self) -> None:
        for name in ('grid', 'token_grid'):
            value = getattr(self, name)
            if value is None and name == 'token_grid':
                continue
            if len(value) != 2 or min(value) < 1:
                raise KeypointHeadError(f'{name} must be (rows, columns), got {value}')
            # A list, as JSON has it, would make the configuration unequal to itself.
            object.__setattr__(self, name, tuple(value))
        for name in ('latent_dim', 'patch', 'dim', 'heads', 'stride'):
            if getattr(self, name) < 1:
                raise KeypointHeadError(f'{name} must be at least 1, got {getattr(self, name)}')
        if self.depth < 0 or self.mlp_ratio <= 0:
            raise KeypointHeadError(
                f'depth must not be negative and mlp_ratio be positive, '
                f'got {self.depth} and {self.mlp_ratio}'
            )
        if self.dim % self.heads:
            raise KeypointHeadError(f'{self.heads} heads do not divide dim={self.dim}')
        if self.patch % self.stride:
            raise KeypointHeadError(
                f'the stride {self.stride} does not divide the patch of {self.patch} pixels'
            )


class HeadBlock(nn.Module):
    """A plain pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        hidden = round(mlp_ratio * dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, d) to the same shape."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).chunk(3, dim=-1)
        )
        y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(y.transpose(1, 2).reshape(x.shape))
        return x + self.mlp(self.norm2(x))


class MapHead(nn.Module):
    """Predicts maps of a picture from a frame's latents.

    Attributes:
        config: its sizes.
    """

    def __init__(self, config: KeypointHeadConfig, maps: int) -> None:
        """Makes a head of `config`'s sizes for so many maps."""
        super().__init__()
        self.config = config
        rows, columns = config.token_grid or config.grid
        self.cells = config.patch // config.stride
        self.input_proj = nn.Linear(config.latent_dim, config.dim)
        self.pos_embed = nn.Parameter(torch.empty(rows * columns, config.dim))
        nn.init.normal_(self.pos_embed, std=0.02)
        self.blocks = nn.ModuleList(
            HeadBlock(config.dim, config.heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.output = nn.Linear(config.dim, self.cells**2 * maps)

    def forward(self, latents: Tensor) -> Tensor:
        """Maps of latents.

        Args:
            latents: (..., P, D).

        Returns:
            (..., maps, H / stride, W / stride) with H, W of the input picture. The values are
            whatever the loss made them.

        Raises:
            KeypointHeadError: where the latents have another shape.
        """
        rows, columns = self.config.grid
        if latents.ndim < 2 or latents.shape[-2:] != (rows * columns, self.config.latent_dim):
            raise KeypointHeadError(
                f'latents must be (..., {rows * columns}, {self.config.latent_dim}), '
                f'got {tuple(latents.shape)}: are they of another encoder?'
            )
        x = self.input_proj(latents.reshape(-1, *latents.shape[-2:]))
        if self.config.token_grid is not None:
            maps = x.transpose(1, 2).unflatten(-1, (rows, columns))
            x = _resample(maps, self.config.token_grid).flatten(-2).transpose(1, 2)
        x = x + self.pos_embed
        for block in self.blocks:
            x = block(x)
        x = self.output(self.norm(x)).transpose(1, 2)
        x = x.unflatten(-1, self.config.token_grid or (rows, columns))
        maps = F.pixel_shuffle(x, self.cells)
        if self.config.token_grid is not None:
            maps = _resample(maps, (rows * self.cells, columns * self.cells))
        return maps.reshape(*latents.shape[:-2], *maps.shape[1:])


class KeypointHead(MapHead):
    """Predicts a heat map, perhaps depths, of the 12 heat map keypoints from a frame's latents.

    The values of heat maps are near 0 to 1 after the mean squared error, logits after the
    cross-entropy. With `depths` there are 24 maps: behind the heat maps those of depths, metres
    beyond `TYPICAL_DEPTH`.
    """

    def __init__(self, config: KeypointHeadConfig) -> None:
        super().__init__(config, len(HEATMAP_KEYPOINTS) * (2 if config.depths else 1))


def _resample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size, mode='bilinear', align_corners=False)
