"""Writes tiny raw DROID episodes."""

import json
from pathlib import Path

import h5py
import numpy as np

from .video_writer import write_numbered_video

WIDTH, HEIGHT = 64, 36
LEFT, RIGHT, WRIST = '22008760', '24400334', '18026681'
LEFT_EXTRINSICS = [0.1, 0.6, 0.45, -1.9, 0.05, -2.4]
RIGHT_EXTRINSICS = [0.2, -0.5, 0.4, -1.8, -0.02, -0.7]


def write_episode(
    root: Path,
    lab: str = 'AUTOLab',
    outcome: str = 'success',
    time: str = 'Fri_Jul__7_09:42:23_2023',
    frames: int = 20,
    video_frames: int | None = None,
    left_is: str = 'ext2',
) -> tuple[Path, np.ndarray, np.ndarray]:
    """Writes an episode's folder.

    Returns:
        The folder, the end effector (T, 3) in the base, and the gripper (T,).
    """
    inside = Path(outcome) / '2023-07-07' / time
    folder = root / lab / inside
    videos = folder / 'recordings' / 'MP4'
    count = frames if video_frames is None else video_frames
    for serial in (LEFT, RIGHT, WRIST):
        # Only the left one has the right number of pictures: another one read would show.
        extra = 0 if serial == LEFT else 1
        write_numbered_video(videos / f'{serial}.mp4', count + extra, WIDTH, HEIGHT, fps=60)
    (videos / f'{LEFT}-stereo.mp4').write_bytes(b'not read')
    time_s = np.arange(frames) / 15
    position = np.stack([0.5 + 0.1 * time_s, -0.2 * time_s, 0.3 + 0.05 * np.sin(time_s)], -1)
    gripper = np.where(np.arange(frames) < frames // 2, 0.1, 0.9)
    euler = np.tile([3.1, 0.1, -0.5], (frames, 1))
    with h5py.File(folder / 'trajectory.h5', 'w') as file:
        state = file.create_group('observation/robot_state')
        state['cartesian_position'] = np.concatenate([position, euler], axis=1)
        state['gripper_position'] = gripper
        state['joint_positions'] = np.zeros((frames, 7))
        file['action/gripper_position'] = gripper
        file.attrs['success'] = outcome == 'success'
    other = {'ext1': 'ext2', 'ext2': 'ext1'}[left_is]
    path_of = {serial: str(inside / 'recordings' / 'MP4' / f'{serial}.mp4') for serial in
               (LEFT, RIGHT, WRIST)}  # fmt: skip
    metadata = {
        'uuid': f'{lab}+0d4edc83+2023-07-07-09h-42m-23s',
        'lab': lab,
        'success': outcome == 'success',
        'trajectory_length': frames,
        f'{left_is}_cam_serial': LEFT,
        f'{other}_cam_serial': RIGHT,
        'wrist_cam_serial': WRIST,
        f'{left_is}_cam_extrinsics': LEFT_EXTRINSICS,
        f'{other}_cam_extrinsics': RIGHT_EXTRINSICS,
        'wrist_cam_extrinsics': [0.0] * 6,
        f'{left_is}_mp4_path': path_of[LEFT],
        f'{other}_mp4_path': path_of[RIGHT],
        'wrist_mp4_path': path_of[WRIST],
        'left_mp4_path': path_of[LEFT],
        'right_mp4_path': path_of[RIGHT],
    }
    (folder / f'metadata_{metadata["uuid"]}.json').write_text(json.dumps(metadata))
    return folder, position, gripper
