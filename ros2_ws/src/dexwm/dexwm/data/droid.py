"""DROID: a Franka arm with a gripper in many places, as raw files (Khazatsky et al., 2024)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from dexwm.data.episode import HAND_KEYPOINTS, RIGHT_HAND, DatasetError, Problem
from dexwm.data.file_dataset import FileDataset, existing_folder
from dexwm.data.hdf5 import open_hdf5, read_array
from dexwm.data.video import Video, shared_length
from dexwm.data.windows import check_frames
from dexwm.geometry.camera import CameraIntrinsics

DROID_FPS = 15.0
"""One picture for each step of the control loop; the videos' own rate means nothing."""

ZED2_HD720 = CameraIntrinsics(1280, 720, 530.0, 530.0, 639.5, 359.5)
"""A ZED 2 at 1280x720 as its data sheet has it: 2.12 mm lens, 4 um pixels, no distortion.

The raw files hold no intrinsics but inside the SVO recordings, which need the maker's SDK. Real
cameras differ from this by some pixels. Nothing is trained on where keypoints are in DROID's
pictures, so this serves pictures for people only.
"""

OPEN_RADII = (0.03, 0.04, 0.05, 0.06)
CLOSED_RADII = (0.03, 0.04, 0.035, 0.03)
"""Radii of a dummy finger's four keypoints, knuckle to tip, metres."""

FINGER_ANGLES = tuple(2 * np.pi * finger / 5 for finger in range(5))
"""Directions of the dummy fingers, thumb first, rad from the base's x axis about its z axis."""

_GRIPPER_CLOSED = 0.5


