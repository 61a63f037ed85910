"""Latents for an evaluation, made of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from dexwm.data.episode import EpisodeDataset
from dexwm.data.latent_cache import LatentCache
from dexwm.evaluation.frames import encoder_device
from dexwm.model.encoders.encoder import Encoder


def encode(
    dataset: EpisodeDataset,
    encoder: Encoder,
    folder: Path,
    progress: Callable[[int], None] | None = None,
) -> LatentCache:
    """Encodes a data set into a folder of its own, once.

    Args:
        dataset: The episodes.
        encoder: What encodes them.
        folder: Where such caches are; this one gets a name from encoder and episodes.
        progress: Called after each episode with the number done.

    Raises:
        DatasetError: If no episode can be encoded, or what is there is not the same data.
        OSError: If the disk does not take it.
    """
    digest = hashlib.sha256(encoder.digest().encode())
    for index in range(len(dataset)):
        digest.update(f'\n{dataset[index].name}'.encode())
    return LatentCache.build(
        dataset,
        encoder,
        folder / digest.hexdigest()[:16],
        device=encoder_device(encoder),
        on_progress=None if progress is None else lambda done, of, frames: progress(done),
    )
