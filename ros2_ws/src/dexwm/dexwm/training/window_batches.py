"""Batches of windows for the training of a world model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from dexwm.data.actions import ActionOptions
from dexwm.data.augmentation import ClipAugmentation
from dexwm.data.batch import Batch
from dexwm.data.datasets import open_dataset
from dexwm.data.episode import DatasetError, EpisodeDataset, Problem
from dexwm.data.latent_cache import LatentCache
from dexwm.data.loader import WindowLoader
from dexwm.data.recording import Split
from dexwm.data.window_source import CachedWindows, ImageWindows, WindowSource
from dexwm.data.windows import WindowSampler
from dexwm.model.encoders.encoder import Encoder
from dexwm.training.recipe import Phase, Source, WorldModelRecipe, source_weights

# Held-out windows are drawn with a seed of their own, so that recipes can be compared.
_VALIDATION_SEED = 1


class WindowBatches:
    """Windows as a recipe says, from caches or pictures.

    Attributes:
        object_names: kinds of objects in all the data, in the order of the batches' columns.
    """

    def __init__(self, recipe: WorldModelRecipe, encoder: Encoder, actions: ActionOptions) -> None:
        """Opens all datasets.

        Args:
            recipe: says which.
            encoder: caches must be its.
            actions: what the model is told about a step.

        Raises:
            DatasetError: If one of them cannot be used.
        """
        self._recipe, self._actions = recipe, actions
        windows = recipe.windows
        self._sampler = WindowSampler(
            windows.frames,
            windows.max_seconds,
            windows.segments,
            windows.spacing,
            windows.min_gap_seconds,
            windows.vary_span,
            windows.moved_share,
            windows.whole,
        )
        self._left_out: list[Problem] = []
        self._loaders: list[WindowLoader] = []
        augmentation = ClipAugmentation() if windows.augment else None
        training = self._opened(recipe.data, encoder, False)
        validation = [] if recipe.validation is None else recipe.validation.data
        held_out = self._opened(validation, encoder, True)
        names = {name for data in (*training, *held_out) for name in _object_names(data)}
        self.object_names = tuple(sorted(names))
        if windows.moved_share and not self.object_names:
            raise DatasetError(
                'windows.moved_share needs data that tell where objects are; only simulated '
                'ones do'
            )
        self._training = self._windows(training, encoder, augmentation)
        self._held_out = self._windows(held_out, encoder, None)

    @property
    def problems(self) -> list[Problem]:
        """See `BatchSource`; those met while windows were drawn too."""
        met = (problem for loader in self._loaders for problem in loader.problems)
        return list({problem.file: problem for problem in (*self._left_out, *met)}.values())

    def windows_per_epoch(self) -> int:
        """How many windows one pass over the data has."""
        return sum(len(source) for source in self._training) * self._sampler.segments

    def training(self, phase: Phase, batch_size: int, rank: int, processes: int) -> WindowLoader:
        """See `BatchSource`."""
        number = self._recipe.phases.index(phase)  # type: ignore[arg-type]
        loader = WindowLoader(
            self._training,
            source_weights(self._recipe.data, [len(source) for source in self._training]),
            self._sampler,
            self._actions,
            batch_size,
            # Each phase in an order of its own.
            self._recipe.seed + 1000 * number,
            rank=rank,
            world_size=processes,
            workers=self._recipe.engine.workers,
        )
        self._loaders.append(loader)
        return loader

    def validation(self, rank: int, processes: int) -> Iterator[Batch]:
        """See `BatchSource`."""
        validation = self._recipe.validation
        assert validation is not None
        loader = WindowLoader(
            self._held_out,
            source_weights(validation.data, [len(source) for source in self._held_out]),
            replace(self._sampler, moved_share=0.0),
            self._actions,
            max(1, validation.batch_size // processes),
            _VALIDATION_SEED,
            rank=rank,
            world_size=processes,
            workers=self._recipe.engine.workers,
        )
        return islice(loader, validation.batches)

    def _opened(
        self, sources: Sequence[Source], encoder: Encoder, held_out: bool
    ) -> list[LatentCache | EpisodeDataset]:
        if len({source.cache is None for source in sources}) > 1:
            raise DatasetError(
                'sources with a cache and sources without one cannot be mixed: encode all of '
                'them with `dexwm encode`, or none'
            )
        opened = [_open(source, encoder, held_out) for source in sources]
        for data in opened:
            self._left_out.extend(data.problems)
        return opened

    def _windows(
        self,
        opened: Sequence[LatentCache | EpisodeDataset],
        encoder: Encoder,
        augmentation: ClipAugmentation | None,
    ) -> list[WindowSource]:
        windows: list[WindowSource] = []
        for data in opened:
            if isinstance(data, LatentCache):
                if augmentation is not None:
                    raise DatasetError('windows.augment needs pictures: leave the caches out')
                data.show_objects(self.object_names)
                windows.append(CachedWindows(data))
            else:
                if self._sampler.moved_share:
                    raise DatasetError(
                        'windows.moved_share needs caches: many windows are drawn for one'
                    )
                windows.append(
                    ImageWindows(data, encoder.image_size, self.object_names, augmentation)
                )
        return windows


def _open(source: Source, encoder: Encoder, held_out: bool) -> LatentCache | EpisodeDataset:
    if source.cache is not None:
        return LatentCache(source.cache, encoder, source.in_memory)
    assert source.path is not None
    # The other formats hold nothing out by themselves: a folder of its own does.
    splits = source.kind in ('recording', 'egodex')
    split: Split = 'held_out' if held_out and splits else 'train'
    return open_dataset(source.kind, source.path, split, source.options)


def _object_names(data: LatentCache | EpisodeDataset) -> set[str]:
    if isinstance(data, LatentCache):
        return set(data.object_names)
    names: set[str] = set()
    for index in range(len(data)):
        try:
            objects = data[index].objects
        except DatasetError:
            # Where a window of it is drawn, another one takes its place.
            continue
        if objects is None:
            # A format tells of objects in all its files or in none.
            break
        names.update(objects.names)
    return names
