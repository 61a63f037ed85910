"""RoboCasa with an Allegro hand: HDF5 files in robomimic's layout."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from dexwm.data.episode import HAND_KEYPOINTS, RIGHT_HAND, DatasetError, Problem
from dexwm.data.file_dataset import FileDataset, existing_folder
from dexwm.data.hdf5 import get_dataset, open_hdf5, read_array
from dexwm.data.windows import check_frames
from dexwm.geometry.camera import CameraIntrinsics

IMAGE_KEY = 'robot0_robotview_2_image'

ROBOTVIEW_2 = CameraIntrinsics(960, 600, 357.526, 357.526, 479.5, 299.5)
"""The camera of `robot0_robotview_2_image`: 80 degrees high, without distortion."""

_FINGER_SITES = 16
"""Of the sites that a file stores, the last ones: index, middle, ring, thumb, four each."""

ALLEGRO_TO_KEYPOINTS = (
    0,
    *range(13, 17),
    *range(1, 5),
    *range(5, 9),
    *range(9, 13),
    *range(9, 13),
)
"""Our 21 keypoints out of the palm (0) and the finger sites (1 to 16).

An Allegro hand has no little finger: the ring finger stands for it too.
"""

_T_BASE_FROM_MUJOCO_CAMERA = np.array(
    [
        [0.0, 0.5, -0.8660254, 0.212],
        [-1.0, 0.0, 0.0, 0.0],
        [0.0, 0.8660254, 0.5, 1.614],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
# MuJoCo's cameras look along -z with y up, optical frames along z with y down.
_T_BASE_FROM_CAMERA = _T_BASE_FROM_MUJOCO_CAMERA @ np.diag([1.0, -1.0, -1.0, 1.0])


class RoboCasaEpisode:
    """One demonstration of a file, an `EpisodeSource` whose world is the simulator's.

    Only the right hand is there.

    Attributes:
        path: the HDF5 file.
        demo: the demonstration's name in it.
        name: both, unique in the data set.
        length: frames.
        fps: frames per second.
        intrinsics: the camera of the pictures.
        keypoints_world: (T, 42, 3), metres.
        keypoints_valid: (T, 42).
        T_world_from_camera: (T, 4, 4), metres; the camera is fixed to the robot's base.
    """

    keypoints_supervised = True
    objects = None

    def __init__(
        self, path: Path, demo: str, name: str, fps: float, intrinsics: CameraIntrinsics
    ) -> None:
        """Reads everything but the pictures.

        Raises:
            DatasetError: where the demonstration is missing, damaged or inconsistent.
        """
        self.path = path
        self.demo = demo
        self.name = name
        self.fps = fps
        self.intrinsics = intrinsics
        with open_hdf5(path) as file:
            obs = _group(file, f'data/{demo}/obs')
            images = get_dataset(obs, IMAGE_KEY)
            self.length = T = len(images)
            if images.shape[1:] != (intrinsics.height, intrinsics.width, 3):
                raise DatasetError(
                    f'{images.name} must have shape (any, {intrinsics.height}, '
                    f'{intrinsics.width}, 3), got {images.shape}: pass intrinsics of its size'
                )
            if images.dtype != np.uint8:
                raise DatasetError(f'{images.name} must be uint8, got {images.dtype}')
            base_position = read_array(obs, 'robot0_base_pos', (T, 3))
            base_quaternion = read_array(obs, 'robot0_base_quat', (T, 4))
            sites = read_array(obs, 'robot0_right_gripper_keypoint_pose', (T, None))
            palm = read_array(obs, 'robot0_right_hand_T_world_pose_mat', (T, 16))
            T_world_from_base = np.tile(np.eye(4), (T, 1, 1))
            T_world_from_base[:, :3, :3] = Rotation.from_quat(base_quaternion).as_matrix()
        T_world_from_base[:, :3, 3] = base_position
        self.T_world_from_camera = T_world_from_base @ _T_BASE_FROM_CAMERA
        self.keypoints_world = np.zeros((T, HAND_KEYPOINTS, 3), np.float32)
        self.keypoints_world[:, RIGHT_HAND] = self._hand(sites, palm)
        self.keypoints_valid = np.zeros((T, HAND_KEYPOINTS), bool)
        self.keypoints_valid[:, RIGHT_HAND] = True

    def _hand(self, sites: NDArray[np.float64], palm: NDArray[np.float64]) -> NDArray[np.float64]:
        """The right hand's keypoints in the world, (T, 21, 3)."""
        count, rest = divmod(sites.shape[1], 3)
        if rest or count < _FINGER_SITES:
            raise DatasetError(
                f'{self.path}: robot0_right_gripper_keypoint_pose of {self.demo} must hold 3 '
                f'numbers for each of at least {_FINGER_SITES} sites, got {sites.shape[1]}'
            )
        poses = palm.reshape(-1, 4, 4)
        if not np.allclose(poses[:, 3], [0, 0, 0, 1], atol=1e-6):
            raise DatasetError(
                f'{self.path}: robot0_right_hand_T_world_pose_mat of {self.demo} must hold poses '
                'row by row, ending in 0, 0, 0, 1'
            )
        fingers = sites.reshape(-1, count, 3)[:, -_FINGER_SITES:]
        points = np.concatenate([poses[:, None, :3, 3], fingers], axis=1)
        return points[:, ALLEGRO_TO_KEYPOINTS]

    def images(self, indices: ArrayLike) -> NDArray[np.uint8]:
        """The pictures at some frames, see `EpisodeSource.images`."""
        wanted = check_frames(indices, self.length)
        # HDF5 takes ascending numbers without repeats only.
        numbers, places = np.unique(wanted, return_inverse=True)
        with open_hdf5(self.path) as file:
            pictures: NDArray[np.uint8] = file[f'data/{self.demo}/obs/{IMAGE_KEY}'][numbers]
        return pictures[places]


