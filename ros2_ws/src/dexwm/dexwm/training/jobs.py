"""What the training loop needs, as a recipe says."""

from __future__ import annotations

from dataclasses import dataclass

from dexwm.model.checkpoint import load_checkpoint
from dexwm.training.adapter_task import AdapterTask, make_adapter_encoder
from dexwm.training.decoder_task import DecoderTask, make_model_with_decoder
from dexwm.training.frame_batches import FrameBatches
from dexwm.training.heads_task import HeadsTask
from dexwm.training.recipe import AdapterRecipe, HeadsRecipe, Recipe, WorldModelRecipe
from dexwm.training.stream import BatchSource
from dexwm.training.task import Task
from dexwm.training.window_batches import WindowBatches
from dexwm.training.world_model_task import WorldModelTask, make_world_model


@dataclass(frozen=True)
class Job:
    """A task and its data.

    Attributes:
        task: What is trained.
        batches: On what.
    """

    task: Task
    batches: BatchSource


def make_job(recipe: Recipe) -> Job:
    """Makes models and opens data; new weights are drawn from torch's generator.

    Raises:
        ValueError: If a model or data cannot be had; the types are those of `dexwm.model` and
            `dexwm.data`.
    """
    if isinstance(recipe, WorldModelRecipe):
        model = make_world_model(recipe)
        windows = WindowBatches(recipe, model.encoder, model.config.action)
        task = WorldModelTask(model, recipe, windows.object_names)
        return Job(task, windows)
    if isinstance(recipe, AdapterRecipe):
        encoder = make_adapter_encoder(recipe)
        frames = FrameBatches(recipe, encoder.backbone)
        return Job(AdapterTask(encoder, recipe, frames.caches), frames)
    if isinstance(recipe, HeadsRecipe):
        model = load_checkpoint(recipe.start_from)
        frames = FrameBatches(recipe, model.encoder, model.config.objects, pictures=False)
        return Job(HeadsTask(model, recipe, frames.object_names), frames)
    decoded = make_model_with_decoder(recipe)
    frames = FrameBatches(recipe, decoded.encoder)
    return Job(DecoderTask(decoded, recipe), frames)
