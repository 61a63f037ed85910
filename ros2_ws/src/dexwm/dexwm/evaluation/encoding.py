"""Latents for an evaluation: an existing cache, or one made of part of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dexwm.data.episode import DatasetError, EpisodeDataset, EpisodeSource, Problem
from dexwm.data.latent_cache import LatentCache
from dexwm.evaluation.frames import encoder_device
from dexwm.model.encoders.encoder import Encoder


class EpisodeSubset:
    """Some episodes of a data set; an `EpisodeDataset`.

    Attributes:
        problems: What the data set left out.
    """

    def __init__(self, dataset: EpisodeDataset, indices: Sequence[int]) -> None:
        """Takes the episodes at some places of a data set."""
        self._dataset = dataset
        self._indices = tuple(indices)
        self.problems: list[Problem] = list(dataset.problems)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> EpisodeSource:
        """The episode at a place from 0 to len - 1; see `EpisodeDataset`."""
        return self._dataset[self._indices[index]]


def some_episodes(dataset: EpisodeDataset, frames: int, seed: int) -> EpisodeSubset:
    """Draws as many episodes as have a number of frames together.

    Episodes that cannot be read are passed over.

    Args:
        dataset: Where from.
        frames: How many frames; all episodes are taken where there are fewer.
        seed: Of the choice.
    """
    chosen: list[int] = []
    total = 0
    for index in np.random.default_rng(seed).permutation(len(dataset)).tolist():
        if total >= frames:
            break
        try:
            total += dataset[index].length
        except DatasetError:
            continue
        chosen.append(index)
    return EpisodeSubset(dataset, sorted(chosen))


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
