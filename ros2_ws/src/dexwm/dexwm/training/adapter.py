"""What the adapter is trained on: reading the scene off its latents.

The truth comes from the simulator (keypoints, their depth, the objects' centres) and from the
picture itself. The heads are for training only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dexwm.data.batch import FrameBatch
from dexwm.data.episode import HAND_KEYPOINTS, RIGHT_HAND
from dexwm.geometry.heatmaps import exact_heatmaps, soft_argmax
from dexwm.model.adapter import Adapter
from dexwm.model.keypoint_head import TYPICAL_DEPTH
from dexwm.model.losses import map_entropy
from dexwm.training.objective import ObjectiveError
from dexwm.training.reading_errors import reading_errors


@dataclass(frozen=True)
class AdapterObjectiveConfig:
    """What an adapter's latents should tell, and how much each counts; a weight of 0 is without.

    Attributes:
        keypoint_weight: Of the cross-entropy of the keypoints' heat maps.
        depth_weight: Of the absolute error of their depth, per metre.
        object_weight: Of the cross-entropy of the objects' heat maps, one per kind.
        picture_weight: Of the squared error of the small picture, its values from 0 to 1.
        keypoints: Which of the 42 keypoints.
        stride: Pixels of the input picture along a heat map cell's side.
        sigma: Standard deviation of the true heat maps, pixels.
        hidden: Channels of the heads.
        feature_noise: Standard deviation of the noise on features, relative to their own.
        latent_noise: Standard deviation of the noise on latents, which have 1.

    Raises:
        ObjectiveError: A value is out of its range, or all weights are 0.
    """

    keypoint_weight: float = 1.0
    depth_weight: float = 5.0
    object_weight: float = 0.5
    picture_weight: float = 5.0
    keypoints: tuple[int, ...] = tuple(range(HAND_KEYPOINTS)[RIGHT_HAND])
    stride: int = 8
    sigma: float = 5.6
    hidden: int = 160
    feature_noise: float = 0.05
    latent_noise: float = 0.05

    def __post_init__(self) -> None:
        object.__setattr__(self, 'keypoints', tuple(self.keypoints))
        weights = (
            self.keypoint_weight,
            self.depth_weight,
            self.object_weight,
            self.picture_weight,
        )
        if min(*weights, self.feature_noise, self.latent_noise) < 0 or not any(weights):
            raise ObjectiveError('weights and noise must not be negative, nor all weights 0')
        if not self.keypoints or not set(self.keypoints) <= set(range(HAND_KEYPOINTS)):
            raise ObjectiveError(
                f'keypoints must be some of 0 to {HAND_KEYPOINTS - 1}, got {self.keypoints}'
            )
        if self.stride < 1 or self.hidden < 1 or self.sigma <= 0:
            raise ObjectiveError('stride and hidden must be at least 1 and sigma positive')


class AdapterObjective(nn.Module):
    """Heads on an adapter's latents, and their losses.

    Noise is drawn from torch's global generator, in training mode only.

    Attributes:
        adapter: What is trained.
        config: What counts.
    """

    def __init__(
        self,
        adapter: Adapter,
        config: AdapterObjectiveConfig,
        image_size: tuple[int, int],
        objects: int,
    ) -> None:
        """Put heads behind an adapter, with random weights.

        Args:
            adapter: Its standardisation is fitted already.
            config: What counts.
            image_size: Rows and columns of the encoder's pictures.
            objects: Kinds of objects in the data.

        Raises:
            ObjectiveError: The stride doesn't divide a token.
        """
        super().__init__()
        rows, columns = adapter.config.out_grid
        token = image_size[0] // rows
        if token % config.stride or (rows * token, columns * token) != tuple(image_size):
            raise ObjectiveError(
                f'the stride of {config.stride} pixels does not divide tokens of {token}: '
                f'choose one that does, in a picture of {image_size} of {rows}x{columns} tokens'
            )
        self.adapter = adapter
        self.config = config
        self._image_size = image_size
        self._maps = (len(config.keypoints), len(config.keypoints), objects, 3)
        cells = token // config.stride
        hidden = config.hidden
        self._first = nn.Conv2d(adapter.config.dim, hidden, 3, padding=1)
        self._second = nn.Conv2d(hidden, hidden, 3, padding=1)
        self._output = nn.Sequential(
            nn.Conv2d(hidden, sum(self._maps) * cells**2, 1), nn.PixelShuffle(cells)
        )

    def forward(self, batch: FrameBatch) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            batch: Features of the adapter's encoder, and truth.

        Returns:
            Means by name, each without its weight ('keypoints', 'depth' in metres, 'objects',
            'picture'; none of weight 0), and their weighted sum as 'loss'.

        Raises:
            ObjectiveError: The batch has no small pictures, or other objects.
        """
        config = self.config
        heatmaps, depths, objects, picture = self._read(batch)
        valid, pixels, true_depths = batch.keypoints(config.keypoints)
        losses, weights = {}, {}
        if config.keypoint_weight:
            losses['keypoints'] = self._map_loss(heatmaps, pixels, valid)
            weights['keypoints'] = config.keypoint_weight
        if config.depth_weight:
            error = (self._depth(heatmaps, depths) - true_depths).abs()
            losses['depth'] = _mean_where(error, valid)
            weights['depth'] = config.depth_weight
        if config.object_weight and self._maps[2]:
            losses['objects'] = self._map_loss(objects, batch.object_pixels, batch.object_valid)
            weights['objects'] = config.object_weight
        if config.picture_weight:
            losses['picture'] = F.mse_loss(picture, self._small(batch, picture))
            weights['picture'] = config.picture_weight
        total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
        return {**losses, 'loss': total}

    @torch.no_grad()
    def errors(self, batch: FrameBatch) -> dict[str, Tensor]:
        """Sums over a batch of what people look at.

        Returns:
            See `reading_errors`.

        Raises:
            ObjectiveError: As in `forward`.
        """
        stride = self.config.stride
        heatmaps, depths, objects, _ = self._read(batch)
        centres = soft_argmax(objects, stride) if self._maps[2] else None
        return reading_errors(
            batch,
            self.config.keypoints,
            soft_argmax(heatmaps, stride),
            self._depth(heatmaps, depths),
            centres,
        )

    def _read(self, batch: FrameBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the heads say: heat maps, depth maps, object maps and picture."""
        if batch.object_pixels.shape[1] != self._maps[2]:
            raise ObjectiveError(
                f'the heads are for {self._maps[2]} kinds of objects, '
                f'the batch has {batch.object_pixels.shape[1]}'
            )
        features = batch.features.float()
        if self.training and self.config.feature_noise:
            noise = torch.randn_like(features) * self.adapter.std
            features = features + self.config.feature_noise * noise
        latents = self.adapter(features)
        if self.training and self.config.latent_noise:
            latents = latents + self.config.latent_noise * torch.randn_like(latents)
        x = latents.transpose(1, 2).unflatten(2, self.adapter.config.out_grid)
        x = F.gelu(self._first(x))
        x = x + F.gelu(self._second(x))
        heatmaps, depths, objects, picture = self._output(x).float().split(self._maps, dim=1)
        return heatmaps, depths, objects, picture

    def _depth(self, heatmaps: Tensor, depths: Tensor) -> Tensor:
        """Depth (B, K) where the heat map says that the keypoint is; doesn't move the map."""
        weights = torch.softmax(heatmaps.detach().flatten(2), dim=-1)
        return (weights * depths.flatten(2)).sum(-1) + TYPICAL_DEPTH

    def _map_loss(self, maps: Tensor, pixels: Tensor, valid: Tensor) -> Tensor:
        """Cross-entropy between the softmax of maps and normalised Gaussians at pixels."""
        true = exact_heatmaps(
            pixels, valid, self._image_size, self.config.stride, self.config.sigma
        )
        return _mean_where(map_entropy(maps, true)[0], valid)

    def _small(self, batch: FrameBatch, like: Tensor) -> Tensor:
        if batch.pictures is None:
            raise ObjectiveError(
                'the cache has no small pictures: encode with them (dexwm encode --pictures), '
                'or set picture_weight to 0'
            )
        pictures = batch.pictures.permute(0, 3, 1, 2).float() / 255
        return F.interpolate(pictures, like.shape[-2:], mode='area')


def _mean_where(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of the valid values, 0 where there is none."""
    return torch.where(valid, values, 0.0).sum() / valid.sum().clamp(min=1)