class RoboCasaDataset(FileDataset[tuple[Path, str], RoboCasaEpisode]):
    """All demonstrations of all HDF5 files below a folder, by path and number.

    Each file is opened once to list its demonstrations; one that cannot be is in `problems`.
    """

    def __init__(
        self,
        root: str | Path,
        fps: float | None = None,
        filter_key: str | None = None,
        intrinsics: CameraIntrinsics = ROBOTVIEW_2,
    ) -> None:
        """Lists the demonstrations.

        Args:
            root: the folder; the files may lie in folders of it.
            fps: frames per second. None takes `control_freq` of each file's `env_args`; a file
                that does not say is left out. robosuite's own default is 20.
            filter_key: only the demonstrations that the file's `mask/<filter_key>` lists.
            intrinsics: the camera of the stored pictures.

        Raises:
            DatasetError: where there is no usable demonstration, or `fps` is not positive.
        """
        if fps is not None and not (np.isfinite(fps) and fps > 0):
            raise DatasetError(f'fps must be positive, got {fps}')
        self.intrinsics = intrinsics
        folder = existing_folder(root)
        problems: list[Problem] = []
        places: list[tuple[Path, str]] = []
        self._fps: dict[Path, float] = {}
        for path in sorted(folder.rglob('*.hdf5')):
            try:
                with open_hdf5(path) as file:
                    demos = _demos(file, filter_key)
                    self._fps[path] = _control_frequency(file) if fps is None else fps
            except DatasetError as error:
                problems.append(Problem(str(path), str(error)))
            else:
                places += [(path, demo) for demo in demos]
        super().__init__(folder, places, problems)

    def _open(self, place: tuple[Path, str]) -> RoboCasaEpisode:
        path, demo = place
        name = f'{path.relative_to(self.root).with_suffix("")}/{demo}'
        return RoboCasaEpisode(path, demo, name, self._fps[path], self.intrinsics)


def _group(file: h5py.File, name: str) -> h5py.Group:
    if name not in file or not isinstance(file[name], h5py.Group):
        raise DatasetError(f'/{name} is missing')
    return file[name]


def _demos(file: h5py.File, filter_key: str | None) -> list[str]:
    """The demonstrations' names in the order of their numbers."""
    names = list(_group(file, 'data'))
    if filter_key is not None:
        listed = get_dataset(file, f'mask/{filter_key}')[()]
        wanted = {name.decode() if isinstance(name, bytes) else str(name) for name in listed}
        missing = sorted(wanted.difference(names))
        if missing:
            raise DatasetError(f'mask/{filter_key} lists {missing[0]}, which the file lacks')
        names = sorted(wanted)
    demos = [name for name in names if name.startswith('demo_') and name[5:].isdecimal()]
    if not demos:
        raise DatasetError('the file holds no demonstrations data/demo_<number>')
    return sorted(demos, key=lambda name: int(name[5:]))


def _control_frequency(file: h5py.File) -> float:
    """Frames per second as the environment's settings in the file say."""
    try:
        return float(json.loads(file['data'].attrs['env_args'])['env_kwargs']['control_freq'])
    except (KeyError, ValueError, TypeError) as error:
        raise DatasetError(
            'the file does not say its frame rate (control_freq in env_args): pass fps='
        ) from error
