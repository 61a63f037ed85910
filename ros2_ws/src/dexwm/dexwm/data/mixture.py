"""Mixing of data sets: in which order samples are taken, for ever."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dexwm.data.episode import DatasetError


@dataclass(frozen=True)
class Samples:
    """Which samples to take.

    Attributes:
        source: (n,) places of their data sets.
        round: (n,) how many times each data set had been gone through before.
        index: (n,) places in their data sets.
    """

    source: NDArray[np.int64]
    round: NDArray[np.int64]
    index: NDArray[np.int64]


class Mixture:
    """An endless, seeded order of the samples of several data sets.

    An epoch has as many samples as all data sets together. Each data set's share of it is its
    weight's; it goes on where it stopped in the epoch before, and none of its samples comes again
    before all of them were taken.

    Attributes:
        epoch_size: samples of an epoch.
        shares: samples of each data set in an epoch.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], seed: int) -> None:
        """Works out the shares.

        Args:
            sizes: samples of each data set.
            weights: of each, relative to the sum; zero leaves it out.
            seed: of the order.

        Raises:
            DatasetError: where sizes and weights are not as many, a data set is empty, a weight
                is negative or not finite, or all are zero.
        """
        if not sizes or len(sizes) != len(weights):
            raise DatasetError(f'{len(sizes)} data sets need as many weights, got {len(weights)}')
        if min(sizes) < 1:
            raise DatasetError(f'data set {int(np.argmin(sizes))} is empty')
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not sum(
            weights
        ):
            raise DatasetError(
                f'weights must not be negative, nor all zero, got {", ".join(map(str, weights))}'
            )
        self._sizes = tuple(sizes)
        self._seed = seed
        self.epoch_size = sum(sizes)
        exact = np.array(weights) / sum(weights) * self.epoch_size
        shares = np.floor(exact).astype(np.int64)
        left = self.epoch_size - int(shares.sum())
        shares[np.argsort(shares - exact, kind='stable')[:left]] += 1
        self.shares: tuple[int, ...] = tuple(int(share) for share in shares)
        self._epoch: tuple[int, Samples] | None = None

    def take(self, start: int, count: int) -> Samples:
        """The samples from place `start` of the endless order on."""
        parts = []
        while count > 0:
            epoch, place = divmod(start, self.epoch_size)
            samples = self._samples_of(epoch)
            taken = slice(place, min(place + count, self.epoch_size))
            parts.append(
                Samples(samples.source[taken], samples.round[taken], samples.index[taken])
            )
            number = taken.stop - taken.start
            start, count = start + number, count - number
        return Samples(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ('source', 'round', 'index')
            )
        )

    def _samples_of(self, epoch: int) -> Samples:
        if self._epoch is not None and self._epoch[0] == epoch:
            return self._epoch[1]
        sources, rounds, indices = [], [], []
        for source, (size, share) in enumerate(zip(self._sizes, self.shares, strict=True)):
            places = np.arange(epoch * share, (epoch + 1) * share)
            sources.append(np.full(share, source))
            rounds.append(places // size)
            index = np.empty(share, np.int64)
            for turn in np.unique(places // size):
                order = np.random.default_rng([self._seed, 1, source, int(turn)]).permutation(size)
                now = places // size == turn
                index[now] = order[places[now] % size]
            indices.append(index)
        mixed = np.random.default_rng([self._seed, 0, epoch]).permutation(self.epoch_size)
        samples = Samples(*(np.concatenate(part)[mixed] for part in (sources, rounds, indices)))
        self._epoch = (epoch, samples)
        return samples
