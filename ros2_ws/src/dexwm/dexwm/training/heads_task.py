"""Training of a world model's heads on single frames that are encoded already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from dexwm.data.batch import FrameBatch
from dexwm.geometry.heatmaps import HEATMAP_KEYPOINTS, soft_argmax
from dexwm.model.checkpoint import save_checkpoint
from dexwm.model.world_model import WorldModel
from dexwm.training.head_losses import hand_loss, object_loss
from dexwm.training.reading_errors import reading_errors, reading_figures
from dexwm.training.recipe import HeadsRecipe, Phase
from dexwm.training.recipe_file import RecipeError
from dexwm.training.state import copy_whole, whole
from dexwm.training.task import Task


class HeadsTask(Task):
    """Keypoint and object head; what they read, and what predicts it, stays as it is.

    Windows want episodes, frames only scenes, of which there may be many more: heads that learn
    from these read more exactly.

    Attributes:
        heads: What is trained.
    """

    def __init__(self, model: WorldModel, recipe: HeadsRecipe, objects: Sequence[str]) -> None:
        """Chooses what is trained.

        Args:
            model: The model; gets an object head where the recipe wants one trained.
            recipe: Says how.
            objects: Kinds of objects that the data tell about.

        Raises:
            RecipeError: If the recipe's depths are not the model's, or the data tell nothing of
                the objects that it wants.
            WorldModelError: If the model's object head is for other objects.
        """
        super().__init__()
        self._loss = loss = recipe.loss
        if (loss.depth_weight > 0) != model.config.keypoint_head.depths:
            raise RecipeError(
                'loss.depth_weight must be above 0 where the model reads depths, and nowhere '
                f'else; {model.config.name} reads {"them" if loss.depth_weight == 0 else "none"}'
            )
        if loss.object_weight and not objects:
            raise RecipeError(
                'loss.object_weight needs data that tell where objects are; only simulated ones do'
            )
        reads_objects = model.object_head is not None
        if loss.object_weight:
            model.add_object_head(objects)
        model.requires_grad_(False)
        # Not a part of the task: only the heads are trained.
        self._model = (model,)
        heads: list[nn.Module] = [model.keypoint_head]
        if loss.object_weight:
            assert model.object_head is not None
            heads.append(model.object_head)
        self.heads = nn.ModuleList(heads).requires_grad_(True)
        self._start_share = recipe.start_share
        # Those that the model had before.
        self._started = heads if reads_objects else heads[:1]
        self._start = [parameter.detach().clone() for parameter in self._started_parameters()]

    def forward(self, batch: FrameBatch, phase: Phase, turn: str) -> dict[str, Tensor]:
        """See `Task`."""
        (model,) = self._model
        latents, loss = batch.features.float(), self._loss
        valid, pixels, depths = batch.keypoints(HEATMAP_KEYPOINTS)
        hands = hand_loss(model, latents, pixels, valid, depths, loss.heatmaps, loss.depth_weight)
        losses = {'loss': hands, 'hands': hands}
        if loss.object_weight:
            weight = torch.ones_like(batch.object_valid, dtype=latents.dtype)
            things = object_loss(
                model, latents, batch.object_pixels, batch.object_valid, weight, loss.object_sigma
            )
            losses['loss'] = losses['loss'] + loss.object_weight * things
            losses['objects'] = things
        return losses

    def _started_parameters(self) -> list[nn.Parameter]:
        return [parameter for head in self._started for parameter in head.parameters()]

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """The heads hold the weights that are kept inside the context, see `HeadsRecipe`."""
        parameters = self._started_parameters()
        trained = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            for parameter, start in zip(parameters, self._start, strict=True):
                copy_whole(whole(parameter).lerp(start, self._start_share), parameter)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, values in zip(parameters, trained, strict=True):
                    parameter.copy_(values)

    def validate(self, batch: FrameBatch) -> dict[str, Tensor]:
        """See `Task`."""
        (model,) = self._model
        latents = batch.features.float()
        centres = None
        with self._kept():
            _, pixels, depths = model.keypoints(latents)
            if self._loss.object_weight:
                assert model.object_head is not None
                centres = soft_argmax(model.object_head(latents), model.config.heatmap_stride)
        return reading_errors(batch, HEATMAP_KEYPOINTS, pixels, depths, centres)

    def summary(self, sums: Mapping[str, float]) -> dict[str, float]:
        """See `reading_figures`."""
        return reading_figures(sums)

    def compiled(self) -> tuple[nn.Module, ...]:
        """See `Task`."""
        return tuple(self.heads)

    def save(self, folder: Path) -> None:
        """Writes the world model with its heads."""
        (model,) = self._model
        with self._kept():
            save_checkpoint(model, folder)
