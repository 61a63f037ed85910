"""Training of the predictor and the keypoint head."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from dexwm.data.batch import Batch
from dexwm.data.moved_objects import MOVED_PIXELS
from dexwm.geometry.heatmaps import soft_argmax
from dexwm.model.checkpoint import load_checkpoint, save_checkpoint
from dexwm.model.encoders.registry import build_encoder
from dexwm.model.losses import rollout_loss, state_loss
from dexwm.model.world_model import WorldModel, WorldModelConfig
from dexwm.training.head_losses import hand_loss, object_loss
from dexwm.training.reading_errors import PCK_PIXELS
from dexwm.training.recipe import Phase, WorldModelPhase, WorldModelRecipe
from dexwm.training.recipe_file import RecipeError
from dexwm.training.task import Task

# The heads see the true latents of one frame of each window: those of all five frames, for hands
# and objects, would make a step of a small model a fifth dearer.
_LAST = slice(-1, None)


class WorldModelTask(Task):
    """The losses of the paper's sections 3.2 and 3.3, over windows or rollouts.

    Attributes:
        model: What is trained; encoder and decoder stay as they are.
    """

    def __init__(
        self, model: WorldModel, recipe: WorldModelRecipe, objects: Sequence[str] = ()
    ) -> None:
        """Chooses what is trained.

        Args:
            model: The model; gets an object head where the recipe wants one trained.
            recipe: Says how.
            objects: Kinds of objects that the data tell about.

        Raises:
            RecipeError: If the recipe's loss of heat maps is not the model's, its windows are
                longer than the model's context, or the data tell nothing of the objects that it
                wants.
        """
        super().__init__()
        self.model = model
        self._loss = recipe.loss
        self._longest = model.config.predictor.context + 1
        for index, phase in enumerate(recipe.phases):
            if phase.loss == 'window' and recipe.windows.frames > self._longest:
                raise RecipeError(
                    f'phases.{index}.loss is window, of at most {self._longest} frames (context '
                    f'and the one to predict), but windows.frames is {recipe.windows.frames}: '
                    'take shorter windows, or loss: rollout'
                )
        hands = recipe.loss.hand_consistency
        if hands.kind != model.config.heatmap_loss:
            raise RecipeError(
                f'loss.hand_consistency.kind is {hands.kind}, but the model reads maps of '
                f'{model.config.heatmap_loss} (model.heatmap_loss)'
            )
        if (hands.depth_weight > 0) != model.config.keypoint_head.depths:
            raise RecipeError(
                'loss.hand_consistency.depth_weight and model.keypoint_head.depths go together: '
                'give both or neither'
            )
        wanted = recipe.loss.object_consistency
        if wanted.weight and not wanted.true_latents_weight:
            raise RecipeError(
                'loss.object_consistency.weight needs a true_latents_weight: the head learns '
                'from predictions alone what no true picture shows'
            )
        if wanted.true_latents_weight and not objects:
            raise RecipeError(
                'loss.object_consistency needs data that tell where objects are; '
                'only simulated ones do'
            )
        if wanted.true_latents_weight:
            model.add_object_head(objects)
        self._reads_objects = wanted.true_latents_weight > 0
        model.requires_grad_(False)
        model.predictor.requires_grad_(True)
        model.keypoint_head.requires_grad_(hands.weight + hands.true_latents_weight > 0)
        if model.object_head is not None:
            model.object_head.requires_grad_(self._reads_objects)

    def forward(self, batch: Batch, phase: Phase, turn: str) -> dict[str, Tensor]:
        """See `Task`."""
        assert isinstance(phase, WorldModelPhase)
        latents = self._latents(batch)
        weight = self._loss.changed_patch_weight
        if phase.rollout_steps is not None:
            last = phase.rollout_steps + 1
            state, predicted = rollout_loss(
                self.model, latents, batch.actions, phase.rollout_steps, 1, weight
            )
        else:
            last = latents.shape[1]
            predicted = self.model.predict_window(latents, batch.actions)
            state = state_loss(predicted, latents[:, 1:], latents[:, :-1], weight)
        losses = {'loss': state, 'state': state}
        hands = self._loss.hand_consistency
        if hands.weight:
            loss = self._hand_loss(predicted, batch, slice(1, last))
            losses['loss'] = losses['loss'] + hands.weight * loss
            losses['hand_consistency'] = loss
        if hands.true_latents_weight:
            loss = self._hand_loss(latents[:, -1:], batch, _LAST)
            losses['loss'] = losses['loss'] + hands.true_latents_weight * loss
            losses['hands_in_true_latents'] = loss
        things = self._loss.object_consistency
        if things.weight:
            loss = self._object_loss(predicted, batch, slice(1, last))
            losses['loss'] = losses['loss'] + things.weight * loss
            losses['object_consistency'] = loss
        if things.true_latents_weight:
            loss = self._object_loss(latents[:, -1:], batch, _LAST)
            losses['loss'] = losses['loss'] + things.true_latents_weight * loss
            losses['objects_in_true_latents'] = loss
        return losses

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """See `Task`."""
        latents = self._latents(batch)
        # Rollouts may be longer than the model's windows.
        known = latents[:, -self._longest :]
        ahead = known.shape[1] - 1
        window = self.model.predict_window(known, batch.actions[:, -ahead:])
        rollout = self.model.rollout(latents[:, :1], batch.actions[:, :0], batch.actions)[:, -1:]
        sums = {'windows': torch.tensor(float(len(batch)), device=latents.device)}
        for name, predicted, target, origin in (
            ('window', window, known[:, 1:], known[:, :-1]),
            ('rollout', rollout, latents[:, -1:], latents[:, :1]),
        ):
            sums[f'{name}_error'] = _mean_square(predicted, target) * len(batch)
            sums[f'{name}_persistence'] = _mean_square(origin, target) * len(batch)
        valid = self._valid(batch)
        for name, seen, frames in (
            ('window', window, slice(-ahead, None)),
            ('rollout', rollout, slice(-1, None)),
            ('encoder', latents[:, 1:], slice(1, None)),
        ):
            _, pixels, depths = self.model.keypoints(seen)
            off = (pixels - batch.keypoint_pixels[:, frames]).norm(dim=-1)[valid[:, frames]]
            if depths is not None:
                error = (depths - batch.keypoint_depths[:, frames]).abs()[valid[:, frames]]
                sums[f'{name}_depth'] = error.sum()
            sums[f'{name}_pixels'] = off.sum()
            sums[f'{name}_close'] = (off <= PCK_PIXELS).sum()
            sums[f'{name}_keypoints'] = torch.tensor(float(len(off)), device=off.device)
        if self._reads_objects:
            moved = batch.object_valid[:, -1] & self._moved(batch)[:, -1]
            truth = batch.object_pixels[:, -1]
            for name, seen in (('rollout', rollout[:, 0]), ('encoder', latents[:, -1])):
                off = (self._object_pixels(seen) - truth).norm(dim=-1)[moved]
                sums[f'{name}_object_pixels'] = off.sum()
            way = (batch.object_pixels[:, 0] - truth).norm(dim=-1)[moved]
            sums['objects_way'] = way.sum()
            sums['objects'] = torch.tensor(float(len(way)), device=way.device)
        return sums

    def summary(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Figures of one step (`window`) and of a rollout over the window (its last frame).

        `_mse` is the error of the latents, `_ratio` that over the error of "nothing moves",
        `_keypoint_px` the mean distance of visible keypoints, `_pck20` the share within 20 px,
        `_depth_m` the mean error of their depths;
        those of `encoder` are read from the true latents. With a loss of objects also
        `_object_px`, the mean distance of objects that moved within the window, and
        `still_object_px`, what it is if nothing moves.
        """
        figures = {}
        if count := sums.get('objects', 0.0):
            figures['still_object_px'] = sums['objects_way'] / count
            for name in ('rollout', 'encoder'):
                figures[f'{name}_object_px'] = sums[f'{name}_object_pixels'] / count
        for name in ('window', 'rollout', 'encoder'):
            if f'{name}_error' in sums:
                figures[f'{name}_mse'] = sums[f'{name}_error'] / sums['windows']
                figures[f'{name}_ratio'] = (
                    sums[f'{name}_error'] / sums[f'{name}_persistence']
                    if sums[f'{name}_persistence']
                    else float('nan')
                )
            if count := sums[f'{name}_keypoints']:
                figures[f'{name}_keypoint_px'] = sums[f'{name}_pixels'] / count
                figures[f'{name}_pck20'] = sums[f'{name}_close'] / count
                if f'{name}_depth' in sums:
                    figures[f'{name}_depth_m'] = sums[f'{name}_depth'] / count
        return figures

    def compiled(self) -> tuple[nn.Module, ...]:
        """See `Task`."""
        return self.model.predictor, self.model.keypoint_head

    def sharded(self) -> tuple[tuple[nn.Module, tuple[str, ...]], ...]:
        """See `Task`."""
        model = self.model
        heads = [head for head in (model.keypoint_head, model.object_head) if head is not None]
        return (
            *((block, ('step', 'keys_values')) for block in model.predictor.blocks),
            *((block, ()) for head in heads for block in head.blocks),
        )

    def checkpoint_activations(self) -> None:
        """See `Task`."""
        self.model.predictor.checkpoint_blocks = True

    def save(self, folder: Path) -> None:
        """Writes a checkpoint for `dexwm.model.checkpoint.load_checkpoint`."""
        save_checkpoint(self.model, folder)

    def _latents(self, batch: Batch) -> Tensor:
        if batch.latents is not None:
            return batch.latents
        assert batch.images is not None
        return self.model.encode(batch.images.flatten(0, 1)).unflatten(0, batch.images.shape[:2])

    def _valid(self, batch: Batch) -> Tensor:
        return batch.keypoint_valid & batch.keypoint_supervised[:, None, None]

    def _hand_loss(self, latents: Tensor, batch: Batch, frames: slice) -> Tensor:
        hands = self._loss.hand_consistency
        return hand_loss(
            self.model,
            latents,
            batch.keypoint_pixels[:, frames],
            self._valid(batch)[:, frames],
            batch.keypoint_depths[:, frames],
            hands.heatmaps,
            hands.depth_weight,
        )

    def _moved(self, batch: Batch) -> Tensor:
        """(B, F, K) which objects are away from where the window's first frame has them."""
        way = (batch.object_pixels - batch.object_pixels[:, :1]).norm(dim=-1)
        return batch.object_valid[:, :1] & (way > MOVED_PIXELS)

    def _object_pixels(self, latents: Tensor) -> Tensor:
        """Centres (..., K, 2) that the object head sees."""
        assert self.model.object_head is not None
        return soft_argmax(self.model.object_head(latents), self.model.config.heatmap_stride)

    def _object_loss(self, latents: Tensor, batch: Batch, frames: slice) -> Tensor:
        things = self._loss.object_consistency
        weight = 1 + things.moved_weight * self._moved(batch)[:, frames]
        pixels, valid = batch.object_pixels[:, frames], batch.object_valid[:, frames]
        return object_loss(self.model, latents, pixels, valid, weight, things.sigma)


def make_world_model(recipe: WorldModelRecipe) -> WorldModel:
    """The model that a recipe starts from; new weights are drawn from torch's generator.

    Raises:
        ValueError: If encoder, configuration or checkpoint cannot be had; the types are those
            of `dexwm.model`.
    """
    if recipe.start_from is not None:
        model = load_checkpoint(recipe.start_from)
        model.config = dataclasses.replace(model.config, name=recipe.name)
        return model
    assert recipe.encoder is not None and recipe.model is not None
    encoder = build_encoder(recipe.encoder.name, recipe.encoder.options)
    written = {'name': recipe.name, **recipe.model}
    return WorldModel(WorldModelConfig.for_encoder(written, encoder), encoder)


def _mean_square(predicted: Tensor, target: Tensor) -> Tensor:
    return (predicted.float() - target.float()).square().mean()
