"""Batches of single frames from caches, for trainings that know no time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from dexwm.data.batch import FrameBatch
from dexwm.data.episode import DatasetError, Problem
from dexwm.data.latent_cache import LatentCache, share_objects
from dexwm.data.loader import FrameLoader
from dexwm.model.encoders.encoder import Encoder
from dexwm.training.recipe import BaseRecipe, Phase, Source, source_weights

_VALIDATION_SEED = 1


class FrameBatches:
    """Frames as a recipe says, each once in a pass over the data.

    Attributes:
        caches: Of training.
        object_names: Kinds of objects in all the data, in the order of the batches' columns.
        problems: What the datasets left out, and why.
    """

    def __init__(
        self,
        recipe: BaseRecipe,
        encoder: Encoder,
        object_names: Sequence[str] = (),
        pictures: bool = True,
    ) -> None:
        """Opens the caches.

        Args:
            recipe: Says which.
            encoder: The caches must be its.
            object_names: Kinds that have columns whether or not the data tell of them.
            pictures: Whether batches have the small pictures of the caches.

        Raises:
            DatasetError: If one of them cannot be used, or they do not go together.
        """
        self._recipe = recipe
        validation = [] if recipe.validation is None else recipe.validation.data
        self.caches = _open(recipe.data, encoder, 'data', pictures)
        self._held_out = _open(validation, encoder, 'validation.data', pictures)
        opened = (*self.caches, *self._held_out)
        self.object_names = share_objects(opened, object_names)
        self.problems: list[Problem] = [p for cache in opened for p in cache.problems]
        sizes = {None if c.pictures is None else c.pictures.shape[1:3] for c in self.caches}
        if len(sizes) > 1:
            raise DatasetError(
                'data: the caches have small pictures of different sizes '
                f'({", ".join(sorted(map(str, sizes)))}): encode all with the same --pictures'
            )

    def windows_per_epoch(self) -> int:
        """How many frames one pass over the data has."""
        return sum(_sizes(self.caches))

    def training(self, phase: Phase, batch_size: int, rank: int, processes: int) -> FrameLoader:
        """See `BatchSource`."""
        engine = self._recipe.engine
        return FrameLoader(
            self.caches,
            source_weights(self._recipe.data, _sizes(self.caches)),
            batch_size,
            self._recipe.seed + 1000 * self._recipe.phases.index(phase),
            rank=rank,
            world_size=processes,
            workers=engine.workers,
        )

    def validation(self, rank: int, processes: int) -> Iterator[FrameBatch]:
        """See `BatchSource`."""
        validation = self._recipe.validation
        assert validation is not None
        batch_size = max(1, validation.batch_size // processes)
        loader = FrameLoader(
            self._held_out,
            source_weights(validation.data, _sizes(self._held_out)),
            batch_size,
            _VALIDATION_SEED,
            rank=rank,
            world_size=processes,
        )
        return islice(loader, validation.batches)


def _open(
    sources: Sequence[Source], encoder: Encoder, key: str, pictures: bool
) -> list[LatentCache]:
    caches = []
    for number, source in enumerate(sources):
        if source.cache is None:
            raise DatasetError(
                f'{key}: frames are taken from caches: encode the data with `dexwm encode`, and '
                f'give its folder as {key}.{number}.cache'
            )
        caches.append(LatentCache(source.cache, encoder, source.in_memory, pictures))
    return caches


def _sizes(caches: Sequence[LatentCache]) -> list[int]:
    return [len(cache.table) for cache in caches]
