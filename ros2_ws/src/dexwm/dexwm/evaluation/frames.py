"""Frames of a data set with the latents of the encoder that is evaluated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dexwm.data.actions import ActionOptions
from dexwm.data.batch import Batch, FrameBatch, assemble
from dexwm.data.latent_cache import LatentCache
from dexwm.model.encoders.encoder import Encoder
from dexwm.model.encoders.projected import ProjectedEncoder

_BATCH = 256


class EncodedFrames:
    """A latent cache seen through an encoder.

    The cache holds the encoder's own latents, or those of the public encoder behind which it puts
    a projection; that is then applied to what is read.

    Attributes:
        cache: What is read.
        device: The encoder's, on which latents are.
    """

    def __init__(self, cache: LatentCache, encoder: Encoder) -> None:
        """Checks that the cache is the encoder's.

        Raises:
            DatasetError: If it is another's.
        """
        self.cache = cache
        self._projection: ProjectedEncoder | None = None
        if isinstance(encoder, ProjectedEncoder) and cache.encoder_digest != encoder.digest():
            cache.require(encoder.backbone)
            self._projection = encoder
        else:
            cache.require(encoder)
        self.device = encoder_device(encoder)
        self._fps = np.array(cache.fps)
        self._supervised = np.array([each.keypoints_supervised for each in cache.episodes])

    def actions(
        self,
        episodes: NDArray[np.int64],
        frame_indices: NDArray[np.int64],
        options: ActionOptions,
    ) -> Batch:
        """Windows without latents.

        Args:
            episodes: (B,) numbers of episodes.
            frame_indices: (B, F) frames of each.
            options: What the model is told about a step.
        """
        return assemble(
            self.cache.table,
            self.cache.rows(episodes, frame_indices),
            options,
            fps=self._fps[episodes],
            supervised=self._supervised[episodes],
            episode=episodes,
            frame_indices=frame_indices,
        )

    @torch.no_grad()
    def latents(self, rows: NDArray[np.int64]) -> Tensor:
        """The encoder's latents of some frames.

        Args:
            rows: (...) places in the cache.

        Returns:
            (..., P, D) float32.
        """
        flat = rows.reshape(-1)
        parts = []
        for start in range(0, len(flat), _BATCH):
            stored = torch.from_numpy(self.cache.latents[flat[start : start + _BATCH]])
            parts.append(self._latents_of(stored))
        latents = torch.cat(parts)
        return latents.reshape(*rows.shape, *latents.shape[1:])

    @torch.no_grad()
    def frames(self, rows: NDArray[np.int64]) -> FrameBatch:
        """Single frames with their truth.

        Args:
            rows: (B,) places in the cache.

        Returns:
            The frames, their features being the encoder's latents (B, P, D) float32.
        """
        batch = self.cache.frames(rows)
        return replace(batch, features=self._latents_of(batch.features))

    def _latents_of(self, stored: Tensor) -> Tensor:
        features = stored.to(self.device, torch.float32)
        return features if self._projection is None else self._projection.project(features)


def encoder_device(encoder: Encoder) -> torch.device:
    """Where an encoder computes."""
    return next(encoder.parameters()).device
