"""What is known about each frame besides its picture, ready to be gathered in batches."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.data.episode import HAND_KEYPOINTS, DatasetError, EpisodeSource, check_episode
from dexwm.geometry.camera import CameraIntrinsics
from dexwm.geometry.preprocess import ResizeAndCrop
from dexwm.geometry.rotations import inverse_pose, transform_points

SEEN = 0.2
"""Share of an object that must not be hidden for the picture to tell where it is."""


@dataclass(frozen=True)
class FrameTable:
    """Truth of N frames as arrays; pixels are those of the input picture.

    Objects have one column per kind, the same for all frames of a table, so that a column means
    the same thing everywhere.

    Attributes:
        keypoints_world: (N, 42, 3) float32, metres; zero where unknown.
        keypoint_known: (N, 42) bool.
        T_world_from_camera: (N, 4, 4) float64.
        keypoint_pixels: (N, 42, 2) float32; zero where not in front of the camera.
        keypoint_visible: (N, 42) bool: known, in front of the camera and inside the picture. It
            may be hidden behind something.
        keypoint_depths: (N, 42) float32, metres along the camera's axis; zero where unknown.
        object_names: the K kinds.
        object_pixels: (N, K, 2) float32, the objects' centres.
        object_visible: (N, K) bool: there, in front of the camera, inside the picture, and at
            least ``SEEN`` of it not hidden.
        object_contact: (N, K) bool: the hand touches it.
    """

    keypoints_world: NDArray[np.float32]
    keypoint_known: NDArray[np.bool_]
    T_world_from_camera: NDArray[np.float64]
    keypoint_pixels: NDArray[np.float32]
    keypoint_visible: NDArray[np.bool_]
    keypoint_depths: NDArray[np.float32]
    object_names: tuple[str, ...]
    object_pixels: NDArray[np.float32]
    object_visible: NDArray[np.bool_]
    object_contact: NDArray[np.bool_]

    @classmethod
    def of_episode(
        cls,
        episode: EpisodeSource,
        image_size: tuple[int, int],
        object_names: Sequence[str] | None = None,
    ) -> FrameTable:
        """The truth of one episode.

        Args:
            episode: where it is from.
            image_size: rows and columns of the input picture.
            object_names: kinds to make columns for; None: the episode's own.

        Raises:
            DatasetError: where the episode's arrays are not usable, or it has an object of
                another kind.
        """
        check_episode(episode)
        camera = input_camera(episode.intrinsics, image_size)
        T_camera_from_world = inverse_pose(episode.T_world_from_camera)
        known = episode.keypoints_valid
        world = np.where(known[..., None], episode.keypoints_world, 0).astype(np.float32)
        in_camera = transform_points(T_camera_from_world, world)
        pixels, visible = _project(camera, in_camera)
        objects = episode.objects
        names = tuple(objects.names if objects is not None else ())
        columns = names if object_names is None else tuple(object_names)
        unknown = set(names) - set(columns)
        if unknown:
            raise DatasetError(f'no column for objects {", ".join(sorted(unknown))}')
        shape = (episode.length, len(columns))
        object_pixels = np.zeros((*shape, 2), np.float32)
        object_visible, object_contact = np.zeros(shape, bool), np.zeros(shape, bool)
        if objects is not None and names:
            places = [columns.index(name) for name in names]
            centres = transform_points(T_camera_from_world, objects.centres_world)
            object_pixels[:, places], object_visible[:, places] = _project(camera, centres)
            object_visible[:, places] &= objects.visible_share >= SEEN
            object_contact[:, places] = objects.in_contact
        return cls(
            keypoints_world=world,
            keypoint_known=np.asarray(known, bool),
            T_world_from_camera=np.asarray(episode.T_world_from_camera, np.float64),
            keypoint_pixels=pixels,
            keypoint_visible=visible & known,
            keypoint_depths=np.where(known, in_camera[..., 2], 0).astype(np.float32),
            object_names=columns,
            object_pixels=object_pixels,
            object_visible=object_visible,
            object_contact=object_contact,
        )

    def __len__(self) -> int:
        return len(self.keypoints_world)

    def keypoints_seen(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(..., 42, 3) pixels and depths (m) of frames (...); zero unless in front of the camera.

        A keypoint beyond the picture's edge has a place there, too.
        """
        depths = self.keypoint_depths[rows][..., None]
        seen = np.concatenate([self.keypoint_pixels[rows], depths], axis=-1)
        return np.where(depths > 0, seen, 0.0).astype(np.float32)

    @classmethod
    def concatenate(cls, tables: Sequence[FrameTable]) -> FrameTable:
        """One table of all frames, its objects the union of all kinds, sorted.

        Raises:
            DatasetError: where there is no table.
        """
        if not tables:
            raise DatasetError('there are no frames')
        names = sorted({name for table in tables for name in table.object_names})
        tables = [table.with_objects(names) for table in tables]
        return cls(
            object_names=tuple(names),
            **{
                name: np.concatenate([getattr(table, name) for table in tables])
                for name in _ARRAYS
            },
        )

    def with_objects(self, object_names: Sequence[str]) -> FrameTable:
        """The same frames with these kinds as columns.

        Raises:
            DatasetError: where a kind of this table would be lost.
        """
        columns = tuple(object_names)
        if columns == self.object_names:
            return self
        lost = set(self.object_names) - set(columns)
        if lost:
            raise DatasetError(f'no column for objects {", ".join(sorted(lost))}')
        places = [columns.index(name) for name in self.object_names]
        values = {name: getattr(self, name) for name in _ARRAYS}
        for name in ('object_pixels', 'object_visible', 'object_contact'):
            wide = np.zeros((len(self), len(columns), *values[name].shape[2:]), values[name].dtype)
            wide[:, places] = values[name]
            values[name] = wide
        return FrameTable(object_names=columns, **values)

    def rows(self, rows: ArrayLike) -> FrameTable:
        """The frames at these places, a flat list or a slice."""
        return FrameTable(
            object_names=self.object_names, **{name: getattr(self, name)[rows] for name in _ARRAYS}
        )

    def digest(self) -> str:
        """SHA-256 of poses and keypoints: tells whether an episode is still the same."""
        digest = hashlib.sha256()
        for array in (self.keypoints_world, self.T_world_from_camera, self.keypoint_pixels):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Writes the table as .npz.

        Raises:
            OSError: where the disk does not take it.
        """
        with path.open('wb') as file:
            np.savez(
                file,
                object_names=np.array(self.object_names, dtype=np.str_),
                **{name: getattr(self, name) for name in _ARRAYS},
            )

    @classmethod
    def load(cls, path: Path) -> FrameTable:
        """Reads what `save` wrote.

        Raises:
            DatasetError: where the file is missing, damaged or inconsistent.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                names = tuple(str(name) for name in file['object_names'])
                table = cls(object_names=names, **{name: file[name] for name in _ARRAYS})
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DatasetError(f'{path} cannot be read: {error}') from error
        n, k = len(table), len(names)
        expected = {
            'keypoints_world': (n, HAND_KEYPOINTS, 3),
            'keypoint_known': (n, HAND_KEYPOINTS),
            'T_world_from_camera': (n, 4, 4),
            'keypoint_pixels': (n, HAND_KEYPOINTS, 2),
            'keypoint_visible': (n, HAND_KEYPOINTS),
            'keypoint_depths': (n, HAND_KEYPOINTS),
            'object_pixels': (n, k, 2),
            'object_visible': (n, k),
            'object_contact': (n, k),
        }
        for name, shape in expected.items():
            if getattr(table, name).shape != shape:
                raise DatasetError(
                    f'{path}: {name} must have shape {shape}, got {getattr(table, name).shape}'
                )
        return table


_ARRAYS = tuple(field.name for field in fields(FrameTable) if field.name != 'object_names')


def input_camera(intrinsics: CameraIntrinsics, image_size: tuple[int, int]) -> CameraIntrinsics:
    """The camera of input pictures of `image_size` rows and columns."""
    step = ResizeAndCrop.to_cover(intrinsics.width, intrinsics.height, *image_size)
    return step.apply_to_intrinsics(intrinsics)


def _project(
    camera: CameraIntrinsics, points_camera: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Pixels (zero behind the camera) and whether they are inside the picture."""
    pixels = camera.project(points_camera)
    # Pixel centres are whole numbers: the picture begins half a pixel before the first.
    inside = (pixels > -0.5).all(-1) & (pixels < [camera.width - 0.5, camera.height - 0.5]).all(-1)
    return np.nan_to_num(pixels, nan=0.0).astype(np.float32), np.asarray(inside)
