"""Small recordings of a hand that sweeps before a camera, for tests."""

import cv2
import numpy as np

from dexwm.data.recording import RecordingInfo, RecordingWriter, recording_name
from dexwm.geometry.camera import CameraIntrinsics

CAMERA = CameraIntrinsics(96, 64, 80.0, 80.0, 47.5, 31.5)
# The camera looks along the base's x axis.
T_BASE_FROM_CAMERA = np.array(
    [[0, 0, 1, 0.1], [-1, 0, 0, 0.2], [0, -1, 0, 0.3], [0, 0, 0, 1]], dtype=float
)
IMAGE_SIZE = (64, 96)


def write_recording(folder, seed, frames=12, names=('mug', 'can'), fps=5.0):
    """Write one; the wrist moves along a line drawn from the seed, an object follows it."""
    rng = np.random.default_rng(seed)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (64, 96, 3), np.uint8), (0, 0), 2)
    start = np.array([1.1, 0.2, 0.3]) + rng.normal(0, 0.05, 3)
    hand = rng.normal(0, 0.03, (21, 3))
    step = rng.normal(0, 0.01, 3)
    info = RecordingInfo(fps, CAMERA, T_BASE_FROM_CAMERA, seed, 'sweep', tuple(names))
    path = folder / recording_name(seed)
    with RecordingWriter(path, info) as writer:
        for i in range(frames):
            wrist = start + i * step
            writer.add_frame(
                np.roll(picture, 2 * i, axis=1),
                rng.normal(size=23),
                rng.normal(size=23),
                wrist + hand,
                np.stack([wrist + [0, 0, 0.05 * k] for k in range(len(names))])
                if names
                else np.zeros((0, 3)),
                np.tile([0.0, 0.0, 0.0, 1.0], (len(names), 1)),
                [i % 2 == k % 2 for k in range(len(names))],
                np.ones(len(names)),
            )
    return path
