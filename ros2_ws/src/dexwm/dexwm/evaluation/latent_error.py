"""Distances between predicted and true latents."""

from __future__ import annotations

import torch
from torch import Tensor

from dexwm.evaluation.errors import EvaluationError


def latent_mae(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference per frame: what the paper's tables call the embedding's L2 error.

    Args:
        predicted: (..., P, D).
        truth: (..., P, D).

    Returns:
        (...), float32.

    Raises:
        EvaluationError: If the shapes differ.
    """
    return _difference(predicted, truth).abs().mean((-2, -1))


def latent_mse(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean squared difference per frame; arguments and result as of :func:`latent_mae`."""
    return _difference(predicted, truth).square().mean((-2, -1))


def _difference(predicted: Tensor, truth: Tensor) -> Tensor:
    if predicted.shape != truth.shape:
        raise EvaluationError(
            f'latents of shapes {tuple(predicted.shape)} and {tuple(truth.shape)} '
            'cannot be compared'
        )
    return predicted.to(torch.float32) - truth.to(torch.float32)
