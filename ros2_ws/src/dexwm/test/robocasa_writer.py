"""Writes tiny RoboCasa files in robomimic's layout, with an Allegro hand."""

import json
from pathlib import Path

import h5py
import numpy as np
from scipy.spatial.transform import Rotation

from .video_writer import numbered_picture

WIDTH, HEIGHT = 96, 60


def hand_in_world(frames: int, demo: int) -> dict[str, np.ndarray]:
    """A moving hand: the palm's pose (T, 4, 4) and, by finger, four sites (T, 4, 3)."""
    time = np.arange(frames)[:, None] / 20
    palm = np.tile(np.eye(4), (frames, 1, 1))
    palm[:, :3, :3] = Rotation.from_euler('z', 0.3 * time).as_matrix()
    palm[:, :3, 3] = [2.6, -1.1 + 0.01 * demo, 1.1] + time * [0.1, 0.05, -0.02]
    hand = {'palm': palm}
    for number, finger in enumerate(('index', 'middle', 'ring', 'thumb')):
        along = np.stack([0.03 * np.arange(1, 5), np.full(4, 0.02 * number), np.zeros(4)], -1)
        hand[finger] = palm[:, None, :3, 3] + np.einsum('tij,kj->tki', palm[:, :3, :3], along)
    return hand


def base_in_world(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """The base's position (T, 3) and quaternion xyzw (T, 4): it stands turned by 90 degrees."""
    position = np.tile([2.5, -2.0, 0.7], (frames, 1))
    return position, np.tile([0, 0, np.sqrt(0.5), np.sqrt(0.5)], (frames, 1))


def write_file(
    path: Path,
    demos: tuple[int, ...] = (0, 2, 10),
    frames: int = 6,
    width: int = WIDTH,
    height: int = HEIGHT,
    control_freq: float | None = 20,
    unused_sites: int = 3,
    filters: dict[str, list[str]] | None = None,
) -> None:
    """Writes a file; the pictures of demonstration k are numbered from 16 k mod 256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, 'w') as file:
        data = file.create_group('data')
        kwargs = {} if control_freq is None else {'control_freq': control_freq}
        data.attrs['env_args'] = json.dumps({'env_name': 'PnP', 'env_kwargs': kwargs})
        for demo in demos:
            obs = data.create_group(f'demo_{demo}/obs')
            data[f'demo_{demo}'].attrs['num_samples'] = frames
            hand = hand_in_world(frames, demo)
            base_position, base_quaternion = base_in_world(frames)
            sites = [np.full((frames, unused_sites, 3), 99.0)]
            sites += [hand[finger] for finger in ('index', 'middle', 'ring', 'thumb')]
            obs['robot0_base_pos'] = base_position
            obs['robot0_base_quat'] = base_quaternion
            obs['robot0_right_gripper_keypoint_pose'] = np.concatenate(sites, 1).reshape(
                frames, -1
            )
            obs['robot0_right_hand_T_world_pose_mat'] = hand['palm'].reshape(frames, 16)
            obs['robot0_joint_pos'] = np.zeros((frames, 7))
            pictures = [
                numbered_picture(16 * demo % 256 + i, height, width) for i in range(frames)
            ]
            obs.create_dataset(
                'robot0_robotview_2_image',
                data=np.array(pictures),
                chunks=(1, height, width, 3),
                compression='gzip',
                compression_opts=1,
            )
        for name, listed in (filters or {}).items():
            file[f'mask/{name}'] = np.array(listed, dtype='S')
