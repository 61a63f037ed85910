"""Training of an adapter on features that are encoded already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from dexwm.data.batch import FrameBatch
from dexwm.data.latent_cache import LatentCache
from dexwm.model.adapter import Adapter
from dexwm.model.encoders.projected import ProjectedEncoder
from dexwm.model.encoders.registry import build_encoder
from dexwm.training.adapter import AdapterObjective
from dexwm.training.reading_errors import reading_figures
from dexwm.training.recipe import AdapterRecipe, Phase
from dexwm.training.recipe_file import RecipeError
from dexwm.training.task import Task

ADAPTER_FILE = 'adapter.safetensors'
"""File of the trained adapter, for the encoder's option `projection`."""

_SAMPLE = 2000


class AdapterTask(Task):
    """An adapter with the heads that it is trained through; the heads are not kept."""

    def __init__(
        self, encoder: ProjectedEncoder, recipe: AdapterRecipe, caches: Sequence[LatentCache]
    ) -> None:
        """Puts the heads on the adapter, and fits its standardisation to the data.

        Args:
            encoder: What the adapter belongs to.
            recipe: Says what the heads are trained on.
            caches: Features of the encoder's backbone, with the same kinds of objects.

        Raises:
            ObjectiveError: If the objective does not fit the adapter.
        """
        super().__init__()
        adapter = encoder.projection
        assert isinstance(adapter, Adapter)
        # Not a part of the task: the backbone has nothing to do.
        self._encoder = (encoder,)
        adapter.fit_standardisation(torch.cat([_sample(cache) for cache in caches]))
        adapter.requires_grad_(True)
        self.objective = AdapterObjective(
            adapter, recipe.objective, encoder.image_size, len(caches[0].object_names)
        )

    def forward(self, batch: FrameBatch, phase: Phase, turn: str) -> dict[str, Tensor]:
        """See `Task`."""
        losses: dict[str, Tensor] = self.objective(batch)
        return losses

    def validate(self, batch: FrameBatch) -> dict[str, Tensor]:
        """See `Task`."""
        losses: dict[str, Tensor] = self.objective(batch)
        return {
            **self.objective.errors(batch),
            'loss': losses['loss'] * len(batch),
            'frames': torch.tensor(len(batch), device=losses['loss'].device),
        }

    def summary(self, sums: Mapping[str, float]) -> dict[str, float]:
        """See `reading_figures`."""
        return {'loss': sums['loss'] / sums['frames'], **reading_figures(sums)}

    def compiled(self) -> tuple[nn.Module, ...]:
        """See `Task`."""
        return (self.objective,)

    def save(self, folder: Path) -> None:
        """Writes `ADAPTER_FILE`."""
        (encoder,) = self._encoder
        folder.mkdir(parents=True, exist_ok=True)
        encoder.save_projection(folder / ADAPTER_FILE)


def _sample(cache: LatentCache) -> Tensor:
    """Features of some frames (n, P, D) of a cache."""
    rows = torch.linspace(0, len(cache.table) - 1, min(_SAMPLE, len(cache.table))).long()
    return torch.from_numpy(cache.latents[rows.numpy()])


def make_adapter_encoder(recipe: AdapterRecipe) -> ProjectedEncoder:
    """The encoder whose adapter a recipe trains.

    Raises:
        RecipeError: If it has no adapter, or one that is trained already.
        EncoderError: If it cannot be built.
    """
    encoder = build_encoder(recipe.encoder.name, recipe.encoder.options)
    if not isinstance(encoder, ProjectedEncoder) or not isinstance(encoder.projection, Adapter):
        raise RecipeError(
            f'encoder.name: {recipe.encoder.name} has no adapter; those with one end in _adapter'
        )
    if 'projection' in recipe.encoder.options:
        raise RecipeError('encoder.options.projection: leave it out, the adapter is trained here')
    return encoder
