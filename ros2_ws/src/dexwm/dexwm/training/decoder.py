"""What the decoder is trained on, in the manner of RAE (Zheng et al., 2025).

The sum of the absolute error of pixels, a perceptual distance, and an adversarial loss whose
weight is balanced against the other two; each can be left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dexwm.data.batch import FrameBatch
from dexwm.model.decoder import Decoder
from dexwm.training.discriminator import PatchDiscriminator, hinge_loss
from dexwm.training.objective import ObjectiveError
from dexwm.training.perceptual import PerceptualDistance


@dataclass(frozen=True)
class DecoderObjectiveConfig:
    """How much each loss counts; a weight of 0 is without it.

    Attributes:
        l1_weight: Of the mean absolute error, pixels being from 0 to 1.
        perceptual_weight: Of the perceptual distance.
        adversarial_weight: Of the adversarial loss, after it is balanced.
        balance_limit: Largest factor of the balancing.
        latent_noise: Largest standard deviation of the noise on latents; each sample draws its
            own between 0 and this. Prepares the decoder for latents that are predicted.

    Raises:
        ObjectiveError: A value is negative, or there is no loss but the adversarial.
    """

    l1_weight: float = 1.0
    perceptual_weight: float = 1.0
    adversarial_weight: float = 0.0
    balance_limit: float = 1e4
    latent_noise: float = 0.0

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 0:
            raise ObjectiveError('weights, limit and noise must not be negative')
        if not self.l1_weight + self.perceptual_weight:
            raise ObjectiveError('l1_weight and perceptual_weight must not both be 0')


class DecoderObjective(nn.Module):
    """Losses of a decoder and of the discriminator that it is trained against.

    Noise is drawn from torch's global generator, in training mode only.

    Attributes:
        decoder: What is trained.
        discriminator: Trained in turn; None without adversarial loss.
        perceptual: Frozen; None without perceptual loss.
        config: What counts.
    """

    def __init__(
        self,
        decoder: Decoder,
        config: DecoderObjectiveConfig,
        perceptual: PerceptualDistance | None = None,
        discriminator: PatchDiscriminator | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            decoder: With its initial weights.
            config: What counts.
            perceptual: Needed for, and only for, a perceptual loss.
            discriminator: Needed for, and only for, an adversarial one.

        Raises:
            ObjectiveError: A part is missing or not used.
        """
        super().__init__()
        for name, weight, part in (
            ('perceptual', config.perceptual_weight, perceptual),
            ('discriminator', config.adversarial_weight, discriminator),
        ):
            if (weight > 0) != (part is not None):
                raise ObjectiveError(
                    f'with a weight of {weight}, {name} must {"" if weight else "not "}be given'
                )
        self.decoder = decoder
        self.discriminator = discriminator
        self.perceptual = perceptual
        self.config = config

    def forward(self, batch: FrameBatch) -> dict[str, Tensor]:
        """The decoder's losses.

        Args:
            batch: Latents of the decoder's encoder (`features`), and pictures of its size.

        Returns:
            Means by name without their weights ('l1', 'perceptual', 'adversarial'; none of
            weight 0), the factor that balances the last ('balance'), and 'loss'.

        Raises:
            ObjectiveError: The batch has no pictures, or of another size.
        """
        config = self.config
        real, drawn = self._pictures(batch), self._draw(batch)
        losses = {}
        reconstruction = torch.zeros((), device=real.device)
        if config.l1_weight:
            losses['l1'] = (drawn - real).abs().mean()
            reconstruction = reconstruction + config.l1_weight * losses['l1']
        if self.perceptual is not None:
            losses['perceptual'] = self.perceptual(drawn, real).mean()
            reconstruction = reconstruction + config.perceptual_weight * losses['perceptual']
        losses['loss'] = reconstruction
        if self.discriminator is not None:
            adversarial = -self.discriminator(drawn).mean()
            balance = self._balance(reconstruction, adversarial)
            losses |= {'adversarial': adversarial, 'balance': balance}
            losses['loss'] = reconstruction + config.adversarial_weight * balance * adversarial
        return losses

    def discriminator_losses(self, batch: FrameBatch) -> dict[str, Tensor]:
        """The discriminator's loss ('loss', and 'discriminator' for the records).

        Args:
            batch: As in `forward`.

        Raises:
            ObjectiveError: As in `forward`, or there is no discriminator.
        """
        if self.discriminator is None:
            raise ObjectiveError('there is no discriminator: adversarial_weight is 0')
        with torch.no_grad():
            drawn = self._draw(batch)
        loss = hinge_loss(self.discriminator(self._pictures(batch)), self.discriminator(drawn))
        return {'loss': loss, 'discriminator': loss}

    @torch.no_grad()
    def errors(self, batch: FrameBatch) -> dict[str, Tensor]:
        """Sums over a batch: 'l1' and 'square' (means of a picture), and 'pictures'.

        Raises:
            ObjectiveError: As in `forward`.
        """
        difference = (self._draw(batch) - self._pictures(batch)).flatten(1)
        return {
            'l1': difference.abs().mean(1).sum(),
            'square': difference.square().mean(1).sum(),
            'pictures': torch.tensor(len(difference), device=difference.device),
        }

    def _pictures(self, batch: FrameBatch) -> Tensor:
        rows, columns = self.decoder.config.image_size
        expected = (len(batch.features), rows, columns, 3)
        if batch.pictures is None or tuple(batch.pictures.shape) != expected:
            found = 'none' if batch.pictures is None else tuple(batch.pictures.shape)
            raise ObjectiveError(
                f'the decoder draws {rows}x{columns}: it needs pictures {expected}, the cache has '
                f'{found}; encode with --pictures {rows}x{columns}'
            )
        return batch.pictures.permute(0, 3, 1, 2).float() / 255

    def _draw(self, batch: FrameBatch) -> Tensor:
        latents = batch.features.float()
        if self.training and self.config.latent_noise:
            level = torch.rand(len(latents), 1, 1, device=latents.device)
            latents = latents + self.config.latent_noise * level * torch.randn_like(latents)
        images: Tensor = self.decoder(latents)
        return images.float()

    def _balance(self, reconstruction: Tensor, adversarial: Tensor) -> Tensor:
        """How much stronger the reconstruction pulls at the last layer (VQGAN, equation 7)."""
        if not torch.is_grad_enabled():
            return torch.ones_like(adversarial)
        weight = self.decoder.last_layer
        strong, weak = (
            torch.autograd.grad(loss, weight, retain_graph=True)[0].norm()
            for loss in (reconstruction, adversarial)
        )
        return (strong / (weak + 1e-6)).clamp(max=self.config.balance_limit).detach()
