"""Batches as models take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dexwm.data.actions import ActionOptions, conditioning, window_actions
from dexwm.data.episode import Problem
from dexwm.data.frame_table import FrameTable
from dexwm.geometry.heatmaps import HEATMAP_KEYPOINTS
from dexwm.geometry.rotations import inverse_pose, transform_points


class _Tensors:
    """What batches have in common: fields that are tensors, or not there."""

    @classmethod
    def concatenate(cls, batches: Sequence[Self]) -> Self:
        """One batch of all that these hold.

        Raises:
            RuntimeError: where their shapes differ.
        """
        if len(batches) == 1:
            return batches[0]
        values = {
            field.name: torch.cat([getattr(batch, field.name) for batch in batches])
            for field in fields(cls)  # type: ignore[arg-type]
            if isinstance(getattr(batches[0], field.name), Tensor)
        }
        return replace(batches[0], **values)  # type: ignore[type-var]

    def to(self, device: torch.device | str) -> Self:
        """The same batch on a device."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))  # type: ignore[arg-type]
        moved = {
            name: value.to(device, non_blocking=True)
            for name, value in values
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class Batch(_Tensors):
    """B windows of F frames; K kinds of objects; pixels are those of the input picture.

    Attributes:
        latents: (B, F, P, D) float32; None where there are pictures.
        images: (B, F, H, W, 3) uint8, RGB; None where there are latents.
        actions: (B, F - 1, A) what the model is told, see `dexwm.data.actions.conditioning`.
        action_rows: (B, F - 1, 44, 3) all of the actions, metres and rad.
        keypoints_camera: (B, F, 42, 3) in the first frame's camera, metres; zero where unknown.
        keypoints_seen: (B, F, 42, 3) where the pictures show them: pixels, and depths in metres;
            zero where unknown or behind the camera.
        keypoint_pixels: (B, F, 12, 2) of the heat maps' keypoints.
        keypoint_valid: (B, F, 12) bool, whether they are known and inside the picture.
        keypoint_depths: (B, F, 12), metres along the camera's axis.
        keypoint_supervised: (B,) bool, whether they are a hand's that is in the pictures.
        object_pixels: (B, F, K, 2) of the objects' centres.
        object_valid: (B, F, K) bool, whether they are there and inside the picture.
        object_contact: (B, F, K) bool, whether the hand touches them.
        seconds: (B, F) since the first frame.
        source: (B,) which data set of a mixture.
        episode: (B,) which of its episodes.
        frame_indices: (B, F) which of its frames.
        problems: what could not be read, and was replaced by another window.
    """

    latents: Tensor | None
    images: Tensor | None
    actions: Tensor
    action_rows: Tensor
    keypoints_camera: Tensor
    keypoints_seen: Tensor
    keypoint_pixels: Tensor
    keypoint_valid: Tensor
    keypoint_depths: Tensor
    keypoint_supervised: Tensor
    object_pixels: Tensor
    object_valid: Tensor
    object_contact: Tensor
    seconds: Tensor
    source: Tensor
    episode: Tensor
    frame_indices: Tensor
    problems: tuple[Problem, ...] = ()

    def __len__(self) -> int:
        return len(self.actions)

    @classmethod
    def concatenate(cls, batches: Sequence[Batch]) -> Batch:
        """One batch of all windows.

        Raises:
            RuntimeError: where their shapes differ.
        """
        problems = tuple(problem for batch in batches for problem in batch.problems)
        return replace(super().concatenate(batches), problems=problems)


@dataclass(frozen=True)
class FrameBatch(_Tensors):
    """B single frames; K kinds of objects; pixels are those of the input picture.

    Attributes:
        features: (B, P, D) float16, as the cache holds them.
        pictures: (B, h, w, 3) uint8, small; None where the cache has none.
        keypoint_pixels: (B, 42, 2).
        keypoint_valid: (B, 42) bool, known and inside the picture.
        keypoint_depths: (B, 42), metres.
        keypoint_supervised: (B,) bool, whether they are a hand's that is in the picture.
        object_pixels: (B, K, 2).
        object_valid: (B, K) bool.
        object_contact: (B, K) bool.
    """

    features: Tensor
    pictures: Tensor | None
    keypoint_pixels: Tensor
    keypoint_valid: Tensor
    keypoint_depths: Tensor
    keypoint_supervised: Tensor
    object_pixels: Tensor
    object_valid: Tensor
    object_contact: Tensor

    def keypoints(self, which: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Some of the hands' keypoints.

        Args:
            which: C of the 42.

        Returns:
            (B, C) whether each counts: known, a hand's that is in the picture, and inside it;
            (B, C, 2) pixels; and (B, C) depths, metres.
        """
        index = list(which)
        valid = self.keypoint_valid[:, index] & self.keypoint_supervised[:, None]
        return valid, self.keypoint_pixels[:, index], self.keypoint_depths[:, index]

    def __len__(self) -> int:
        return len(self.features)


def assemble(
    table: FrameTable,
    rows: NDArray[np.int64],
    options: ActionOptions,
    *,
    fps: ArrayLike,
    supervised: ArrayLike,
    episode: ArrayLike,
    frame_indices: NDArray[np.int64],
    latents: NDArray[np.float16] | None = None,
    images: NDArray[np.uint8] | None = None,
) -> Batch:
    """Gathers B windows of F frames from a table.

    Args:
        table: truth of the frames.
        rows: (B, F) places in the table.
        options: what the model is told.
        fps: (B,) frames per second of each window's episode.
        supervised: (B,) whether its keypoints are a hand's that is in the pictures.
        episode: (B,) its number.
        frame_indices: (B, F) the frames' numbers in it.
        latents: (B, F, P, D), or
        images: (B, F, H, W, 3).
    """
    poses = table.T_world_from_camera[rows]
    T_first_from_world = inverse_pose(poses[:, 0])
    known = table.keypoint_known[rows]
    keypoints = transform_points(T_first_from_world[:, None], table.keypoints_world[rows])
    keypoints = np.where(known[..., None], keypoints, 0).astype(np.float32)
    actions = window_actions(keypoints, known, poses, options)
    seen = table.keypoints_seen(rows)
    heatmap_keypoints = list(HEATMAP_KEYPOINTS)
    seconds = (frame_indices - frame_indices[:, :1]) / np.asarray(fps, np.float64)[:, None]
    return Batch(
        latents=None if latents is None else torch.from_numpy(latents).float(),
        images=None if images is None else torch.from_numpy(images),
        actions=torch.from_numpy(conditioning(actions, keypoints, seen, options)),
        action_rows=torch.from_numpy(actions),
        keypoints_camera=torch.from_numpy(keypoints),
        keypoints_seen=torch.from_numpy(seen),
        keypoint_pixels=torch.from_numpy(table.keypoint_pixels[rows][:, :, heatmap_keypoints]),
        keypoint_valid=torch.from_numpy(table.keypoint_visible[rows][:, :, heatmap_keypoints]),
        keypoint_depths=torch.from_numpy(table.keypoint_depths[rows][:, :, heatmap_keypoints]),
        keypoint_supervised=torch.from_numpy(np.asarray(supervised, bool)),
        object_pixels=torch.from_numpy(table.object_pixels[rows]),
        object_valid=torch.from_numpy(table.object_visible[rows]),
        object_contact=torch.from_numpy(table.object_contact[rows]),
        seconds=torch.from_numpy(seconds.astype(np.float32)),
        source=torch.zeros(len(rows), dtype=torch.int64),
        episode=torch.from_numpy(np.asarray(episode, np.int64)),
        frame_indices=torch.from_numpy(frame_indices),
    )
