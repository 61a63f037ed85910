"""What every data set of hands in front of a camera looks like to the rest of the library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.geometry.camera import CameraIntrinsics

KEYPOINTS_PER_HAND = 21
HAND_KEYPOINTS = 2 * KEYPOINTS_PER_HAND
"""Rows of a frame's keypoints: the left hand's 21, then the right hand's 21."""

RIGHT_HAND = slice(KEYPOINTS_PER_HAND, HAND_KEYPOINTS)


class DatasetError(ValueError):
    """Raised for a data set, or a file of one, that cannot be used."""


@dataclass(frozen=True)
class Problem:
    """A file that was left out, and why.

    Attributes:
        file: the file or episode.
        reason: what is wrong with it.
    """

    file: str
    reason: str

    def __str__(self) -> str:
        return f'{self.file}: {self.reason}'


@dataclass(frozen=True)
class ObjectTruth:
    """Where the objects of a simulated episode are.

    Attributes:
        names: the n objects' kinds, each at most once.
        centres_world: (T, n, 3) float32, metres.
        in_contact: (T, n) bool, whether the hand touches the object.
        visible_share: (T, n) float32, how much of the object nothing hides from the camera.

    Raises:
        DatasetError: where the shapes disagree, a value is not finite or a name comes twice.
    """

    names: tuple[str, ...]
    centres_world: NDArray[np.float32]
    in_contact: NDArray[np.bool_]
    visible_share: NDArray[np.float32]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise DatasetError(f'an object comes twice: {", ".join(self.names)}')
        expected = (len(self.in_contact), len(self.names))
        got = (self.centres_world.shape, self.in_contact.shape, self.visible_share.shape)
        if got != ((*expected, 3), expected, expected):
            n = len(self.names)
            raise DatasetError(
                f'{n} objects need centres (T, {n}, 3), contacts and visible shares (T, {n}), '
                f'got {", ".join(map(str, got))}'
            )
        if not ((self.visible_share >= 0) & (self.visible_share <= 1)).all():
            raise DatasetError('the visible shares of objects are not all from 0 to 1')
        if not np.isfinite(self.centres_world).all():
            raise DatasetError('the centres of objects are not all finite')


class EpisodeSource(Protocol):
    """An episode: pictures of one camera, and where hands, camera and objects were.

    Every array has one row per frame. `world` is any frame that stands still: the robot's base,
    or where a headset was switched on.
    """

    @property
    def name(self) -> str:
        """What the episode is called, unique within its data set."""
        ...

    @property
    def length(self) -> int:
        """The number of frames, T."""
        ...

    @property
    def fps(self) -> float:
        """Frames per second."""
        ...

    @property
    def intrinsics(self) -> CameraIntrinsics:
        """The camera of the pictures as `images` gives them."""
        ...

    @property
    def keypoints_world(self) -> NDArray[np.float32]:
        """Keypoints of the left and right hand, (T, 42, 3), metres; zero where not valid."""
        ...

    @property
    def keypoints_valid(self) -> NDArray[np.bool_]:
        """Which keypoints are known, (T, 42)."""
        ...

    @property
    def T_world_from_camera(self) -> NDArray[np.float64]:
        """The camera's pose, (T, 4, 4), metres; optical frame (x right, y down, z forward)."""
        ...

    @property
    def keypoints_supervised(self) -> bool:
        """Whether the keypoints are a hand's, to be found in the pictures (paper, appendix C)."""
        ...

    @property
    def objects(self) -> ObjectTruth | None:
        """Where the objects are; None where the data set does not say."""
        ...

    def images(self, indices: ArrayLike) -> NDArray[np.uint8]:
        """The pictures at some frames.

        Args:
            indices: (n,) whole numbers from 0 to T - 1, in any order, repeats allowed.

        Returns:
            (n, height, width, 3) uint8, RGB.

        Raises:
            DatasetError: where a picture cannot be read; the message names the file.
            IndexError: where an index is not a frame.
        """
        ...


class EpisodeDataset(Protocol):
    """Episodes that were found and can be read.

    A file that cannot is left out and listed in `problems`; one whose damage shows only on
    reading raises DatasetError from `__getitem__` or from the episode's `images`.
    """

    @property
    def problems(self) -> list[Problem]:
        """What was left out, and why."""
        ...

    def __len__(self) -> int:
        """The number of episodes."""
        ...

    def __getitem__(self, index: int) -> EpisodeSource:
        """The episode at a place from 0 to len - 1.

        Raises:
            DatasetError: where it cannot be read.
            IndexError: where there is no such episode.
        """
        ...


def check_episode(episode: EpisodeSource) -> None:
    """Checks shapes and values of everything but the pictures.

    Raises:
        DatasetError: where an array has a wrong shape, a pose or valid keypoint is not finite, a
            pose is not a rigid motion, or there are no frames.
    """
    length = episode.length
    if length < 1:
        raise DatasetError('the episode has no frames')
    if not (np.isfinite(episode.fps) and episode.fps > 0):
        raise DatasetError(f'the frame rate must be positive, got {episode.fps}')
    keypoints, valid = episode.keypoints_world, episode.keypoints_valid
    poses = episode.T_world_from_camera
    for name, array, expected in (
        ('keypoints', keypoints, (length, HAND_KEYPOINTS, 3)),
        ('keypoint validity', valid, (length, HAND_KEYPOINTS)),
        ('camera poses', poses, (length, 4, 4)),
    ):
        if array.shape != expected:
            raise DatasetError(f'{name} must have shape {expected}, got {array.shape}')
    if not np.isfinite(keypoints[valid]).all():
        frame = int(np.flatnonzero((~np.isfinite(keypoints).all(-1) & valid).any(-1))[0])
        raise DatasetError(f'keypoints are not finite, first at frame {frame}')
    if not np.isfinite(poses).all():
        frame = int(np.flatnonzero(~np.isfinite(poses).all((-1, -2)))[0])
        raise DatasetError(f'camera poses are not finite, first at frame {frame}')
    rotations = poses[:, :3, :3]
    off = np.abs(rotations @ rotations.swapaxes(-1, -2) - np.eye(3)).max((-1, -2))
    wrong = (off > 1e-3) | (np.linalg.det(rotations) < 0) | (poses[:, 3] != [0, 0, 0, 1]).any(-1)
    if wrong.any():
        frame = int(np.flatnonzero(wrong)[0])
        raise DatasetError(
            f'camera poses must be rotation and translation, they are not at frame {frame}'
        )
    objects = episode.objects
    if objects is not None and len(objects.in_contact) != length:
        raise DatasetError(f'objects have {len(objects.in_contact)} frames, not {length}')
