"""Recordings of a made-up scene: a hand of dots pushes a disc along; another disc stands still."""

import cv2
import numpy as np

from dexwm.data.recording import RecordingInfo, RecordingWriter, recording_name
from dexwm.geometry.camera import CameraIntrinsics

CAMERA = CameraIntrinsics(96, 64, 60.0, 60.0, 47.5, 31.5)
DEPTH = 1.0
OBJECTS = ('can', 'box')
_COLOURS = {'can': (220, 40, 40), 'box': (40, 60, 220)}


def write_recording(folder, seed, frames=30, still=False):
    """Writes an episode; the base frame is the camera's, everything is at DEPTH."""
    rng = np.random.default_rng(seed)
    info = RecordingInfo(5.0, CAMERA, np.eye(4), seed, 'push', OBJECTS)
    hand = rng.uniform([-0.6, -0.3], [-0.4, 0.3])
    can = hand + [0.2, 0.0]
    box = rng.uniform([0.2, -0.4], [0.6, 0.4])
    with RecordingWriter(folder / recording_name(seed), info) as writer:
        for frame in range(frames):
            if frame > 0 and not still:
                hand = hand + [0.03, 0.0]
                can = np.array([max(can[0], hand[0] + 0.12), can[1]])
            keypoints = np.full((21, 3), DEPTH)
            keypoints[:, :2] = hand + 0.04 * np.stack(
                [np.cos(np.arange(21)), np.sin(np.arange(21))], -1
            )
            objects = np.array([[*can, DEPTH], [*box, DEPTH]])
            writer.add_frame(
                _picture(keypoints, objects),
                np.zeros(23),
                np.zeros(23),
                keypoints,
                objects,
                np.tile([0.0, 0.0, 0.0, 1.0], (2, 1)),
                [can[0] <= hand[0] + 0.121, False],
                [1.0, 1.0],
            )


def _picture(keypoints, objects):
    image = np.full((CAMERA.height, CAMERA.width, 3), 90, np.uint8)
    for name, centre in zip(OBJECTS, CAMERA.project(objects), strict=True):
        cv2.circle(image, centre.round().astype(int).tolist(), 5, _COLOURS[name], -1)
    for point in CAMERA.project(keypoints):
        cv2.circle(image, point.round().astype(int).tolist(), 2, (240, 240, 60), -1)
    return image
