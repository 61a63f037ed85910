"""Heat maps of keypoints: drawn for training, and read back into pixels.

A heat map of stride s has one cell for each s x s block of pixels of the input picture; the cell
(row i, column j) stands for the pixel position (j * s + (s-1)/2, i * s + (s-1)/2), the middle of
its block, so that stride 1 is the picture itself. Pixel centres are whole numbers (see
`dexwm.geometry.camera`).
"""

from __future__ import annotations

import torch
from torch import Tensor

HEATMAP_KEYPOINTS: tuple[int, ...] = (0, 4, 8, 12, 16, 20, 21, 25, 29, 33, 37, 41)
"""Wrist and five fingertips of the left, then of the right hand, among the 42 keypoints."""


class HeatmapError(ValueError):
    """Raised for a size that the stride does not divide, or arrays that are no heat maps."""


def gaussian_heatmaps(
    pixels: Tensor,
    valid: Tensor,
    height: int,
    width: int,
    stride: int = 1,
    sigma: float = 2.0,
    *,
    round_to_pixel: bool = True,
    radius: float | None = 2.0,
    zero_at_border: bool = True,
) -> Tensor:
    """Draws an unnormalised Gaussian of peak 1 at each keypoint (DexWM, appendix A.3).

    The defaults draw what the paper's training used. For heat maps of a stride above 1 the
    rounded peak can fall between cells; `round_to_pixel=False`, a sigma of about a stride and
    `zero_at_border=False` are the natural choice there.

    Args:
        pixels: (..., K, 2) column and row in the input picture; may be anything, NaN too, where
            not valid.
        valid: (..., K), false or 0 where the keypoint is unknown or outside: its map is zero.
        height: rows of the input picture, a multiple of stride.
        width: columns of it, a multiple of stride.
        stride: pixels a cell.
        sigma: standard deviation, pixels.
        round_to_pixel: puts the peak on the nearest whole pixel.
        radius: the map is zero further than radius * sigma from the peak, along a row or a
            column; None does not cut.
        zero_at_border: a map whose square of radius * sigma leaves the picture is all zero.
            Needs a radius.

    Returns:
        (..., K, height / stride, width / stride), float32.

    Raises:
        HeatmapError: where shapes, sizes or options do not fit one another.
    """
    if pixels.ndim < 2 or pixels.shape[-1] != 2 or valid.shape != pixels.shape[:-1]:
        raise HeatmapError(
            'pixels must be (..., K, 2) and valid (..., K), '
            f'got {tuple(pixels.shape)} and {tuple(valid.shape)}'
        )
    if stride < 1 or height < 1 or width < 1 or height % stride or width % stride:
        raise HeatmapError(f'the stride {stride} does not divide {width}x{height} pixels')
    if sigma <= 0:
        raise HeatmapError(f'sigma must be positive, got {sigma}')
    if zero_at_border and radius is None:
        raise HeatmapError('zero_at_border needs a radius')
    drawn = valid.to(torch.bool) & torch.isfinite(pixels).all(dim=-1)
    centres = torch.where(drawn[..., None], pixels, 0.0).to(torch.float32)
    if round_to_pixel:
        centres = centres.round()
    x, y = centres.unbind(-1)
    if zero_at_border:
        reach = radius * sigma if radius is not None else 0.0
        drawn = drawn & (x >= reach) & (x <= width - 1 - reach)
        drawn = drawn & (y >= reach) & (y <= height - 1 - reach)
    # A Gaussian is the product of one along the row and one along the column.
    column = _profile(x, width, stride, sigma, radius)
    row = _profile(y, height, stride, sigma, radius) * drawn[..., None]
    return row[..., :, None] * column[..., None, :]


