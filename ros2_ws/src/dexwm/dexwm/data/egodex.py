"""EgoDex: people's hands at work, seen and measured by a headset (Hoque et al., 2025)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.data.episode import HAND_KEYPOINTS, DatasetError, Problem
from dexwm.data.file_dataset import FileDataset, existing_folder
from dexwm.data.hdf5 import open_hdf5, read_array
from dexwm.data.video import Video, shared_length
from dexwm.data.windows import check_frames
from dexwm.geometry.camera import CameraIntrinsics

_PARTS = ('Knuckle', 'IntermediateBase', 'IntermediateTip', 'Tip')
_FINGERS = ('Thumb', 'IndexFinger', 'MiddleFinger', 'RingFinger', 'LittleFinger')

EGODEX_JOINTS = tuple(
    f'{side}{joint}'
    for side in ('left', 'right')
    for joint in ('Hand', *(f'{finger}{part}' for finger in _FINGERS for part in _PARTS))
)
"""EgoDex's names of the 42 keypoints, in our order.

EgoDex tracks 25 joints a hand. The metacarpals of four fingers are left out; what remains are the
21 points of OpenPose and MANO, with the wrist called `Hand`.
"""

_SPLITS = {
    'train': ('train', 'part1', 'part2', 'part3', 'part4', 'part5'),
    'test': ('test',),
    'extra': ('extra',),
}


class EgoDexEpisode:
    """One EgoDex episode, an `EpisodeSource`; the world is where the headset was switched on.

    Attributes:
        path: the HDF5 file.
        name: its path in the data set, without ending.
        length: frames that both files have.
        frames_left_out: by how many frames one of the two files is longer.
        fps: frames per second.
        intrinsics: the camera of the pictures.
        keypoints_world: (T, 42, 3), metres; zero where not valid.
        keypoints_valid: (T, 42).
        T_world_from_camera: (T, 4, 4), metres.
    """

    keypoints_supervised = True
    objects = None

    def __init__(self, path: Path, name: str, min_confidence: float) -> None:
        """Reads everything but the pictures.

        Args:
            path: the HDF5 file; the video lies beside it.
            name: what the episode is called.
            min_confidence: see `EgoDexDataset`.

        Raises:
            DatasetError: where one of the two files is missing or damaged, or they disagree.
        """
        self.path = path
        self.name = name
        self._video = Video(path.with_suffix('.mp4'))
        self.fps = self._video.fps
        with open_hdf5(path) as file:
            poses = read_array(file, 'transforms/camera', (None, 4, 4))
            rows = len(poses)
            self.length = shared_length(self._video, rows)
            self.intrinsics = self._intrinsics(read_array(file, 'camera/intrinsic', (3, 3)))
            keypoints = np.stack(
                [
                    read_array(file, f'transforms/{joint}', (rows, 4, 4))[:, :3, 3]
                    for joint in EGODEX_JOINTS
                ],
                axis=1,
            )
            valid = self._confident(file, rows, min_confidence)
        self.frames_left_out = max(len(self._video), rows) - self.length
        # Stored in single precision by a tracker: a last row that is 1e-9 off is no damage.
        rounded = np.abs(poses[:, 3] - [0, 0, 0, 1]) < 1e-4
        poses[:, 3] = np.where(rounded, [0, 0, 0, 1], poses[:, 3])
        self.T_world_from_camera = poses[: self.length]
        known = np.where(valid[..., None], keypoints, 0.0)
        self.keypoints_world = known[: self.length].astype(np.float32)
        self.keypoints_valid = valid[: self.length]

    def _intrinsics(self, K: NDArray[np.float64]) -> CameraIntrinsics:
        width, height = self._video.width, self._video.height
        if abs(K[0, 2] - width / 2) > 0.1 * width or abs(K[1, 2] - height / 2) > 0.1 * height:
            raise DatasetError(
                f'camera/intrinsic has its centre at ({K[0, 2]:g}, {K[1, 2]:g}), which is not '
                f'the middle of the {width}x{height} video: where videos were made smaller, scale '
                'camera/intrinsic too'
            )
        # The file puts the corner of the first pixel at (0, 0): its middle is half the width.
        matrix = K - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
        return CameraIntrinsics.from_matrix(width, height, matrix)

    @staticmethod
    def _confident(file: h5py.File, rows: int, threshold: float) -> NDArray[np.bool_]:
        """Which keypoints are known well enough, (rows, 42)."""
        valid = np.ones((rows, HAND_KEYPOINTS), dtype=bool)
        # Some files come without: everything in them counts, as in all others at threshold 0.
        if threshold == 0 or 'confidences' not in file:
            return valid
        hand = np.empty(0)
        for i, joint in enumerate(EGODEX_JOINTS):
            confidence = read_array(file, f'confidences/{joint}', (rows,))
            # A finger's confidence is about its place relative to the wrist.
            if joint.endswith('Hand'):
                hand = confidence
            valid[:, i] = (confidence >= threshold) & (hand >= threshold)
        return valid

    def images(self, indices: ArrayLike) -> NDArray[np.uint8]:
        """The pictures at some frames, see `EpisodeSource.images`."""
        return self._video.frames(check_frames(indices, self.length))


class EgoDexDataset(FileDataset[Path, EgoDexEpisode]):
    """The episodes of EgoDex on disk, in the order of their names.

    Understands the folders as downloaded (`part1` to `part5`, `test`, `extra`) and with the
    parts merged into `train`. Below them: `<task>/<number>.hdf5` and `<number>.mp4`.
    """

    def __init__(
        self,
        root: str | Path,
        split: Literal['train', 'test', 'extra'] = 'train',
        min_confidence: float = 0.5,
    ) -> None:
        """Looks for the files; opens none.

        Args:
            root: the folder that holds `train` or `part1` to `part5`, `test`, `extra`.
            split: the data set's own division; 'train' is all parts that are there.
            min_confidence: from 0 to 1. A keypoint counts where the headset was at least this
                sure of it and of its wrist. 0 counts all, as does a file without confidences.

        Raises:
            DatasetError: where there is no episode, or an argument is out of range.
        """
        if split not in _SPLITS:
            raise DatasetError(f'split must be one of {", ".join(_SPLITS)}, got {split!r}')
        if not 0 <= min_confidence <= 1:
            raise DatasetError(f'min_confidence must be from 0 to 1, got {min_confidence}')
        self.min_confidence = min_confidence
        folder = existing_folder(root)
        problems: list[Problem] = []
        places: dict[Path, Path] = {}
        for part in _SPLITS[split]:
            for path in sorted((folder / part).glob('*/*.hdf5'), key=_by_number):
                if path.with_suffix('.mp4').exists():
                    # `train` may be made of links into the parts: each episode counts once.
                    places.setdefault(path.resolve(), path)
                else:
                    problems.append(Problem(str(path), f'{path.stem}.mp4 is missing beside it'))
        super().__init__(folder, list(places.values()), problems)

    def _open(self, place: Path) -> EgoDexEpisode:
        name = str(place.relative_to(self.root).with_suffix(''))
        episode = EgoDexEpisode(place, name, self.min_confidence)
        if episode.frames_left_out:
            self.shortened[name] = episode.frames_left_out
        return episode


def _by_number(path: Path) -> tuple[str, int, str]:
    """Sorts tasks by name, and an episode 2 before an episode 10."""
    return path.parent.name, int(path.stem) if path.stem.isdecimal() else -1, path.stem
