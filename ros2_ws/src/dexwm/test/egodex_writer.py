"""Writes tiny EgoDex episodes: a hand that moves under a camera that moves."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from scipy.spatial.transform import Rotation

from .video_writer import numbered_picture, write_video

WIDTH, HEIGHT = 480, 270
SCALE = WIDTH / 1920
K = np.array([[736.6339, 0, 960], [0, 736.6339, 540], [0, 0, 1 / SCALE]]) * SCALE
FPS = 30

_BODY = (
    ['hip']
    + [f'spine{i}' for i in range(1, 8)]
    + [f'neck{i}' for i in range(1, 5)]
    + [f'{side}{part}' for side in ('left', 'right') for part in ('Shoulder', 'Arm', 'Forearm')]
)
_THUMB_PARTS = ('Knuckle', 'IntermediateBase', 'IntermediateTip', 'Tip')


def hand_joints(side: str) -> list[str]:
    """All 25 joints of a hand as EgoDex names them."""
    names = [f'{side}Hand'] + [f'{side}Thumb{part}' for part in _THUMB_PARTS]
    for finger in ('Index', 'Middle', 'Ring', 'Little'):
        names += [f'{side}{finger}Finger{part}' for part in ('Metacarpal', *_THUMB_PARTS)]
    return names


JOINTS = (*_BODY, *hand_joints('left'), *hand_joints('right'))


@dataclass
class EgoDexTruth:
    """What was written: joints (T, 4, 4) by name, and where they are in the video.

    Pixels are the file's own: the corner of the first pixel is (0, 0).
    """

    transforms: dict[str, np.ndarray]

    def pixels(self, joint: str) -> np.ndarray:
        """(T, 2) column and row of a joint."""
        camera = self.transforms['camera'].astype(np.float64)
        point = self.transforms[joint][:, :3, 3].astype(np.float64) - camera[:, :3, 3]
        x, y, z = np.einsum('tji,tj->it', camera[:, :3, :3], point)
        return np.stack([K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]], axis=-1)


def make_truth(frames: int, seed: int) -> EgoDexTruth:
    rng = np.random.default_rng(seed)
    time = np.arange(frames) / FPS
    camera = np.tile(np.eye(4), (frames, 1, 1))
    # Looks along the session's -z, held level: y down is the session's -y.
    sway = np.stack([0.1 * np.sin(time), 0.05 * time, 0.03 * np.cos(2 * time)], axis=-1)
    look = Rotation.from_euler('x', np.pi) * Rotation.from_euler('xyz', sway)
    camera[:, :3, :3] = look.as_matrix()
    camera[:, :3, 3] = [0.2, 1.5, -0.1] + 0.05 * sway
    transforms = {'camera': camera.astype(np.float32)}
    # Enough of a hand to be told apart: every joint at its own place around its wrist.
    for name in JOINTS:
        side = -0.15 if name.startswith('left') else 0.15
        place = np.array([side, -0.05, 0.5]) + rng.uniform(-0.06, 0.06, 3)
        path = place + 0.08 * np.stack([np.sin(2 * time), np.cos(3 * time), time / 9], axis=-1)
        T = np.tile(np.eye(4), (frames, 1, 1))
        T[:, :3, :3] = Rotation.random(rng=rng).as_matrix()
        T[:, :3, 3] = np.einsum('ij,tj->ti', camera[0, :3, :3], path) + camera[0, :3, 3]
        transforms[name] = T.astype(np.float32)
    return EgoDexTruth(transforms)


def draw(truth: EgoDexTruth, joint: str, frames: int) -> np.ndarray:
    """Numbered pictures with a white spot where a joint is."""
    pictures = []
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    for i, (u, v) in enumerate(truth.pixels(joint)[:frames]):
        spot = np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * 3.0**2))[..., None]
        grey = numbered_picture(i, HEIGHT, WIDTH)
        pictures.append((grey + spot * (255.0 - grey)).round().astype(np.uint8))
    return np.array(pictures)


def write_episode(
    path: Path,
    frames: int = 45,
    seed: int = 0,
    video_frames: int | None = None,
    confidences: dict[str, np.ndarray] | None = None,
    spot: str = 'rightIndexFingerTip',
) -> EgoDexTruth:
    """Writes `path` (.hdf5) and the video beside it.

    Args:
        path: the HDF5 file; its folder is made.
        frames: rows of poses.
        seed: of the hand's shape.
        video_frames: pictures, where not as many as rows.
        confidences: (frames,) of some joints, 1 for all others; None leaves out the group.
        spot: the joint that the video shows.
    """
    truth = make_truth(frames, seed)
    shown = make_truth(frames if video_frames is None else video_frames, seed)
    write_video(path.with_suffix('.mp4'), draw(shown, spot, len(shown.transforms['camera'])), FPS)
    with h5py.File(path, 'w') as file:
        file['camera/intrinsic'] = K.astype(np.float32)
        for name, transforms in truth.transforms.items():
            file[f'transforms/{name}'] = transforms
        if confidences is not None:
            for name in JOINTS:
                values = confidences.get(name, np.ones(frames))
                file[f'confidences/{name}'] = values.astype(np.float32)
        file.attrs['task'] = path.parent.name
        file.attrs['llm_type'] = 'reversible'
        file.attrs['which_llm_description'] = '1'
        file.attrs['llm_description'] = 'Lift the cup.'
        file.attrs['llm_description2'] = 'Put the cup down.'
    return truth