def dummy_hand(
    position_base: NDArray[np.float64], gripper: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Keypoints of a hand that stands for a gripper (paper, figure 11).

    The wrist is the end effector. The fingers point away from it in five directions in the
    horizontal plane, and their four keypoints lie on circles around it whose radii shrink as the
    gripper closes. The hand does not turn with the gripper.

    Args:
        position_base: (T, 3) the end effector in the robot's base, metres.
        gripper: (T,) 0 open to 1 closed.

    Returns:
        (T, 21, 3) in the robot's base, metres.
    """
    radii = np.where((gripper < _GRIPPER_CLOSED)[:, None], OPEN_RADII, CLOSED_RADII)
    angles = np.array(FINGER_ANGLES)
    directions = np.stack([np.cos(angles), np.sin(angles), np.zeros(5)], axis=-1)
    offsets = radii[:, None, :, None] * directions[:, None, :]
    offsets = np.concatenate([np.zeros((len(radii), 1, 3)), offsets.reshape(-1, 20, 3)], axis=1)
    return position_base[:, None] + offsets


class DroidEpisode:
    """One DROID episode seen by its left exterior camera, an `EpisodeSource`.

    The world is the robot's base. The right hand is the dummy of `dummy_hand`; there is no left.

    Attributes:
        path: the episode's folder.
        name: its path in the data set.
        length: frames that both video and trajectory have.
        frames_left_out: by how many frames one of the two is longer.
        intrinsics: the camera of the pictures; nominal, see `ZED2_HD720`.
        keypoints_world: (T, 42, 3), metres.
        keypoints_valid: (T, 42).
        T_world_from_camera: (T, 4, 4), metres; the same at all frames.
    """

    fps = DROID_FPS
    keypoints_supervised = False
    objects = None

    def __init__(self, path: Path, name: str, intrinsics: CameraIntrinsics) -> None:
        """Reads everything but the pictures.

        Args:
            path: the folder with `metadata_*.json`, `trajectory.h5` and `recordings/`.
            name: what the episode is called.
            intrinsics: the camera of the videos.

        Raises:
            DatasetError: where a file is missing or damaged, or they disagree.
        """
        self.path = path
        self.name = name
        self.intrinsics = intrinsics
        video_name, T_base_from_camera = _left_camera(path)
        self._video = Video(path / 'recordings' / 'MP4' / video_name)
        if (self._video.width, self._video.height) != (intrinsics.width, intrinsics.height):
            raise DatasetError(
                f'{self._video.path} has {self._video.width}x{self._video.height} pixels, the '
                f'intrinsics are for {intrinsics.width}x{intrinsics.height}: pass those of this '
                'size'
            )
        with open_hdf5(path / 'trajectory.h5') as file:
            state = 'observation/robot_state/'
            position = read_array(file, state + 'cartesian_position', (None, 6))[:, :3]
            gripper = read_array(file, state + 'gripper_position', (len(position),))
        self.length = shared_length(self._video, len(position))
        self.frames_left_out = max(len(self._video), len(position)) - self.length
        self.keypoints_world = np.zeros((self.length, HAND_KEYPOINTS, 3), np.float32)
        self.keypoints_world[:, RIGHT_HAND] = dummy_hand(position, gripper)[: self.length]
        self.keypoints_valid = np.zeros((self.length, HAND_KEYPOINTS), bool)
        self.keypoints_valid[:, RIGHT_HAND] = True
        self.T_world_from_camera = np.tile(T_base_from_camera, (self.length, 1, 1))

    def images(self, indices: ArrayLike) -> NDArray[np.uint8]:
        """The pictures at some frames, see `EpisodeSource.images`."""
        return self._video.frames(check_frames(indices, self.length))


class DroidDataset(FileDataset[Path, DroidEpisode]):
    """The raw episodes of DROID on disk, in the order of their names.

    Layout: `<lab>/{success,failure}/<date>/<time>/`, each with `metadata_*.json`,
    `trajectory.h5` and `recordings/MP4/<serial>.mp4`. SVO and stereo files are not read.
    """

    def __init__(
        self,
        root: str | Path,
        outcome: Literal['success', 'failure', 'all'] = 'success',
        intrinsics: CameraIntrinsics = ZED2_HD720,
    ) -> None:
        """Looks for the folders; opens no file.

        Args:
            root: the folder that holds the labs.
            outcome: which episodes, by how their operators rated them.
            intrinsics: the camera of the videos, the same for all.

        Raises:
            DatasetError: where there is no episode, or `outcome` is none of the three.
        """
        if outcome not in ('success', 'failure', 'all'):
            raise DatasetError(f"outcome must be 'success', 'failure' or 'all', got {outcome!r}")
        self.intrinsics = intrinsics
        folder = existing_folder(root)
        problems: list[Problem] = []
        places: list[Path] = []
        for kind in ('failure', 'success') if outcome == 'all' else (outcome,):
            for path in folder.glob(f'*/{kind}/*/*'):
                if (path / 'trajectory.h5').exists():
                    places.append(path)
                elif path.is_dir():
                    problems.append(Problem(str(path), 'trajectory.h5 is missing'))
        super().__init__(folder, sorted(places), sorted(problems, key=str))

    def _open(self, place: Path) -> DroidEpisode:
        name = str(place.relative_to(self.root))
        episode = DroidEpisode(place, name, self.intrinsics)
        if episode.frames_left_out:
            self.shortened[name] = episode.frames_left_out
        return episode


def _left_camera(path: Path) -> tuple[str, NDArray[np.float64]]:
    """The left exterior camera's video file and its pose (4, 4) in the robot's base."""
    files = sorted(path.glob('metadata_*.json'))
    if len(files) != 1:
        raise DatasetError(f'{path} must hold one metadata_*.json, it holds {len(files)}')
    try:
        metadata: dict[str, Any] = json.loads(files[0].read_text())
        left = metadata['left_mp4_path']
        # Which of the two exterior cameras stands left is told only by the names of their videos.
        cameras = [key for key in ('ext1', 'ext2') if metadata[f'{key}_mp4_path'] == left]
        if len(cameras) != 1:
            raise DatasetError('left_mp4_path is neither ext1_mp4_path nor ext2_mp4_path')
        extrinsics = np.array(metadata[f'{cameras[0]}_cam_extrinsics'], dtype=np.float64)
        if extrinsics.shape != (6,) or not np.isfinite(extrinsics).all():
            raise DatasetError(f'{cameras[0]}_cam_extrinsics must be 6 finite numbers')
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f'{error} is missing' if isinstance(error, KeyError) else error
        raise DatasetError(f'{files[0]}: {reason}') from error
    T_base_from_camera = np.eye(4)
    T_base_from_camera[:3, :3] = Rotation.from_euler('xyz', extrinsics[3:]).as_matrix()
    T_base_from_camera[:3, 3] = extrinsics[:3]
    # The path in the file starts at the lab's folder; the file itself always lies here.
    return Path(left).name, T_base_from_camera
