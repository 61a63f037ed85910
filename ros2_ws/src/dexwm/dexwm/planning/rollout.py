"""What the world model says that candidates lead to."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from dexwm.model.world_model import WorldModel
from dexwm.planning.preset import Precision

CHUNK_BYTES = 2**28
"""Memory for the candidates that are predicted at a time where there is no GPU."""

GPU_CHUNK_BYTES = 2**31
"""The same on a GPU, a small one's quarter. It does not follow what is free: how many candidates
are computed together decides over the last bits of a plan."""


class Rollout(Protocol):
    """Predicts the frames that follow an observation."""

    def __call__(self, actions: Tensor) -> Tensor:
        """Latents (N, T, P, D) after each step of actions (N, T, A)."""
        ...


class CachedRollout:
    """Computes only the new frames.

    Keys and values of the observed frames are computed once and shared by all candidates, of
    all iterations.
    """

    def __init__(
        self,
        model: WorldModel,
        latents: Tensor,
        past_actions: Tensor,
        *,
        precision: Precision = 'float32',
        compiled: bool = False,
    ) -> None:
        """Prepares the observed frames.

        Args:
            model: in evaluation mode.
            latents: (S, P, D) of the observed frames, oldest first.
            past_actions: (S - 1, A), between them.
            precision: of the predictor's matrix products; its weights and what it predicts stay
                float32.
            compiled: has `torch.compile` make one program of the predictor's steps; the first
                call of a process takes a minute, and on a CPU a C++ compiler.

        Raises:
            PredictorError: where the shapes do not fit the model.
        """
        predictor = model.predictor
        self._autocast = torch.autocast(
            latents.device.type, torch.bfloat16, enabled=precision == 'bfloat16'
        )
        with torch.no_grad(), self._autocast:
            self._context = predictor.start(latents[None], past_actions[None])
        self._append, self._step = predictor.append, predictor.step
        if compiled:
            self._append, self._step = torch.compile(self._append), torch.compile(self._step)

    def __call__(self, actions: Tensor) -> Tensor:
        """Latents (N, T, P, D) after each step of actions (N, T, A)."""
        context = self._context
        with self._autocast:
            predicted = [self._step(context, actions[:, 0])]
            for t in range(1, actions.shape[1]):
                context = self._append(context, predicted[-1], actions[:, t - 1])
                predicted.append(self._step(context, actions[:, t]))
            return torch.stack(predicted, dim=1).float()


class NaiveRollout:
    """Computes everything for every candidate: what the cached form is compared with.

    Pictures are encoded, and at each step the whole window goes through the predictor in the form
    that training uses, which predicts the observed frames too.
    """

    def __init__(
        self,
        model: WorldModel,
        images: Tensor,
        past_actions: Tensor,
        *,
        encode_per_candidate: bool = True,
    ) -> None:
        """Takes what was observed.

        Args:
            model: in evaluation mode.
            images: (S, H, W, 3) uint8 RGB after preprocessing, oldest first.
            past_actions: (S - 1, A), between them.
            encode_per_candidate: false encodes the pictures once a call instead.
        """
        self._model, self._images, self._past = model, images, past_actions
        self._encode_per_candidate = encode_per_candidate

    def __call__(self, actions: Tensor) -> Tensor:
        """Latents (N, T, P, D) after each step of actions (N, T, A)."""
        count, steps = actions.shape[:2]
        seen = len(self._images)
        if self._encode_per_candidate:
            images = self._images.expand(count, *self._images.shape)
            frames = self._model.encode(images.flatten(0, 1)).unflatten(0, (count, seen))
        else:
            frames = self._model.encode(self._images).expand(count, -1, -1, -1)
        taken = torch.cat([self._past.expand(count, -1, -1), actions], dim=1)
        context = self._model.config.predictor.context
        for t in range(steps):
            # The frame to predict has a place in the window, but is not looked at.
            window = torch.cat([frames, torch.zeros_like(frames[:, :1])], dim=1)
            window = window[:, -(context + 1) :]
            told = taken[:, : seen + t][:, -(window.shape[1] - 1) :]
            new = self._model.predict_window(window, told)[:, -1:]
            frames = torch.cat([frames, new], dim=1)
        return frames[:, seen:]


def chunk_size(model: WorldModel, steps: int, device: torch.device) -> int:
    """How many candidates of so many steps to predict at a time: the same for the same model.

    As many as fit into `GPU_CHUNK_BYTES`, or `CHUNK_BYTES` where there is no GPU.
    """
    memory = GPU_CHUNK_BYTES if device.type == 'cuda' else CHUNK_BYTES
    return max(1, memory // bytes_per_candidate(model, steps))


def bytes_per_candidate(model: WorldModel, steps: int) -> int:
    """About how much memory the forward pass of a candidate takes, in float32.

    The largest activations of a block, what is kept of the steps, and the maps of the keypoint
    head.

    Args:
        model: that predicts.
        steps: of the candidate.
    """
    config, head = model.config.predictor, model.config.keypoint_head
    tokens = config.tokens
    hidden = round(config.mlp_ratio * config.dim)
    block = tokens * (8 * config.dim + 2 * hidden)
    kept = steps * tokens * (config.latent_dim + 2 * config.dim * config.depth)
    cells = tokens * (head.patch // head.stride) ** 2
    maps = steps * (24 * cells + 8 * tokens * head.dim)
    return 4 * (block + kept + maps)
