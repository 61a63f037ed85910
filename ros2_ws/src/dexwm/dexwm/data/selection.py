"""Parts of data sets: some of the episodes, some of their frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.data.episode import (
    DatasetError,
    EpisodeDataset,
    EpisodeSource,
    ObjectTruth,
    Problem,
)
from dexwm.data.windows import check_frames


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


class ThinnedEpisode:
    """Every n-th frame of an episode; an `EpisodeSource`, which says what the attributes are."""

    def __init__(self, episode: EpisodeSource, every: int) -> None:
        """Takes the episode and n, at least 1."""
        kept = slice(None, None, every)
        self._episode, self._every = episode, every
        self.name = episode.name
        self.length = -(-episode.length // every)
        self.fps = episode.fps / every
        self.intrinsics = episode.intrinsics
        self.keypoints_world = episode.keypoints_world[kept]
        self.keypoints_valid = episode.keypoints_valid[kept]
        self.T_world_from_camera = episode.T_world_from_camera[kept]
        self.keypoints_supervised = episode.keypoints_supervised
        self.objects: ObjectTruth | None = None
        if (objects := episode.objects) is not None:
            self.objects = ObjectTruth(
                objects.names,
                objects.centres_world[kept],
                objects.in_contact[kept],
                objects.visible_share[kept],
            )

    def images(self, indices: ArrayLike) -> NDArray[np.uint8]:
        """The pictures at some frames; see `EpisodeSource`."""
        return self._episode.images(check_frames(indices, self.length) * self._every)


class ThinnedDataset:
    """A data set with fewer frames a second; an `EpisodeDataset`."""

    def __init__(self, dataset: EpisodeDataset, fps: float) -> None:
        """Takes a data set.

        Args:
            dataset: Which.
            fps: Frames per second at most; every n-th is left, with the least n that keeps to it.

        Raises:
            DatasetError: Where that is not positive.
        """
        if not (np.isfinite(fps) and fps > 0):
            raise DatasetError(f'frames per second must be positive, got {fps}')
        self._dataset, self._fps = dataset, fps

    @property
    def problems(self) -> list[Problem]:
        """What the data set left out."""
        return self._dataset.problems

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> EpisodeSource:
        """The episode at a place from 0 to len - 1; see `EpisodeDataset`."""
        episode = self._dataset[index]
        # 30 frames a second are 29.97: a thousandth is no reason to leave out every second.
        every = int(np.ceil(episode.fps / self._fps - 0.01))
        return episode if every <= 1 else ThinnedEpisode(episode, every)
