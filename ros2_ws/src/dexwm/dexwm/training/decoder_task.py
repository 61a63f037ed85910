"""Training of a world model's decoder on latents that are encoded already."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from dexwm.data.batch import FrameBatch
from dexwm.model.checkpoint import load_checkpoint, save_checkpoint
from dexwm.model.decoder import Decoder, DecoderConfig
from dexwm.model.encoders.efficientnet_lite import EfficientNetLite
from dexwm.model.encoders.registry import build_encoder
from dexwm.model.world_model import WorldModel
from dexwm.training.decoder import DecoderObjective
from dexwm.training.discriminator import PatchDiscriminator
from dexwm.training.perceptual import EfficientNetDistance, LpipsVgg16, PerceptualDistance
from dexwm.training.recipe import DecoderRecipe, Phase
from dexwm.training.task import Task


class DecoderTask(Task):
    """A decoder, with its discriminator where the recipe has one; the latter is not kept.

    Attributes:
        model: The world model with the decoder; the rest of it stays as it is.
    """

    def __init__(self, model: WorldModel, recipe: DecoderRecipe) -> None:
        """Puts the losses together.

        Args:
            model: Has a decoder.
            recipe: Says what it is trained on.

        Raises:
            WeightsNotFoundError: If the perceptual loss's weights are not on this machine.
        """
        super().__init__()
        # Not a part of the task: only the decoder is trained.
        self._model = (model,)
        objective = recipe.objective
        discriminator = None
        if objective.adversarial_weight:
            discriminator = PatchDiscriminator()
            self.turns = ('model', 'discriminator')
        decoder = model.decoder
        assert decoder is not None
        perceptual = _perceptual(recipe) if objective.perceptual_weight else None
        if perceptual is not None:
            perceptual.requires_grad_(False)
        decoder.requires_grad_(True)
        self.objective = DecoderObjective(decoder, objective, perceptual, discriminator)

    def trained(self, turn: str) -> nn.Module:
        """See `Task`."""
        if turn == 'model':
            return self.objective.decoder
        assert self.objective.discriminator is not None
        return self.objective.discriminator

    def forward(self, batch: FrameBatch, phase: Phase, turn: str) -> dict[str, Tensor]:
        """See `Task`."""
        if turn == 'discriminator':
            return self.objective.discriminator_losses(batch)
        losses: dict[str, Tensor] = self.objective(batch)
        return losses

    def validate(self, batch: FrameBatch) -> dict[str, Tensor]:
        """See `Task`."""
        return self.objective.errors(batch)

    def summary(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Mean absolute error of pixels from 0 to 1, and the peak signal-to-noise ratio (dB)."""
        mse = sums['square'] / sums['pictures']
        return {'l1': sums['l1'] / sums['pictures'], 'psnr_db': -10.0 * math.log10(mse)}

    def compiled(self) -> tuple[nn.Module, ...]:
        """See `Task`."""
        return (self.objective.decoder,)

    def save(self, folder: Path) -> None:
        """Writes the world model with its decoder."""
        (model,) = self._model
        save_checkpoint(model, folder)


def make_model_with_decoder(recipe: DecoderRecipe) -> WorldModel:
    """The world model that a recipe starts from, with a new decoder in place of any old one.

    Raises:
        CheckpointError: If the model cannot be loaded.
        DecoderError: If the decoder's sizes do not fit.
    """
    model = load_checkpoint(recipe.start_from)
    config = DecoderConfig(
        latent_dim=model.config.predictor.latent_dim,
        grid=model.config.keypoint_head.grid,
        **recipe.decoder.model_dump(),
    )
    model.config = dataclasses.replace(model.config, decoder=config)
    model.decoder = Decoder(config)
    return model


def _perceptual(recipe: DecoderRecipe) -> PerceptualDistance:
    lpips = recipe.lpips
    if lpips is not None:
        return LpipsVgg16(lpips.vgg, lpips.linear)
    network = build_encoder('efficientnet_lite0', {})
    assert isinstance(network, EfficientNetLite)
    return EfficientNetDistance(network)
