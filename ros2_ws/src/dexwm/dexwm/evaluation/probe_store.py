"""Probes of encoders, trained once and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dexwm.data.latent_cache import share_objects
from dexwm.evaluation.frames import EncodedFrames, encoder_device
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

_CHUNK = 256

KEYPOINT_NAMES = tuple(
    f'{side} {point}'
    for side in ('left', 'right')
    for point in ('wrist', 'thumb', 'index', 'middle', 'ring', 'little')
)
"""The 12 keypoints of the heat maps: wrists and fingertips."""


def obtain_probe(
    encoder: Encoder,
    train: Sequence[EncodedFrames],
    frames: int,
    training: ProbeTraining,
    folder: Path,
    progress: Callable[[int], None] | None = None,
) -> tuple[Probe, dict[str, Any]]:
    """The probe of an encoder, for hands and objects; read from a folder if it is there.

    Args:
        encoder: Whose latents it reads.
        train: Frames of the training split, of one data set or more.
        frames: How many of them all it learns from, at most; drawn with the training's seed.
        training: How it is trained.
        folder: Where probes are kept.
        progress: Called after every step of a training with the number of steps done.

    Returns:
        The probe, on the encoder's device, and what it was trained on, for the record.

    Raises:
        EvaluationError: If nothing is visible in the training frames, or the kept probe is
            damaged.
    """
    names = share_objects(data.cache for data in train)
    config = ProbeConfig(encoder.dim, encoder.grid, encoder.image_size, (*KEYPOINT_NAMES, *names))
    ends = np.cumsum([len(data.cache.table) for data in train])
    count = min(frames, int(ends[-1]))
    record = {
        'encoder': encoder.name,
        'encoder_digest': encoder.digest(),
        'train_data': [str(data.cache.folder) for data in train],
        'train_digests': [data.cache.table.digest() for data in train],
        'train_frames': count,
        'config': asdict(config),
        'training': asdict(training),
    }
    known_by = {name: value for name, value in record.items() if name != 'train_data'}
    key = hashlib.sha256(json.dumps(known_by, sort_keys=True).encode()).hexdigest()
    path = folder / f'{key[:16]}.safetensors'
    if path.exists():
        return load_probe(path).to(encoder_device(encoder)), record
    rng = np.random.default_rng(training.seed)
    rows = np.sort(rng.choice(int(ends[-1]), count, replace=False))
    probe = train_probe(config, _samples(train, ends, rows), training, progress)
    folder.mkdir(parents=True, exist_ok=True)
    save_probe(probe, path)
    return probe, record


def _samples(train: Sequence[EncodedFrames], ends: np.ndarray, rows: np.ndarray) -> ProbeSamples:
    """Some of all frames, numbered through the data sets, which end at ``ends``."""
    latents, pixels, visible = [], [], []
    for data, start, end in zip(train, (0, *ends[:-1]), ends, strict=True):
        own = rows[(rows >= start) & (rows < end)] - start
        for first in range(0, len(own), _CHUNK):
            batch = data.frames(own[first : first + _CHUNK])
            latents.append(batch.features.half())
            valid, points, _ = batch.keypoints(HEATMAP_KEYPOINTS)
            pixels.append(torch.cat([points, batch.object_pixels], 1))
            visible.append(torch.cat([valid, batch.object_valid], 1))
    device = train[0].device
    return ProbeSamples(
        torch.cat(latents), torch.cat(pixels).to(device), torch.cat(visible).to(device)
    )
