"""Data sets from which windows are drawn: with latents from a cache, or with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dexwm.data.actions import ActionOptions
from dexwm.data.augmentation import ClipAugmentation
from dexwm.data.batch import Batch, assemble
from dexwm.data.episode import DatasetError, EpisodeDataset, EpisodeSource, Problem
from dexwm.data.frame_table import FrameTable
from dexwm.data.latent_cache import LatentCache, input_pictures
from dexwm.data.moved_objects import moved_since_start
from dexwm.data.windows import WindowSampler

_REPLACEMENTS = 20
# How often a window is drawn in which an object is to move, before the last one is taken.
_SEARCHES = 50


class WindowSource(Protocol):
    """A data set from which windows are drawn."""

    def __len__(self) -> int:
        """The number of episodes."""
        ...

    def draw(
        self,
        episodes: Sequence[int],
        segments: Sequence[int],
        rngs: Sequence[np.random.Generator],
        sampler: WindowSampler,
        options: ActionOptions,
    ) -> Batch:
        """Draws one window of each episode given.

        Args:
            episodes: numbers of episodes, repeats allowed.
            segments: which segment of each (see `WindowSampler`).
            rngs: one source of choices for each.
            sampler: how frames are chosen.
            options: what the model is told about a step.

        Raises:
            DatasetError: where nothing can be read.
        """
        ...


class CachedWindows:
    """Windows with latents from a cache."""

    def __init__(self, cache: LatentCache) -> None:
        """Takes the cache."""
        self.cache = cache

    def __len__(self) -> int:
        return len(self.cache.episodes)

    def draw(
        self,
        episodes: Sequence[int],
        segments: Sequence[int],
        rngs: Sequence[np.random.Generator],
        sampler: WindowSampler,
        options: ActionOptions,
    ) -> Batch:
        """See `WindowSource`."""
        known = self.cache.episodes

        def frames(episode: int, segment: int, rng: np.random.Generator) -> NDArray[np.int64]:
            return sampler.draw(known[episode].length, known[episode].fps, segment, rng)

        numbers = np.array(episodes, np.int64)
        drawn = np.stack([frames(*each) for each in zip(episodes, segments, rngs, strict=True)])
        if sampler.moved_share:
            sought = np.array([rng.random() < sampler.moved_share for rng in rngs])
            for _ in range(_SEARCHES):
                sought &= ~self._objects_move(numbers, drawn)
                if not sought.any():
                    break
                for place in np.flatnonzero(sought).tolist():
                    rng = rngs[place]
                    numbers[place] = rng.integers(len(known))
                    segment = int(rng.integers(sampler.segments))
                    drawn[place] = frames(int(numbers[place]), segment, rng)
        return self.cache.windows(numbers, drawn, options)

    def _objects_move(
        self, episodes: NDArray[np.int64], frames: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """(B,) whether a frame of a window has an object elsewhere than its first."""
        rows, table = self.cache.rows(episodes, frames), self.cache.table
        moved = moved_since_start(table.object_pixels[rows], table.object_visible[rows])
        return np.asarray(moved.any(axis=(1, 2)))


class ImageWindows:
    """Windows with pictures, read while training.

    A window that cannot be read is replaced by one of another episode, drawn with the same
    source of choices; the problem is in the batch.
    """

    def __init__(
        self,
        dataset: EpisodeDataset,
        image_size: tuple[int, int],
        object_names: Sequence[str] = (),
        augmentation: ClipAugmentation | None = None,
    ) -> None:
        """Takes the data set.

        Args:
            dataset: the episodes.
            image_size: rows and columns of the input picture.
            object_names: kinds that are columns of the truth about objects.
            augmentation: of each window's pictures; None: they stay as they are.

        Raises:
            DatasetError: where it is empty.
        """
        if not len(dataset):
            raise DatasetError('the data set has no episodes')
        self.dataset = dataset
        self._image_size = image_size
        self._object_names = tuple(object_names)
        self._augmentation = augmentation

    def __len__(self) -> int:
        return len(self.dataset)

    def draw(
        self,
        episodes: Sequence[int],
        segments: Sequence[int],
        rngs: Sequence[np.random.Generator],
        sampler: WindowSampler,
        options: ActionOptions,
    ) -> Batch:
        """See `WindowSource`."""
        return Batch.concatenate(
            [
                self._draw_one(episode, segment, rng, sampler, options)
                for episode, segment, rng in zip(episodes, segments, rngs, strict=True)
            ]
        )

    def _draw_one(
        self,
        number: int,
        segment: int,
        rng: np.random.Generator,
        sampler: WindowSampler,
        options: ActionOptions,
    ) -> Batch:
        problems: list[Problem] = []
        for _ in range(_REPLACEMENTS):
            name = f'episode {number}'
            try:
                episode = self.dataset[number]
                name = episode.name
                batch = self._window(episode, number, segment, rng, sampler, options)
                return replace(batch, problems=tuple(problems))
            except DatasetError as error:
                problems.append(Problem(name, str(error)))
                number = int(rng.integers(len(self.dataset)))
        raise DatasetError(
            f'{_REPLACEMENTS} episodes in a row cannot be read'
            + ''.join(f'\n  {problem}' for problem in problems)
        )

    def _window(
        self,
        episode: EpisodeSource,
        number: int,
        segment: int,
        rng: np.random.Generator,
        sampler: WindowSampler,
        options: ActionOptions,
    ) -> Batch:
        frames = sampler.draw(episode.length, episode.fps, segment, rng)
        table = FrameTable.of_episode(episode, self._image_size, self._object_names)
        images = input_pictures(episode, self._image_size, frames)
        if self._augmentation is not None:
            images = self._augmentation(images, rng)
        return assemble(
            table,
            frames[None],
            options,
            fps=[episode.fps],
            supervised=[episode.keypoints_supervised],
            episode=[number],
            frame_indices=frames[None],
            images=images[None],
        )
