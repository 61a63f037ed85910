"""Batches of single frames from a cache, for the training of adapters and decoders."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from dexwm.data.batch import FrameBatch
from dexwm.data.episode import DatasetError, Problem
from dexwm.data.latent_cache import LatentCache
from dexwm.data.loader import FrameLoader
from dexwm.model.encoders.encoder import Encoder
from dexwm.training.recipe import BaseRecipe, Phase, Source

_VALIDATION_SEED = 1


class FrameBatches:
    """Frames as a recipe says, each once in a pass over the data.

    Attributes:
        cache: Of training.
        problems: What the datasets left out, and why.
    """

    def __init__(self, recipe: BaseRecipe, encoder: Encoder) -> None:
        """Opens the caches.

        Args:
            recipe: Says which: one to train on, and one that is held out.
            encoder: The caches must be its.

        Raises:
            DatasetError: If one of them cannot be used.
        """
        self._recipe = recipe
        self.cache = _open(recipe.data, encoder, 'data')
        self.problems: list[Problem] = list(self.cache.problems)
        self._held_out: LatentCache | None = None
        if recipe.validation is not None:
            self._held_out = _open(recipe.validation.data, encoder, 'validation.data')
            self._held_out.show_objects(self.cache.object_names)
            self.problems.extend(self._held_out.problems)

    def windows_per_epoch(self) -> int:
        """How many frames one pass over the data has."""
        return len(self.cache.table)

    def training(self, phase: Phase, batch_size: int, rank: int, processes: int) -> FrameLoader:
        """See `BatchSource`."""
        engine = self._recipe.engine
        return FrameLoader(
            self.cache,
            batch_size,
            self._recipe.seed + 1000 * self._recipe.phases.index(phase),
            rank=rank,
            world_size=processes,
            workers=engine.workers,
        )

    def validation(self, rank: int, processes: int) -> Iterator[FrameBatch]:
        """See `BatchSource`."""
        validation = self._recipe.validation
        assert validation is not None and self._held_out is not None
        batch_size = max(1, validation.batch_size // processes)
        loader = FrameLoader(
            self._held_out, batch_size, _VALIDATION_SEED, rank=rank, world_size=processes
        )
        return islice(loader, validation.batches)


def _open(sources: list[Source], encoder: Encoder, key: str) -> LatentCache:
    if len(sources) > 1 or sources[0].cache is None:
        raise DatasetError(
            f'{key}: frames are taken from one cache: encode the data with `dexwm encode`, and '
            f'give its folder as {key}.0.cache'
        )
    return LatentCache(sources[0].cache, encoder, sources[0].in_memory)
