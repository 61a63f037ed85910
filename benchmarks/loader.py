"""Loading: frames a second from a cache and from pictures, against what training takes.

The cache holds EfficientNet-Lite0's features (84 tokens of 768), larger than any latents that the
small models are trained on; its files are in memory, as they are after a first pass over the data.
Pictures are decoded, resized and cropped to 224x392 for encoders that run while training. Both in
one process. The demand is that of the smallest predictor on the same device, from latents of 128
numbers.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks import training
from benchmarks.measurement import Goal, Measurement, Settings
from dexwm.data.actions import ActionOptions
from dexwm.data.latent_cache import LatentCache
from dexwm.data.loader import WindowLoader
from dexwm.data.recording import RecordingDataset, RecordingInfo, RecordingWriter, recording_name
from dexwm.data.window_source import CachedWindows, ImageWindows, WindowSource
from dexwm.data.windows import WindowSampler
from dexwm.geometry.camera import CameraIntrinsics
from dexwm.model.encoders.registry import build_encoder

SECONDS = 5.0
BATCH = 16
EPISODES, LENGTH = 2, 40
HEIGHT, WIDTH = 224, 392


def run(settings: Settings) -> list[Measurement]:
    """Measures."""
    seconds = settings.seconds or SECONDS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in range(1, EPISODES + 1):
            _write(folder, seed)
        dataset = RecordingDataset(folder)
        encoder = build_encoder('efficientnet_lite0', {})
        settings.console.print(f'  encoding {EPISODES * LENGTH} pictures')
        begin = time.perf_counter()
        cache = LatentCache.build(dataset, encoder, folder / 'cache')
        encoding = EPISODES * LENGTH / (time.perf_counter() - begin)
        settings.console.print(f'  {seconds:g} s each')
        cached = _frames_per_second(CachedWindows(cache), seconds)
        pictures = _frames_per_second(ImageWindows(dataset, (HEIGHT, WIDTH)), seconds)
    demand = training.smallest_demand(seconds)
    return [
        Measurement('encoding, EfficientNet-Lite0', encoding, 'frames/s'),
        Measurement('from a cache', cached, 'frames/s'),
        Measurement('from pictures', pictures, 'frames/s'),
        Measurement('training takes', demand, 'frames/s'),
        Measurement('cache over demand', cached / demand, 'x', Goal(2)),
    ]


def _frames_per_second(source: WindowSource, seconds: float) -> float:
    sampler = WindowSampler()
    loader: Iterator[object] = WindowLoader(
        [source], [1.0], sampler, ActionOptions(absolute=True), BATCH, seed=0
    )
    next(loader)
    batches, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        next(loader)
        batches += 1
    return batches * BATCH * sampler.frames / (time.perf_counter() - begin)


def _write(folder: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), (0, 0), 3)
    camera = CameraIntrinsics(WIDTH, HEIGHT, 300.0, 300.0, 195.5, 111.5)
    T_base_from_camera = np.eye(4)
    info = RecordingInfo(5.0, camera, T_base_from_camera, seed, 'benchmark', ())
    with RecordingWriter(folder / recording_name(seed), info) as writer:
        for index in range(LENGTH):
            keypoints = rng.normal(0, 0.1, (21, 3)) + [0.0, 0.0, 1.0]
            writer.add_frame(
                np.roll(picture, 3 * index, axis=1), np.zeros(23), np.zeros(23), keypoints
            )
