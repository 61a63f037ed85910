"""What the world model sees in a goal picture, read once a goal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dexwm.geometry.preprocess import ResizeAndCrop
from dexwm.model.world_model import WorldModel
from dexwm.planning.goal import GoalError, PictureGoal

_ASPECT_TOLERANCE = 0.01


@dataclass(frozen=True)
class SeenGoal:
    """A goal picture as the model sees it.

    Attributes:
        latents: (P, D).
        pixels: (12, 2) of the heat map keypoints in the input picture.
        depths: (12,) along the camera's axis, metres; None where the model tells none.
    """

    latents: Tensor
    pixels: Tensor
    depths: Tensor | None


class GoalReader:
    """Reads goal pictures; keeps what it saw in the last, so that replanning costs nothing.

    Keypoints are the mean of nine readings, of the picture shifted by a third of a token to all
    sides: a token's latent tells them less exactly at some places in it than at others. It is not
    in the paper.
    """

    def __init__(self, model: WorldModel, device: torch.device) -> None:
        """Keeps a model that is on a device already."""
        self._model = model
        self._device = device
        rows, _ = model.encoder.grid
        third = round(model.encoder.image_size[0] / rows / 3)
        ways = (-third, 0, third)
        self._shifts = [(columns, rows) for rows in ways for columns in ways]
        self._last: tuple[tuple[str, int, int], SeenGoal] | None = None

    def read(self, goal: PictureGoal, preprocess: ResizeAndCrop) -> SeenGoal:
        """Reads a goal picture.

        Args:
            goal: the picture.
            preprocess: from the camera's pictures to the model's.

        Raises:
            GoalError: where the picture has another aspect ratio than the camera's.
        """
        key = (goal.digest, preprocess.source_width, preprocess.source_height)
        if self._last is None or self._last[0] != key:
            self._last = key, self._seen(_fitted(goal, preprocess))
        return self._last[1]

    @torch.no_grad()
    def _seen(self, image: NDArray[np.uint8]) -> SeenGoal:
        model, shifts = self._model, self._shifts
        images = np.stack([_shifted(image, *shift) for shift in shifts])
        latents = model.encode(torch.from_numpy(images).to(self._device))
        _, pixels, depths = model.keypoints(latents)
        pixels = pixels - pixels.new_tensor(shifts)[:, None]
        return SeenGoal(
            latents=latents[shifts.index((0, 0))].clone(),
            pixels=pixels.mean(dim=0),
            depths=None if depths is None else depths.mean(dim=0),
        )


def _shifted(image: NDArray[np.uint8], columns: int, rows: int) -> NDArray[np.uint8]:
    """A picture (H, W, 3) moved to the right and down; its edges are repeated."""
    height, width = image.shape[:2]
    row = np.clip(np.arange(height) - rows, 0, height - 1)
    column = np.clip(np.arange(width) - columns, 0, width - 1)
    return image[row[:, None], column]


def _fitted(goal: PictureGoal, preprocess: ResizeAndCrop) -> NDArray[np.uint8]:
    """The goal picture in the size of the model's input."""
    height, width = goal.image.shape[:2]
    camera = (preprocess.source_width, preprocess.source_height)
    if abs(width / height / (camera[0] / camera[1]) - 1) > _ASPECT_TOLERANCE:
        raise GoalError(
            f'the goal picture has {width}x{height} pixels, the camera {camera[0]}x{camera[1]}: '
            'another aspect ratio shows another part of the scene. Take the goal picture with '
            'this camera'
        )
    own = ResizeAndCrop.to_cover(width, height, preprocess.height, preprocess.width)
    return own.apply(goal.image)
