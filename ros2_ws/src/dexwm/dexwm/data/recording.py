"""The project's own episodes: one HDF5 file each, from the simulator or from the robot."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import cv2
import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.data.episode import (
    HAND_KEYPOINTS,
    KEYPOINTS_PER_HAND,
    RIGHT_HAND,
    DatasetError,
    ObjectTruth,
    Problem,
    check_episode,
)
from dexwm.data.windows import check_frames
from dexwm.geometry.camera import CameraIntrinsics
from dexwm.robot.joints import JOINTS

FORMAT_VERSION = 2
MANIFEST = 'manifest.json'
HELD_OUT_EVERY = 10
"""Of seeds, every tenth is held out: those that this divides."""

Split = Literal['train', 'held_out', 'all']

_NAME = re.compile(r'episode_(\d{8,})\.h5')


def recording_name(seed: int) -> str:
    """The file name of the episode made from a seed."""
    return f'episode_{seed:08d}.h5'


@dataclass(frozen=True)
class RecordingInfo:
    """What does not change during an episode.

    Attributes:
        fps: frames per second.
        intrinsics: the camera of the stored pictures.
        T_base_from_camera: (4, 4), metres; the optical frame in the robot's base.
        seed: what the episode was made from.
        strategy: what moved the robot.
        object_names: kinds of the objects, each at most once.
        scene_json: the scene as JSON, enough to build it again.
    """

    fps: float
    intrinsics: CameraIntrinsics
    T_base_from_camera: NDArray[np.float64]
    seed: int
    strategy: str
    object_names: tuple[str, ...] = ()
    scene_json: str = '{}'


@dataclass
class _Rows:
    joint_positions: list[NDArray[np.float64]] = field(default_factory=list)
    joint_commands: list[NDArray[np.float64]] = field(default_factory=list)
    keypoints_base: list[NDArray[np.float64]] = field(default_factory=list)
    object_positions: list[NDArray[np.float64]] = field(default_factory=list)
    object_quaternions_xyzw: list[NDArray[np.float64]] = field(default_factory=list)
    object_contact: list[NDArray[np.float64]] = field(default_factory=list)
    object_visible_share: list[NDArray[np.float64]] = field(default_factory=list)


class RecordingWriter:
    """Writes one episode; the file appears under its name only when it is whole.

    Use it as a context manager: leaving it through an exception leaves no file behind. The same
    frames give the same file bit for bit.
    """

    def __init__(self, path: str | Path, info: RecordingInfo, jpeg_quality: int = 95) -> None:
        """Keeps frames in memory until `close`.

        Args:
            path: the file to write; an existing one is replaced.
            info: what does not change during the episode.
            jpeg_quality: of the stored pictures, 1 to 100.

        Raises:
            DatasetError: where `info` holds a pose that is none, or the quality is out of range.
        """
        if np.shape(info.T_base_from_camera) != (4, 4):
            raise DatasetError(
                f'T_base_from_camera must be 4x4, got {np.shape(info.T_base_from_camera)}'
            )
        if not 1 <= jpeg_quality <= 100:
            raise DatasetError(f'the JPEG quality must be 1 to 100, got {jpeg_quality}')
        self.path = Path(path)
        self._info = info
        self._quality = jpeg_quality
        self._images: list[NDArray[np.uint8]] = []
        self._rows = _Rows()

    def add_frame(
        self,
        image: NDArray[np.uint8],
        joint_positions: ArrayLike,
        joint_commands: ArrayLike,
        keypoints_base: ArrayLike,
        object_positions: ArrayLike = (),
        object_quaternions_xyzw: ArrayLike = (),
        object_contact: ArrayLike = (),
        object_visible_share: ArrayLike = (),
    ) -> None:
        """Adds a frame; all of it belongs to one instant.

        Args:
            image: (height, width, 3) uint8, RGB, of the size in the intrinsics.
            joint_positions: (23,), rad.
            joint_commands: (23,), rad.
            keypoints_base: (21, 3), the right hand's keypoints in the base frame, metres.
            object_positions: (n, 3), metres, base frame; n objects in the order of the names.
            object_quaternions_xyzw: (n, 4).
            object_contact: (n,) whether the hand touches it.
            object_visible_share: (n,) how much of it nothing hides from the camera, 0 to 1.

        Raises:
            DatasetError: where a shape is wrong or a value is not finite.
        """
        camera, n = self._info.intrinsics, len(self._info.object_names)
        if image.shape != (camera.height, camera.width, 3) or image.dtype != np.uint8:
            raise DatasetError(
                f'the picture must be ({camera.height}, {camera.width}, 3) uint8, '
                f'got {image.shape} {image.dtype}'
            )
        row = {
            'joint_positions': (joint_positions, (len(JOINTS),)),
            'joint_commands': (joint_commands, (len(JOINTS),)),
            'keypoints_base': (keypoints_base, (KEYPOINTS_PER_HAND, 3)),
            'object_positions': (object_positions, (n, 3)),
            'object_quaternions_xyzw': (object_quaternions_xyzw, (n, 4)),
            'object_contact': (object_contact, (n,)),
            'object_visible_share': (object_visible_share, (n,)),
        }
        checked: dict[str, NDArray[np.float64]] = {}
        for name, (value, shape) in row.items():
            array = np.array(value, dtype=np.float64)
            if array.shape != shape and not (array.size == 0 and n == 0):
                raise DatasetError(f'{name} must have shape {shape}, got {array.shape}')
            if not np.isfinite(array).all():
                raise DatasetError(f'{name} is not finite at frame {len(self._images)}')
            checked[name] = array.reshape(shape)
        done, jpeg = cv2.imencode(
            '.jpg',
            cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
            [cv2.IMWRITE_JPEG_QUALITY, self._quality],
        )
        if not done:
            raise DatasetError('the picture could not be encoded as JPEG')
        self._images.append(jpeg)
        for name, array in checked.items():
            getattr(self._rows, name).append(array)

    def close(self) -> None:
        """Writes the file beside its place, then moves it there.

        Raises:
            DatasetError: where no frame was added.
            OSError: where the disk does not take it; nothing is left behind.
        """
        if not self._images:
            raise DatasetError(f'{self.path}: an episode needs at least one frame')
        part = self.path.with_suffix('.part')
        try:
            with h5py.File(part, 'w', libver='v110', track_order=False) as file:
                self._write(file)
            os.replace(part, self.path)
        finally:
            part.unlink(missing_ok=True)

    def _write(self, file: h5py.File) -> None:
        def put(name: str, value: ArrayLike, dtype: str) -> None:
            file.create_dataset(name, data=np.asarray(value, dtype), track_times=False)

        images = file.create_dataset(
            'images',
            (len(self._images),),
            dtype=h5py.vlen_dtype(np.uint8),
            track_times=False,
        )
        for i, jpeg in enumerate(self._images):
            images[i] = jpeg
        put('joint_positions', self._rows.joint_positions, 'f8')
        put('joint_commands', self._rows.joint_commands, 'f8')
        put('keypoints_base', self._rows.keypoints_base, 'f4')
        put('object_positions', self._rows.object_positions, 'f4')
        put('object_quaternions_xyzw', self._rows.object_quaternions_xyzw, 'f4')
        put('object_contact', self._rows.object_contact, '?')
        put('object_visible_share', self._rows.object_visible_share, 'f4')
        put('camera/T_base_from_camera', self._info.T_base_from_camera, 'f8')
        put('camera/K', self._info.intrinsics.K, 'f8')
        file.attrs['format_version'] = FORMAT_VERSION
        file.attrs['fps'] = float(self._info.fps)
        file.attrs['width'] = self._info.intrinsics.width
        file.attrs['height'] = self._info.intrinsics.height
        file.attrs['seed'] = self._info.seed
        file.attrs['strategy'] = self._info.strategy
        file.attrs['object_names'] = json.dumps(list(self._info.object_names))
        file.attrs['scene_json'] = self._info.scene_json

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()


class Recording:
    """One recorded episode; an `EpisodeSource` whose world is the robot's base.

    All but the pictures is in memory. The file is open only while something is read, so a
    recording may go to another process.

    Attributes:
        path: the file.
        info: what does not change during the episode.
        joint_positions: (T, 23), rad.
        joint_commands: (T, 23), rad.
        object_quaternions_xyzw: (T, n, 4).
    """

    keypoints_supervised = True

    def __init__(self, path: str | Path) -> None:
        """Reads everything but the pictures.

        Raises:
            DatasetError: where the file is missing, damaged, of another version or inconsistent.
        """
        self.path = Path(path)
        self.name = self.path.stem
        try:
            with h5py.File(self.path, 'r') as file:
                self._read(file)
        except DatasetError as error:
            raise DatasetError(f'{self.path}: {error}') from error
        except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
            raise DatasetError(f'{self.path} cannot be read: {error}') from error
        try:
            check_episode(self)
        except DatasetError as error:
            raise DatasetError(f'{self.path}: {error}') from error

    def _read(self, file: h5py.File) -> None:
        version = file.attrs['format_version']
        if version != FORMAT_VERSION:
            raise DatasetError(
                f'the recording has format {version}, this version reads {FORMAT_VERSION}: '
                'make it again (`make data`)'
            )
        names = tuple(json.loads(file.attrs['object_names']))
        width, height = int(file.attrs['width']), int(file.attrs['height'])
        self.info = RecordingInfo(
            fps=float(file.attrs['fps']),
            intrinsics=CameraIntrinsics.from_matrix(width, height, file['camera/K'][()]),
            T_base_from_camera=file['camera/T_base_from_camera'][()],
            seed=int(file.attrs['seed']),
            strategy=str(file.attrs['strategy']),
            object_names=names,
            scene_json=str(file.attrs['scene_json']),
        )
        self.length = T = len(file['images'])

        def get(name: str, shape: tuple[int, ...]) -> NDArray[Any]:
            values: NDArray[Any] = file[name][()]
            if values.shape != shape:
                raise DatasetError(f'{name} must have shape {shape}, got {values.shape}')
            if not np.isfinite(values).all():
                raise DatasetError(f'{name} is not finite')
            return values

        self.joint_positions = get('joint_positions', (T, len(JOINTS)))
        self.joint_commands = get('joint_commands', (T, len(JOINTS)))
        keypoints = get('keypoints_base', (T, KEYPOINTS_PER_HAND, 3))
        positions = get('object_positions', (T, len(names), 3))
        self.object_quaternions_xyzw = get('object_quaternions_xyzw', (T, len(names), 4))
        contact = get('object_contact', (T, len(names)))
        visible_share = get('object_visible_share', (T, len(names)))
        self.keypoints_world = np.zeros((T, HAND_KEYPOINTS, 3), np.float32)
        self.keypoints_world[:, RIGHT_HAND] = keypoints
        self.keypoints_valid = np.zeros((T, HAND_KEYPOINTS), bool)
        self.keypoints_valid[:, RIGHT_HAND] = True
        self.T_world_from_camera = np.tile(self.info.T_base_from_camera, (T, 1, 1))
        self.objects: ObjectTruth | None = ObjectTruth(names, positions, contact, visible_share)

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.info.fps

    @property
    def intrinsics(self) -> CameraIntrinsics:
        """The camera of the pictures."""
        return self.info.intrinsics

    def images(self, indices: ArrayLike) -> NDArray[np.uint8]:
        """The pictures at some frames, see `EpisodeSource.images`."""
        wanted = check_frames(indices, self.length)
        camera = self.info.intrinsics
        pictures = np.empty((len(wanted), camera.height, camera.width, 3), np.uint8)
        try:
            with h5py.File(self.path, 'r') as file:
                stored = file['images']
                for i, frame in enumerate(wanted):
                    pictures[i] = self._decode(stored[frame], int(frame))
        except (OSError, KeyError, RuntimeError) as error:
            raise DatasetError(f'{self.path} cannot be read: {error}') from error
        return pictures

    def _decode(self, jpeg: NDArray[np.uint8], frame: int) -> NDArray[np.uint8]:
        # OpenCV fills what is missing of a truncated JPEG with grey and says nothing.
        whole = len(jpeg) > 4 and jpeg[-2:].tobytes() == b'\xff\xd9'
        image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR) if whole else None
        camera = self.info.intrinsics
        if image is None:
            raise DatasetError(f'{self.path}: the picture at frame {frame} is damaged')
        if image.shape != (camera.height, camera.width, 3):
            raise DatasetError(
                f'{self.path}: the picture at frame {frame} is {image.shape[1]}x{image.shape[0]}, '
                f'the camera has {camera.width}x{camera.height}'
            )
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


class RecordingDataset:
    """The recorded episodes of a folder, in the order of their seeds.

    Scenes are drawn from the seed, so the scenes of held-out seeds are never seen in training.

    Attributes:
        problems: files left out, and why.
    """

    def __init__(
        self, folder: str | Path, split: Split = 'train', verify_digests: bool = False
    ) -> None:
        """Opens each file once to see that it can be used.

        Args:
            folder: where the `episode_<seed>.h5` files are. A `manifest.json` there is checked
                against them.
            split: 'train', 'held_out' (every tenth seed) or 'all'.
            verify_digests: also check each file's SHA-256 against the manifest (reads it all).

        Raises:
            DatasetError: where the folder is missing or has no usable episode of this split, or
                the manifest cannot be read.
        """
        if split not in ('train', 'held_out', 'all'):
            raise DatasetError(f"split must be 'train', 'held_out' or 'all', got {split!r}")
        self.folder = Path(folder)
        self.split = split
        if not self.folder.is_dir():
            raise DatasetError(
                f'{self.folder} is not a folder: make recordings with `make data` or name the '
                'folder that holds them'
            )
        digests = self._manifest_digests()
        if verify_digests and digests is None:
            raise DatasetError(f'{self.folder} has no {MANIFEST} to verify digests against')
        found = {
            int(match[1]): path
            for path in self.folder.iterdir()
            if (match := _NAME.fullmatch(path.name))
        }
        listed = {
            int(match[1]): self.folder / name
            for name in digests or {}
            if (match := _NAME.fullmatch(name))
        }
        self.problems: list[Problem] = []
        self._paths: list[Path] = []
        for seed, path in sorted({**listed, **found}.items()):
            if split != 'all' and (seed % HELD_OUT_EVERY == 0) != (split == 'held_out'):
                continue
            reason = self._wrong_with(path, seed, (digests or {}).get(path.name), verify_digests)
            if reason is None:
                self._paths.append(path)
            else:
                self.problems.append(Problem(str(path), reason))
        if not self._paths:
            raise DatasetError(
                f'{self.folder} has no usable recording of split {split!r}'
                + ''.join(f'\n  {problem}' for problem in self.problems[:10])
                + '\nmake recordings with `make data`'
            )

    def _manifest_digests(self) -> Mapping[str, str] | None:
        path = self.folder / MANIFEST
        if not path.exists():
            return None
        try:
            files = json.loads(path.read_text())['files']
            return {str(name): str(entry['sha256']) for name, entry in files.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(
                f'{path} is not a manifest of recordings ({error!r}): run `make data` again, it '
                'keeps the finished episodes'
            ) from error

    def _wrong_with(
        self, path: Path, seed: int, digest: str | None, verify_digest: bool
    ) -> str | None:
        if not path.exists():
            return f'the file is in {MANIFEST} but missing'
        if verify_digest:
            if digest is None:
                return f'the file is not in {MANIFEST}'
            if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                return f'the file is not the one in {MANIFEST}: its SHA-256 differs'
        try:
            recording = Recording(path)
        except DatasetError as error:
            return str(error).removeprefix(f'{path}: ')
        if recording.info.seed != seed:
            return f'the file holds seed {recording.info.seed}'
        return None

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Recording:
        """The recording at a place from 0 to len - 1.

        Raises:
            DatasetError: where its file is no longer readable.
            IndexError: where there is no such place.
        """
        return Recording(self._paths[index])
