"""Probes of encoders, trained once and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dexwm.evaluation.frames import EncodedFrames
from dexwm.evaluation.probe import (
    Probe,
    ProbeConfig,
    ProbeSamples,
    ProbeTraining,
    load_probe,
    save_probe,
    train_probe,
)
from dexwm.geometry.heatmaps import HEATMAP_KEYPOINTS
from dexwm.model.encoders.encoder import Encoder

KEYPOINT_NAMES = tuple(
    f'{side} {point}'
    for side in ('left', 'right')
    for point in ('wrist', 'thumb', 'index', 'middle', 'ring', 'little')
)
"""The 12 keypoints of the heat maps: wrists and fingertips."""


def obtain_probe(
    encoder: Encoder,
    train: EncodedFrames,
    frames: int,
    training: ProbeTraining,
    folder: Path,
    progress: Callable[[int], None] | None = None,
) -> tuple[Probe, dict[str, Any]]:
    """The probe of an encoder, for hands and objects; read from a folder if it is there.

    Args:
        encoder: Whose latents it reads.
        train: Frames of the training split.
        frames: How many of them it learns from, at most; drawn with the training's seed.
        training: How it is trained.
        folder: Where probes are kept.
        progress: Called after every step of a training with the number of steps done.

    Returns:
        The probe, on the encoder's device, and what it was trained on, for the record.

    Raises:
        EvaluationError: If nothing is visible in the training frames, or the kept probe is
            damaged.
    """
    table = train.cache.table
    config = ProbeConfig(
        encoder.dim, encoder.grid, encoder.image_size, (*KEYPOINT_NAMES, *table.object_names)
    )
    count = min(frames, len(table))
    record = {
        'encoder': encoder.name,
        'encoder_digest': encoder.digest(),
        'train_data': str(train.cache.folder),
        'train_digest': table.digest(),
        'train_frames': count,
        'config': asdict(config),
        'training': asdict(training),
    }
    known_by = {name: value for name, value in record.items() if name != 'train_data'}
    key = hashlib.sha256(json.dumps(known_by, sort_keys=True).encode()).hexdigest()
    path = folder / f'{key[:16]}.safetensors'
    if path.exists():
        return load_probe(path).to(train.device), record
    rng = np.random.default_rng(training.seed)
    rows = np.sort(rng.choice(len(table), count, replace=False))
    probe = train_probe(config, _samples(train, rows), training, progress)
    folder.mkdir(parents=True, exist_ok=True)
    save_probe(probe, path)
    return probe, record


def _samples(train: EncodedFrames, rows: np.ndarray) -> ProbeSamples:
    latents = torch.cat([train.latents(part).half() for part in np.array_split(rows, 64)])
    truth = train.cache.frames(rows)
    keypoints = list(HEATMAP_KEYPOINTS)
    pixels = torch.cat([truth.keypoint_pixels[:, keypoints], truth.object_pixels], 1)
    supervised = truth.keypoint_supervised[:, None]
    visible = torch.cat([truth.keypoint_valid[:, keypoints] & supervised, truth.object_valid], 1)
    return ProbeSamples(latents, pixels.to(train.device), visible.to(train.device))