def exact_heatmaps(
    pixels: Tensor, valid: Tensor, image_size: tuple[int, int], stride: int, sigma: float
) -> Tensor:
    """Gaussians at points as they are: not rounded, not cut off, whole at the border.

    Args:
        pixels: (..., K, 2) column and row in the picture.
        valid: (..., K) bool.
        image_size: height and width of the picture, pixels.
        stride: pixels of the picture a cell.
        sigma: pixels of the picture.

    Returns:
        As `gaussian_heatmaps`.
    """
    height, width = image_size
    return gaussian_heatmaps(
        pixels,
        valid,
        height,
        width,
        stride,
        sigma,
        round_to_pixel=False,
        radius=None,
        zero_at_border=False,
    )


def soft_argmax(heatmaps: Tensor, stride: int = 1, temperature: float = 1.0) -> Tensor:
    """The mean position under the softmax of each map; can be differentiated.

    Suits maps trained by cross-entropy, whose values are logits. For maps trained by the mean
    squared error, whose peak is 1 whatever the size, pass a small temperature (1e-2 to 1e-4):
    with 1 the mean of a large map is drawn to its middle.

    Args:
        heatmaps: (..., rows, columns).
        stride: pixels of the input picture a cell.
        temperature: the values are divided by it.

    Returns:
        (..., 2) column and row in pixels of the input picture.

    Raises:
        HeatmapError: where these are no heat maps or the temperature is not positive.
    """
    if heatmaps.ndim < 2 or temperature <= 0:
        raise HeatmapError(
            'heat maps must be (..., rows, columns) and the temperature positive, '
            f'got {tuple(heatmaps.shape)} and {temperature}'
        )
    rows, columns = heatmaps.shape[-2:]
    weights = torch.softmax(heatmaps.float().flatten(-2) / temperature, dim=-1)
    weights = weights.unflatten(-1, (rows, columns))
    x = (weights.sum(dim=-2) * _cell_centres(columns, stride, heatmaps)).sum(dim=-1)
    y = (weights.sum(dim=-1) * _cell_centres(rows, stride, heatmaps)).sum(dim=-1)
    return torch.stack([x, y], dim=-1)


def hard_argmax(heatmaps: Tensor, stride: int = 1) -> Tensor:
    """The position of the largest cell of each map, the first of several equal ones.

    Args:
        heatmaps: (..., rows, columns).
        stride: pixels of the input picture a cell.

    Returns:
        (..., 2) column and row in pixels of the input picture, float32.

    Raises:
        HeatmapError: where these are no heat maps.
    """
    if heatmaps.ndim < 2:
        raise HeatmapError(f'heat maps must be (..., rows, columns), got {heatmaps.shape}')
    rows, columns = heatmaps.shape[-2:]
    index = heatmaps.flatten(-2).argmax(dim=-1)
    x = _cell_centres(columns, stride, heatmaps)[index % columns]
    y = _cell_centres(rows, stride, heatmaps)[index // columns]
    return torch.stack([x, y], dim=-1)


def cell_distances(points: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """How far the cells of a map are from points.

    Args:
        points: (..., 2) columns and rows in pixels of the input picture.
        size: height and width of the input picture, pixels.
        stride: pixels of the input picture a cell.

    Returns:
        (..., rows, columns), pixels; NaN for points that are NaN.
    """
    rows, columns = (
        _cell_centres(side // stride, stride, points) - points[..., i, None]
        for side, i in zip(size, (1, 0), strict=True)
    )
    return torch.hypot(rows[..., :, None], columns[..., None, :])


def _cell_centres(cells: int, stride: int, like: Tensor) -> Tensor:
    """Pixel position of the middle of each cell, (cells,)."""
    return torch.arange(cells, device=like.device, dtype=torch.float32) * stride + (stride - 1) / 2


def _profile(
    centre: Tensor, pixels: int, stride: int, sigma: float, radius: float | None
) -> Tensor:
    """One-dimensional Gaussian of peak 1, (...) to (..., pixels / stride)."""
    offset = _cell_centres(pixels // stride, stride, centre) - centre[..., None]
    profile = torch.exp(-0.5 * (offset / sigma) ** 2)
    return profile if radius is None else profile * (offset.abs() <= radius * sigma)
