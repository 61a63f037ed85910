"""What a plan is to reach: a picture, or hand keypoints where there is none."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dexwm.geometry.heatmaps import HEATMAP_KEYPOINTS
from dexwm.robot.keypoints import KEYPOINTS

_SMALLEST_SPREAD = 2.0
"""Standard deviation of grey values below which a picture shows nothing."""


class GoalError(ValueError):
    """Raised for a goal that can't be read, or that can't be planned for."""


@dataclass(frozen=True)
class PictureGoal:
    """A picture of how things should look, from where the camera stands now.

    Attributes:
        image: (H, W, 3) uint8 RGB. It may have another size than the camera's picture, of the
            same aspect ratio.

    Raises:
        GoalError: where it is no such array, or shows nothing.
    """

    image: NDArray[np.uint8]

    def __post_init__(self) -> None:
        object.__setattr__(self, 'image', _checked_picture(self.image, 'the goal picture'))

    @property
    def digest(self) -> str:
        """SHA-256 of size and pixels, hexadecimal."""
        return picture_digest(self.image)


@dataclass(frozen=True)
class ObjectCrop:
    """A part of a goal picture, and where it belongs.

    Attributes:
        image: (h, w, 3) uint8 RGB, as large as the object is to appear in the camera's picture.
        column: the first column of the camera's picture that it covers.
        row: the first row.

    Raises:
        GoalError: where it is no such array, shows nothing, or begins outside the picture.
    """

    image: NDArray[np.uint8]
    column: int
    row: int

    def __post_init__(self) -> None:
        object.__setattr__(self, 'image', _checked_picture(self.image, 'the object crop'))
        if self.column < 0 or self.row < 0:
            raise GoalError(
                f'the object crop begins at column {self.column}, row {self.row}: '
                'both must be at least 0'
            )


@dataclass(frozen=True)
class KeypointGoal:
    """Where the hand is to be, without a goal picture. NaN says that a point is unknown.

    Attributes:
        points_base: (21, 3) the hand's keypoints in the robot's base, metres; order as in
            `dexwm.robot.keypoints.KEYPOINTS`.
        pixels: (12, 2) the heat map keypoints (`dexwm.geometry.heatmaps.HEATMAP_KEYPOINTS`) in
            the camera's picture; the robot's is the right hand, the last six.
        object_crop: how an object is to look, compared in the latents of the tokens that it
            covers.

    Raises:
        GoalError: where a shape is wrong, or nothing about the right hand is known and there is
            no crop.
    """

    points_base: NDArray[np.float64] | None = None
    pixels: NDArray[np.float64] | None = None
    object_crop: ObjectCrop | None = None

    def __post_init__(self) -> None:
        points = self._checked('points_base', (len(KEYPOINTS), 3))
        pixels = self._checked('pixels', (len(HEATMAP_KEYPOINTS), 2))
        hand = [] if pixels is None else [pixels[len(HEATMAP_KEYPOINTS) // 2 :]]
        hand += [] if points is None else [points]
        known = any(np.isfinite(values).all(axis=-1).any() for values in hand)
        if not known and self.object_crop is None:
            raise GoalError(
                'the goal says nothing: give points_base or pixels of the right hand, '
                'or an object crop'
            )

    @classmethod
    def from_message(cls, values: Sequence[float]) -> KeypointGoal:
        """The goal of `points_base` as messages have it, row by row.

        Raises:
            GoalError: as the class, and where their number is no multiple of 3.
        """
        if len(values) % 3:
            raise GoalError(f'{len(values)} numbers are no points of 3')
        return cls(points_base=np.asarray(values, np.float64).reshape(-1, 3))

    def to_message(self) -> list[float]:
        """What `from_message` reads; empty without `points_base`."""
        return [] if self.points_base is None else self.points_base.ravel().tolist()

    @property
    def digest(self) -> str:
        """SHA-256 of all that is given, hexadecimal."""
        crop = self.object_crop
        place = None if crop is None else np.array([crop.column, crop.row])
        picture = None if crop is None else crop.image
        return _digest(self.points_base, self.pixels, place, picture)

    def _checked(self, name: str, shape: tuple[int, int]) -> NDArray[np.float64] | None:
        value = getattr(self, name)
        if value is None:
            return None
        array = np.array(value, dtype=np.float64)
        if array.shape != shape:
            raise GoalError(f'{name} must be {shape}, got {array.shape}')
        if np.isinf(array).any():
            raise GoalError(f'{name} must be finite, or NaN where unknown')
        object.__setattr__(self, name, array)
        return array


Goal = PictureGoal | KeypointGoal


def read_goal_picture(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Reads a goal picture.

    Grey pictures become RGB, an alpha channel is dropped, 16 bits become 8.

    Args:
        path: of a PNG, JPEG or any other file that OpenCV reads.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        GoalError: where the file is missing, is no picture, ends early, or shows nothing.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise GoalError(f'there is no goal picture {path}') from error
    except OSError as error:
        raise GoalError(f'the goal picture {path} cannot be read: {error}') from error
    # OpenCV fills the lost part of a truncated file with grey and only prints a warning.
    if _is_truncated(data):
        raise GoalError(f'the goal picture {path} ends early: copy it again')
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise GoalError(f'{path} is no picture that can be read: save it as PNG or JPEG')
    rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    return _checked_picture(rgb, f'the goal picture {path}')


def picture_digest(image: NDArray[np.uint8]) -> str:
    """SHA-256 of size and pixels of a picture (H, W, 3) uint8, hexadecimal."""
    return _digest(image)


def _is_truncated(data: bytes) -> bool:
    """Whether a PNG or JPEG lacks its end."""
    if data.startswith(b'\x89PNG\r\n\x1a\n'):
        return b'IEND' not in data[-64:]
    if data.startswith(b'\xff\xd8'):
        return b'\xff\xd9' not in data[-64:]
    return False


def _checked_picture(image: NDArray[np.uint8], what: str) -> NDArray[np.uint8]:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise GoalError(f'{what} must be (H, W, 3) uint8 RGB, got {image.shape} of {image.dtype}')
    if image.mean(axis=2).std() < _SMALLEST_SPREAD:
        raise GoalError(
            f'{what} shows nothing: all its pixels are (nearly) the same colour, '
            f'{image.reshape(-1, 3).mean(axis=0).round().astype(int).tolist()}'
        )
    return np.ascontiguousarray(image)


def _digest(*arrays: NDArray[np.generic] | None) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        if array is None:
            digest.update(b'none;')
        else:
            digest.update(f'{array.shape}{array.dtype.str};'.encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
