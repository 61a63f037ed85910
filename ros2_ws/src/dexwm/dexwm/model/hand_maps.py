"""Where the hands go, drawn on the grid of tokens: what a small predictor need not learn.

Not in the paper, whose predictor finds out from data where in the picture a keypoint in metres is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Metres to numbers near 1, around where hands in front of a camera are.
_DEPTH_SCALE, _DEPTH_CENTRE = 4.0, 0.9
_MAPS = 4


class HandMapsError(ValueError):
    """Raised for a configuration that makes no hand maps."""


@dataclass(frozen=True)
class HandMapsConfig:
    """Shape of the maps.

    Attributes:
        grid: rows and columns of the tokens.
        patch: pixels of the input picture along a token's side.
        keypoints: keypoints K that the action tells.
        width: standard deviation of a keypoint's spot, in tokens.

    Raises:
        HandMapsError: where a value is out of range.
    """

    grid: tuple[int, int]
    patch: int
    keypoints: int
    width: float = 0.7

    def __post_init__(self) -> None:
        # Lists, where it is read from JSON.
        object.__setattr__(self, 'grid', tuple(self.grid))
        if min(*self.grid, self.patch) < 1 or self.width <= 0:
            raise HandMapsError(
                'hand maps need a grid, a patch and a width above 0, got '
                f'grid={self.grid}, patch={self.patch}, width={self.width}'
            )
        if self.keypoints < 1:
            raise HandMapsError(
                'hand maps need keypoints: an action that tells none goes without maps'
            )

    @property
    def told(self) -> int:
        """Numbers at the end of an action that the maps are drawn from."""
        return 2 * self.keypoints * 3


class HandMaps(nn.Module):
    """Tells each token where the hands are around it, before the step and after it.

    For each keypoint a token gets a spot that fades with the distance in the picture, the spot
    times the distance along columns and along rows, and the spot times the depth.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, config: HandMapsConfig, dim: int) -> None:
        """Builds it.

        Args:
            config: its shape.
            dim: channels d of what it gives.
        """
        super().__init__()
        self.config = config
        rows, columns = torch.meshgrid(*map(torch.arange, config.grid), indexing='ij')
        self.register_buffer('rows', rows.flatten().float(), persistent=False)
        self.register_buffer('columns', columns.flatten().float(), persistent=False)
        self.linear = nn.Linear(_MAPS * 2 * config.keypoints, dim)

    def forward(self, told: Tensor) -> Tensor:
        """What is added to the new frame's tokens before the blocks.

        Args:
            told: (..., 6 K): column and row (pixels of the input picture) and depth (m) of each
                keypoint before the step, then after it; depth 0 where unknown.

        Returns:
            (..., P, d).
        """
        points = told.unflatten(-1, (-1, 3)).unsqueeze(-3)
        depth = points[..., 2]
        places = (points[..., :2] - (self.config.patch - 1) / 2) / self.config.patch
        away_u = places[..., 0] - self.columns[:, None]
        away_v = places[..., 1] - self.rows[:, None]
        spots = torch.exp(-(away_u.square() + away_v.square()) / (2 * self.config.width**2))
        spots = torch.where(depth > 0, spots, 0.0)
        beyond = (depth - _DEPTH_CENTRE) * _DEPTH_SCALE
        maps: Tensor = self.linear(
            torch.cat([spots, spots * away_u, spots * away_v, spots * beyond], dim=-1)
        )
        return maps
