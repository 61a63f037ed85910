"""Open loop: how far models see from one frame, told what is done (DexWM, section 4.4)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dexwm.data.windows import evaluation_windows
from dexwm.evaluation.errors import EvaluationError
from dexwm.evaluation.figures import (
    Readings,
    Truth,
    compute_figures,
    keypoint_figures,
)
from dexwm.evaluation.forecast import ModelForecast, Start
from dexwm.evaluation.frames import EncodedFrames
from dexwm.evaluation.latent_error import latent_mae, latent_mse
from dexwm.evaluation.probe import Probe
from dexwm.evaluation.probe_store import KEYPOINT_NAMES
from dexwm.evaluation.report import Entry, HeadFigures
from dexwm.geometry.heatmaps import HEATMAP_KEYPOINTS
from dexwm.model.world_model import WorldModel

Decode = Literal['soft', 'hard']
"""How a model's own heat maps become keypoints."""


@dataclass(frozen=True)
class OpenLoopConfig:
    """What is predicted.

    Attributes:
        steps: Predicted frames of a window.
        seconds: Time from the observed frame to the last predicted one.
        windows_per_episode: Windows drawn from each held-out episode.
        seed: Of the windows.
        start: How the observed frame is given to a model.
        decode: How a model's own heat maps become keypoints.
        batch: Windows at once.
    """

    steps: int = 20
    seconds: float = 4.0
    windows_per_episode: int = 3
    seed: int = 0
    start: Start = 'single'
    decode: Decode = 'soft'
    batch: int = 8

    def __post_init__(self) -> None:
        if min(self.steps, self.windows_per_episode, self.batch) < 1 or self.seconds <= 0:
            raise EvaluationError(f'counts and times must be positive, got {self}')
        if self.decode not in get_args(Decode):
            raise EvaluationError(
                f'unknown decoding {self.decode!r}; there are {", ".join(get_args(Decode))}'
            )


@dataclass(frozen=True)
class OpenLoopWindows:
    """Held-out windows and what happened in them.

    Attributes:
        episodes: (N,) numbers of episodes in the cache.
        frame_indices: (N, T + 1) their frames.
        truth: What happened.
    """

    episodes: NDArray[np.int64]
    frame_indices: NDArray[np.int64]
    truth: Truth

    def digest(self) -> str:
        """SHA-256 of episodes and frames."""
        whole = np.column_stack([self.episodes, self.frame_indices]).astype('<i8')
        return hashlib.sha256(whole.tobytes()).hexdigest()


def draw_windows(held_out: EncodedFrames, config: OpenLoopConfig) -> OpenLoopWindows:
    """Draws the windows: the same for every model and every encoder of the same data.

    Raises:
        DatasetError: If no episode is long enough.
    """
    cache = held_out.cache
    episodes, frames = evaluation_windows(
        cache.lengths,
        cache.fps,
        seed=config.seed,
        frames=config.steps + 1,
        seconds=config.seconds,
        per_episode=config.windows_per_episode,
    )
    rows, table = cache.rows(episodes, frames), cache.table
    keypoints = list(HEATMAP_KEYPOINTS)
    supervised = np.array([cache.episodes[i].keypoints_supervised for i in episodes])
    visible = table.keypoint_visible[rows][:, :, keypoints]
    truth = Truth(
        episode=episodes,
        times=np.arange(1, config.steps + 1) * config.seconds / config.steps,
        keypoint_pixels=table.keypoint_pixels[rows][:, :, keypoints],
        keypoint_visible=visible & supervised[:, None, None],
        object_names=table.object_names,
        object_pixels=table.object_pixels[rows],
        object_visible=table.object_visible[rows],
        object_contact=table.object_contact[rows],
    )
    return OpenLoopWindows(episodes, frames, truth)


