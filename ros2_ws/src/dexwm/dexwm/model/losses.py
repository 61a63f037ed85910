"""What the predictor and the keypoint head are trained on (DexWM, sections 3.2 and 3.3)."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

HeatmapLoss = Literal['mse', 'cross_entropy']


class LossError(ValueError):
    """Raised for arrays that do not fit one another, or an unknown kind of loss."""


class RollsOut(Protocol):
    """What `rollout_loss` needs of a world model."""

    def rollout(self, latents: Tensor, past_actions: Tensor, actions: Tensor) -> Tensor:
        """See `dexwm.model.world_model.WorldModel.rollout`."""
        ...


def state_loss(
    predicted: Tensor,
    target: Tensor,
    previous: Tensor | None = None,
    changed_patch_weight: float = 0.0,
) -> Tensor:
    """Mean squared error of latents (paper, equation 4), perhaps more where something moves.

    With a `changed_patch_weight` w above 0 the patches of a frame are weighted: a share
    w / (1 + w) of the weight is dealt out in proportion to the mean squared change of each patch
    since the frame before, the rest evenly. In most pictures most patches do not change, and
    their error alone is small. The mean weight stays 1. The paper has w = 0.

    Args:
        predicted: (..., P, D).
        target: (..., P, D), true latents of the same frames.
        previous: (..., P, D) or what broadcasts to it, true latents of the frames before; needed
            where a weight is given.
        changed_patch_weight: w, not negative.

    Returns:
        The mean, a scalar.

    Raises:
        LossError: where shapes differ, or a weight comes without `previous` or is negative.
    """
    _check_same_shape(predicted, target)
    error = (predicted.float() - target.float()).square().mean(dim=-1)
    if changed_patch_weight == 0:
        return error.mean()
    if changed_patch_weight < 0 or previous is None:
        raise LossError(
            'changed_patch_weight must not be negative and needs `previous`, '
            f'got {changed_patch_weight} and {"none" if previous is None else "one"}'
        )
    change = (target.float() - previous.float()).square().mean(dim=-1)
    change = change / change.mean(dim=-1, keepdim=True).clamp(min=1e-12)
    weight = 1 + changed_patch_weight * change
    return (error * weight / weight.mean(dim=-1, keepdim=True)).mean()


def map_entropy(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """How far maps of logits are from drawn ones.

    Args:
        predicted: (..., K, rows, columns), logits of a point's cell.
        target: (..., K, rows, columns), from `gaussian_heatmaps`; normalised here.

    Returns:
        Cross-entropies (..., K) in nats, and which (..., K) of the drawn maps have any weight.
    """
    total = target.float().sum(dim=(-2, -1))
    log_p = torch.log_softmax(predicted.float().flatten(-2), dim=-1)
    each = -(target.float().flatten(-2) * log_p).sum(dim=-1) / total.clamp(min=1e-12)
    return each, total > 0


def hand_consistency_loss(
    predicted: Tensor, target: Tensor, valid: Tensor, kind: HeatmapLoss = 'mse'
) -> Tensor:
    """Loss of the heat maps of hand keypoints (paper, equation 5; its weight there is 100).

    Maps of invalid keypoints count as without error; they stay in the denominator, as in the
    paper's formula.

    Args:
        predicted: (..., K, rows, columns), from the keypoint head.
        target: (..., K, rows, columns), from `gaussian_heatmaps`.
        valid: (..., K), false or 0 for keypoints that are unknown or outside the picture.
        kind: 'mse', as in the paper; 'cross_entropy' takes the predicted map for logits of the
            keypoint's cell and the target, normalised, for its distribution (a target without
            any weight counts as invalid). It is in nats, so its weight should be near 0.1, not
            100. It learns faster.

    Returns:
        The mean over all maps, a scalar.

    Raises:
        LossError: where shapes differ or the kind is unknown.
    """
    _check_same_shape(predicted, target)
    if predicted.ndim < 3 or valid.shape != predicted.shape[:-2]:
        raise LossError(
            f'heat maps of shape {tuple(predicted.shape)} need valid of their shape without the '
            f'last two axes, got {tuple(valid.shape)}'
        )
    counted = valid.to(torch.bool)
    if kind == 'mse':
        each = (predicted.float() - target.float()).square().mean(dim=(-2, -1))
    elif kind == 'cross_entropy':
        each, drawn = map_entropy(predicted, target)
        counted = counted & drawn
    else:
        raise LossError(f'kind must be one of {", ".join(get_args(HeatmapLoss))}, got {kind!r}')
    return torch.where(counted, each, 0.0).mean()


def object_consistency_loss(
    predicted: Tensor, target: Tensor, valid: Tensor, weight: Tensor
) -> Tensor:
    """Loss of the heat maps of objects' centres: what equation 5 does for hands.

    Not in the paper. An object is a small part of the latents' squared error, so that a
    predictor that lets it lie where it was is hardly worse than one that moves it.

    Args:
        predicted: (..., K, rows, columns), logits of a centre's cell.
        target: (..., K, rows, columns), from `gaussian_heatmaps`.
        valid: (..., K), false for objects that are not there or outside the picture.
        weight: (..., K), how much each counts.

    Returns:
        The weighted mean over the valid ones in nats, a scalar; 0 where there is none.

    Raises:
        LossError: where shapes differ.
    """
    _check_same_shape(predicted, target)
    if predicted.ndim < 3 or not valid.shape == weight.shape == predicted.shape[:-2]:
        raise LossError(
            f'heat maps of shape {tuple(predicted.shape)} need valid and weight of their shape '
            f'without the last two axes, got {tuple(valid.shape)} and {tuple(weight.shape)}'
        )
    each, drawn = map_entropy(predicted, target)
    counted = weight * (valid.to(torch.bool) & drawn)
    return torch.where(counted > 0, counted * each, 0.0).sum() / counted.sum().clamp(min=1e-12)


def rollout_loss(
    model: RollsOut,
    latents: Tensor,
    actions: Tensor,
    steps: int,
    start_frames: int = 1,
    changed_patch_weight: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """State loss of a multistep prediction that goes on from its own predictions.

    Gradients go through all steps (paper, section 3.2 and appendix C.1).

    Args:
        model: predicts.
        latents: (B, F, P, D), true latents of a window, F at least start_frames + steps.
        actions: (B, F-1, A), between them.
        steps: frames to predict.
        start_frames: true frames to start from.
        changed_patch_weight: see `state_loss`; the change is from one true frame to the next.

    Returns:
        The loss, a scalar, and the predicted latents (B, steps, P, D) of frames start_frames and
        later, for the keypoint head.

    Raises:
        LossError: where the window is too short.
    """
    end = start_frames + steps
    if start_frames < 1 or steps < 1 or latents.shape[1] < end:
        raise LossError(
            f'{steps} steps from {start_frames} frames need a window of {end} frames, at least '
            f'one of each, got {latents.shape[1]}'
        )
    predicted = model.rollout(
        latents[:, :start_frames],
        actions[:, : start_frames - 1],
        actions[:, start_frames - 1 : end - 1],
    )
    loss = state_loss(
        predicted,
        latents[:, start_frames:end],
        latents[:, start_frames - 1 : end - 1],
        changed_patch_weight,
    )
    return loss, predicted


def _check_same_shape(predicted: Tensor, target: Tensor) -> None:
    if predicted.shape != target.shape:
        raise LossError(
            f'prediction and target must have one shape, got {tuple(predicted.shape)} and '
            f'{tuple(target.shape)}'
        )
