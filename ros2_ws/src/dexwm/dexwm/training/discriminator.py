"""Tells drawn pictures from real ones, for the decoder to learn from."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches of a picture by convolutions (Isola et al., 2017)."""

    def __init__(self, channels: int = 32, layers: int = 3) -> None:
        """Build it with random weights.

        Args:
            channels: Of the first layer, a multiple of 8; each next one has twice as many.
            layers: Convolutions that halve the picture.
        """
        super().__init__()
        parts: list[nn.Module] = []
        inputs = 3
        for i in range(layers):
            outputs = channels * 2**i
            parts.append(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1))
            if i:
                parts.append(nn.GroupNorm(8, outputs))
            parts.append(nn.LeakyReLU(0.2))
            inputs = outputs
        parts.append(nn.Conv2d(inputs, 1, 3, padding=1))
        self.layers = nn.Sequential(*parts)

    def forward(self, images: Tensor) -> Tensor:
        """Scores (B, 1, rows, columns) of pictures (B, 3, H, W) in [0, 1]; real ones high."""
        scores: Tensor = self.layers(2 * images - 1)
        return scores


def hinge_loss(real: Tensor, drawn: Tensor) -> Tensor:
    """The discriminator's loss: real scores are to pass 1, drawn ones to stay below -1.

    Args:
        real: Scores of real pictures.
        drawn: Scores of drawn ones.
    """
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + drawn).mean())