def evaluate_models(
    models: Mapping[str, WorldModel],
    held_out: EncodedFrames,
    windows: OpenLoopWindows,
    probe: Probe,
    config: OpenLoopConfig,
    progress: Callable[[int], None] | None = None,
) -> list[Entry]:
    """Evaluates models that have the same encoder, and its two baselines.

    Args:
        models: Models by name, on the device of the frames.
        held_out: Frames with their encoder's latents.
        windows: Which of them.
        probe: Of their encoder.
        config: How.
        progress: Called after every batch with the number of windows done.

    Returns:
        Persistence, the encoder on the true frame, then each model.

    Raises:
        EvaluationError: If a model's prediction is not finite.
    """
    still, true = _Reader(probe), _Reader(probe)
    forecasts = {name: ModelForecast(model, config.start) for name, model in models.items()}
    predicted = {name: _Reader(probe) for name in models}
    heads = {
        name: (_HeadReader(model, config.decode), _HeadReader(model, config.decode))
        for name, model in models.items()
    }
    count = len(windows.episodes)
    for start in range(0, count, config.batch):
        part = slice(start, start + config.batch)
        episodes, frames = windows.episodes[part], windows.frame_indices[part]
        latents = held_out.latents(held_out.cache.rows(episodes, frames))
        later = latents[:, 1:]
        still.add(latents[:, :1].expand_as(later), later)
        true.add(later, later)
        for name, model in models.items():
            batch = held_out.actions(episodes, frames, model.config.action)
            prediction = forecasts[name](latents[:, 0], batch)
            if not prediction.isfinite().all():
                raise EvaluationError(
                    f'{name} predicts numbers that are not finite, first in the window that '
                    f'begins at frame {frames[0, 0]} of episode {episodes[0]} or the '
                    f'{len(episodes) - 1} after it'
                )
            predicted[name].add(prediction, later)
            for reader, seen in zip(heads[name], (prediction, later), strict=True):
                reader.add(seen)
        if progress is not None:
            progress(min(start + config.batch, count))
    truth, stays = windows.truth, still.readings()
    entries = [
        Entry('persistence', 'persistence', {}, compute_figures(truth, stays, stays), None),
        Entry(
            'true frame', 'true frame', {}, compute_figures(truth, true.readings(), stays), None
        ),
    ]
    for name in models:
        figures = compute_figures(truth, predicted[name].readings(), stays)
        predicted_head, true_head = (
            keypoint_figures(truth, reader.keypoints()) for reader in heads[name]
        )
        entries.append(Entry(name, 'model', {}, figures, HeadFigures(predicted_head, true_head)))
    return entries


class _Reader:
    """Collects what the probe reads out of latents, batch after batch."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    @torch.no_grad()
    def add(self, predicted: Tensor, truth: Tensor) -> None:
        """Takes latents (B, T, P, D)."""
        errors = latent_mae(predicted, truth), latent_mse(predicted, truth)
        points = torch.stack([self._probe.pixels(frame) for frame in predicted.unbind(1)], 1)
        self._parts.append((errors[0].cpu(), errors[1].cpu(), points.cpu()))

    def readings(self) -> Readings:
        mae, mse, points = (torch.cat(part).numpy() for part in zip(*self._parts, strict=True))
        hands = len(KEYPOINT_NAMES)
        return Readings(mae, mse, points[:, :, :hands], points[:, :, hands:])


class _HeadReader:
    """Collects the keypoints that a model's own head reads out of latents."""

    def __init__(self, model: WorldModel, decode: Decode) -> None:
        self._model = model
        self._decode = decode
        self._parts: list[Tensor] = []

    @torch.no_grad()
    def add(self, latents: Tensor) -> None:
        """Takes latents (B, T, P, D)."""
        points = [
            self._model.keypoint_pixels(frame, decode=self._decode) for frame in latents.unbind(1)
        ]
        self._parts.append(torch.stack(points, 1).cpu())

    def keypoints(self) -> NDArray[np.float32]:
        return torch.cat(self._parts).numpy()
