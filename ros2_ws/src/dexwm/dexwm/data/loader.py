"""Endless streams of batches that go on exactly where they stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from dexwm.data.actions import ActionOptions
from dexwm.data.batch import Batch, FrameBatch
from dexwm.data.episode import DatasetError, Problem
from dexwm.data.latent_cache import LatentCache
from dexwm.data.mixture import Mixture, Samples
from dexwm.data.window_source import WindowSource
from dexwm.data.windows import WindowSampler

BatchT = TypeVar('BatchT', Batch, FrameBatch)


class _Taker(Dataset[BatchT], Generic[BatchT]):
    """Makes a batch of the samples whose places in the endless order are given."""

    mixture: Mixture

    def __getitem__(self, index: int) -> BatchT:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> BatchT:
        raise NotImplementedError


class _Places:
    """The places that one process takes, batch by batch, for ever."""

    def __init__(self, start: int, batch_size: int, rank: int, world_size: int) -> None:
        self._state = (start, batch_size, rank, world_size)

    def __iter__(self) -> Iterator[list[int]]:
        start, batch_size, rank, world_size = self._state
        while True:
            yield list(range(start + rank, start + batch_size * world_size, world_size))
            start += batch_size * world_size


class _Stream(Generic[BatchT]):
    """An endless iterator over batches of one process.

    Attributes:
        problems: what could not be read so far, and was replaced.
        epoch_size: samples of an epoch, over all processes.
    """

    def __init__(
        self,
        taker: _Taker[BatchT],
        batch_size: int,
        rank: int,
        world_size: int,
        workers: int,
        fingerprint: dict[str, Any],
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world_size:
            raise DatasetError(
                f'need a batch of at least 1 and a rank below the {world_size} processes, '
                f'got {batch_size} and rank {rank}'
            )
        self._taker: _Taker[BatchT] = taker
        self._shape = (batch_size, rank, world_size)
        self._workers = workers
        self._fingerprint = fingerprint
        self._taken = 0
        self._batches: Iterator[BatchT] | None = None
        self.epoch_size = taker.mixture.epoch_size
        self.problems: list[Problem] = []

    def __iter__(self) -> Iterator[BatchT]:
        return self

    def __next__(self) -> BatchT:
        if self._batches is None:
            self._batches = iter(
                DataLoader(
                    self._taker,
                    batch_sampler=_Places(self._taken, *self._shape),
                    num_workers=self._workers,
                    collate_fn=_as_it_is,
                    # Its own: the global one belongs to what resumes exactly.
                    generator=torch.Generator(),
                )
            )
        batch = next(self._batches)
        batch_size, _, world_size = self._shape
        self._taken += batch_size * world_size
        if isinstance(batch, Batch):
            self.problems.extend(batch.problems)
        return batch

    @property
    def epochs(self) -> float:
        """How many times the data was gone through, by the batches given out so far."""
        return self._taken / self.epoch_size

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands after the batches given out, over all processes."""
        return {'taken': self._taken, 'data': self._fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where another stream stood; the number of processes may differ.

        Raises:
            DatasetError: where the other one's data or seed is not this one's.
        """
        if state['data'] != self._fingerprint:
            different = sorted(
                name
                for name in {**state['data'], **self._fingerprint}
                if state['data'].get(name) != self._fingerprint.get(name)
            )
            raise DatasetError(
                'the stream to go on with was over other data; different: '
                + ', '.join(
                    f'{name} (was {state["data"].get(name)}, is {self._fingerprint.get(name)})'
                    for name in different
                )
            )
        self._taken = int(state['taken'])
        self._batches = None


def _as_it_is(batch: BatchT) -> BatchT:
    # DataLoader would take dataclasses of tensors apart.
    return batch


class _WindowTaker(_Taker[Batch]):
    def __init__(
        self,
        sources: Sequence[WindowSource],
        mixture: Mixture,
        sampler: WindowSampler,
        options: ActionOptions,
        seed: int,
    ) -> None:
        self.mixture = mixture
        self._sources = tuple(sources)
        self._sampler = sampler
        self._options = options
        self._seed = seed

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        samples = _samples(self.mixture, indices)
        parts = []
        for number in np.unique(samples.source):
            chosen = samples.source == number
            rounds, places = samples.round[chosen], samples.index[chosen]
            rngs = [
                np.random.default_rng([self._seed, int(number), int(turn), int(place)])
                for turn, place in zip(rounds, places, strict=True)
            ]
            episodes, segments = np.divmod(places, self._sampler.segments)
            part = self._sources[number].draw(
                episodes.tolist(), segments.tolist(), rngs, self._sampler, self._options
            )
            part.source.fill_(int(number))
            parts.append(part)
        return Batch.concatenate(parts)


class WindowLoader(_Stream[Batch]):
    """An endless stream of windows from a mixture of data sets.

    The windows depend on the seed and on nothing else: not on workers, nor on how a global batch
    is shared out among processes. Within a batch they are grouped by data set.
    """

    def __init__(
        self,
        sources: Sequence[WindowSource],
        weights: Sequence[float],
        sampler: WindowSampler,
        options: ActionOptions,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
    ) -> None:
        """Starts at the first batch.

        Args:
            sources: the data sets; those with latents and those with pictures cannot be mixed.
            weights: share of each.
            sampler: how frames are chosen.
            options: what the model is told about a step.
            batch_size: windows of a batch of this process.
            seed: of order and windows.
            rank: of this process.
            world_size: how many processes share every global batch.
            workers: processes that prepare batches; 0: this one.

        Raises:
            DatasetError: where a data set is empty, or a number makes no sense.
        """
        sizes = [len(source) * sampler.segments for source in sources]
        mixture = Mixture(sizes, weights, seed)
        fingerprint = {
            'seed': seed,
            'episodes': [len(source) for source in sources],
            'weights': [float(weight) for weight in weights],
            'sampler': repr(sampler),
        }
        super().__init__(
            _WindowTaker(sources, mixture, sampler, options, seed),
            batch_size,
            rank,
            world_size,
            workers,
            fingerprint,
        )


class _FrameTaker(_Taker[FrameBatch]):
    def __init__(self, caches: Sequence[LatentCache], mixture: Mixture) -> None:
        self.mixture = mixture
        self._caches = tuple(caches)

    def __getitems__(self, indices: Sequence[int]) -> FrameBatch:
        samples = _samples(self.mixture, indices)
        return FrameBatch.concatenate(
            [
                self._caches[number].frames(samples.index[samples.source == number])
                for number in np.unique(samples.source)
            ]
        )


class FrameLoader(_Stream[FrameBatch]):
    """An endless stream of single frames from a mixture of caches.

    None of a cache's frames comes again before all of them were taken. Within a batch they are
    grouped by cache.
    """

    def __init__(
        self,
        caches: Sequence[LatentCache],
        weights: Sequence[float],
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
    ) -> None:
        """Starts at the first batch; see `WindowLoader` for the arguments.

        Raises:
            DatasetError: where a number makes no sense.
        """
        frames = [len(cache.table) for cache in caches]
        mixture = Mixture(frames, weights, seed)
        fingerprint = {
            'seed': seed,
            'frames': frames,
            'weights': [float(weight) for weight in weights],
        }
        super().__init__(
            _FrameTaker(caches, mixture),
            batch_size,
            rank,
            world_size,
            workers,
            fingerprint,
        )


def _samples(mixture: Mixture, places: Sequence[int]) -> Samples:
    """The samples at places of the endless order, which rise in equal steps."""
    first = places[0]
    span = mixture.take(first, places[-1] - first + 1)
    chosen = np.asarray(places) - first
    return Samples(span.source[chosen], span.round[chosen], span.index[chosen])
