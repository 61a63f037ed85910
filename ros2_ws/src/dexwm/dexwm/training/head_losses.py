"""Losses of what a world model's heads read in latents: keypoints of hands, centres of objects."""

from __future__ import annotations

import torch
from torch import Tensor

from dexwm.geometry.heatmaps import exact_heatmaps, gaussian_heatmaps
from dexwm.model.losses import hand_consistency_loss, object_consistency_loss
from dexwm.model.world_model import WorldModel
from dexwm.training.recipe import Heatmaps


def hand_loss(
    model: WorldModel,
    latents: Tensor,
    pixels: Tensor,
    valid: Tensor,
    depths: Tensor,
    heatmaps: Heatmaps,
    depth_weight: float,
) -> Tensor:
    """Loss of heat maps (paper, equation 5) and, where the head reads them, of depths.

    Args:
        model: Whose keypoint head reads.
        latents: (..., P, D).
        pixels: (..., 12, 2) true keypoints in the input picture.
        valid: (..., 12) bool; others count for nothing.
        depths: (..., 12), metres.
        heatmaps: How the true maps are drawn.
        depth_weight: Weight of the mean absolute error of depths, per metre.
    """
    height, width = model.encoder.image_size
    target = gaussian_heatmaps(
        pixels,
        valid,
        height,
        width,
        model.config.heatmap_stride,
        heatmaps.sigma,
        round_to_pixel=heatmaps.round_to_pixel,
        radius=heatmaps.radius,
        zero_at_border=heatmaps.zero_at_border,
    )
    maps, _, seen = model.keypoints(latents)
    loss = hand_consistency_loss(maps, target, valid, model.config.heatmap_loss)
    if seen is None:
        return loss
    return loss + depth_weight * torch.where(valid, (seen - depths).abs(), 0.0).mean()


def object_loss(
    model: WorldModel, latents: Tensor, pixels: Tensor, valid: Tensor, weight: Tensor, sigma: float
) -> Tensor:
    """Loss of the maps of objects' centres, see `object_consistency_loss`.

    Args:
        model: Whose object head reads.
        latents: (..., P, D).
        pixels: (..., K, 2) true centres in the input picture.
        valid: (..., K) bool; others count for nothing.
        weight: (..., K), how much each counts.
        sigma: Of the true maps, pixels.
    """
    assert model.object_head is not None
    stride = model.config.heatmap_stride
    target = exact_heatmaps(pixels, valid, model.encoder.image_size, stride, sigma)
    return object_consistency_loss(model.object_head(latents), target, valid, weight)
