"""Pictures of what a model expects: rollouts, counterfactual actions, action transfer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from dexwm.data.actions import ACTION_ROWS, ActionOptions, camera_path, conditioning
from dexwm.data.batch import Batch, assemble
from dexwm.data.episode import HAND_KEYPOINTS, RIGHT_HAND, EpisodeDataset
from dexwm.data.frame_table import FrameTable, input_camera
from dexwm.data.latent_cache import input_pictures
from dexwm.data.moved_objects import moved_since_start
from dexwm.data.windows import evaluation_windows
from dexwm.evaluation.errors import EvaluationError
from dexwm.geometry.camera import CameraIntrinsics
from dexwm.geometry.rotations import inverse_pose, transform_points
from dexwm.model.world_model import WorldModel

ATOMIC_STEP = 0.01
"""How far the hand moves per frame in a counterfactual action, metres (appendix D)."""

# In the camera's optical frame: x right, y down, z forward.
ATOMIC_ACTIONS: dict[str, tuple[float, float, float]] = {
    'up': (0, -1, 0),
    'down': (0, 1, 0),
    'left': (-1, 0, 0),
    'right': (1, 0, 0),
    'forward': (0, 0, 1),
    'back': (0, 0, -1),
}
"""Directions in which all keypoints of the right hand are shifted, as the camera sees them."""

_COLUMN_WIDTH = 1.9
_DPI = 130
_LABEL = 0.25


@dataclass(frozen=True)
class PictureWindow:
    """A window with its pictures.

    Attributes:
        name: Its episode and first frame.
        images: (T + 1, H, W, 3) uint8, input pictures of the encoder.
        batch: The window (batch of 1), without latents.
        camera: The camera of the input pictures.
    """

    name: str
    images: NDArray[np.uint8]
    batch: Batch
    camera: CameraIntrinsics


def load_window(
    dataset: EpisodeDataset,
    index: int,
    frames: NDArray[np.int64],
    image_size: tuple[int, int],
    options: ActionOptions,
) -> PictureWindow:
    """Reads a window of an episode.

    Args:
        dataset: The episodes.
        index: Which of them.
        frames: (T + 1,) its frames.
        image_size: Rows and columns of the input picture.
        options: What the model is told about a step.

    Raises:
        DatasetError: If the episode cannot be read.
    """
    episode = dataset[index]
    batch = assemble(
        FrameTable.of_episode(episode, image_size),
        frames[None],
        options,
        fps=[episode.fps],
        supervised=[episode.keypoints_supervised],
        episode=[index],
        frame_indices=frames[None],
    )
    name = f'{episode.name}, frame {frames[0]}'
    images = input_pictures(episode, image_size, frames)
    return PictureWindow(name, images, batch, input_camera(episode.intrinsics, image_size))


def choose_windows(
    dataset: EpisodeDataset,
    model: WorldModel,
    count: int,
    seed: int,
    steps: int = 20,
    seconds: float = 4.0,
) -> list[PictureWindow]:
    """Draws windows at random, each of another episode; first those in which an object moves.

    Args:
        dataset: The episodes.
        model: For the size of the pictures and what it is told.
        count: How many.
        seed: Of the choice.
        steps: Later frames of a window.
        seconds: Time from the first to the last.

    Raises:
        DatasetError: If no episode is long enough, or one cannot be read.
        EvaluationError: If there are fewer windows than wanted.
    """
    episodes = [dataset[i] for i in range(len(dataset))]
    lengths, rates = [each.length for each in episodes], [each.fps for each in episodes]
    numbers, frames = evaluation_windows(lengths, rates, seed, steps + 1, seconds)
    order = np.random.default_rng(seed).permutation(len(numbers))
    chosen: list[PictureWindow] = []
    still: list[PictureWindow] = []
    for i in order:
        if len(chosen) == count:
            break
        window = load_window(
            dataset, int(numbers[i]), frames[i], model.encoder.image_size, model.config.action
        )
        batch = window.batch
        moved = moved_since_start(batch.object_pixels.numpy(), batch.object_valid.numpy())
        (chosen if moved[:, -1].any() else still).append(window)
    chosen += still[: count - len(chosen)]
    if len(chosen) < count:
        raise EvaluationError(f'{count} windows are wanted, the data has only {len(chosen)}')
    return chosen


class PictureMaker:
    """Draws what a model with a decoder expects."""

    def __init__(self, model: WorldModel, columns: int = 5, dots: bool = False) -> None:
        """Takes a model.

        Args:
            model: The model.
            columns: Later frames that a picture shows, evenly spaced, the last included.
            dots: Mark keypoints: the true ones in the camera's pictures, and what the model's head
                reads in the others, of keypoints that are visible when the window begins.

        Raises:
            EvaluationError: If the model has no decoder.
        """
        if model.decoder is None:
            raise EvaluationError(
                f'{model.config.name} has no decoder, so what it predicts cannot be shown: train '
                'one on the same encoder (docs/training.md)'
            )
        self._model = model
        self._columns = columns
        self._dots = dots
        self._device = next(model.parameters()).device

    def rollouts(self, windows: Sequence[PictureWindow], path: Path) -> None:
        """Draws predictions below what happened (figure 13).

        Args:
            windows: What happened, all with the same times.
            path: The PNG file.
        """
        rows = []
        for window in windows:
            predicted = self._rollout(window, window.batch.actions)
            rows += [
                _Row(f'camera: {window.name}', window.images, self._true_points(window)),
                self._row(window, 'decoded true latents', self._encode(window.images)),
                self._row(window, 'predicted', predicted),
            ]
        self._save(rows, windows[0], path)

    def counterfactuals(self, window: PictureWindow, path: Path) -> None:
        """Draws what would follow if the right hand moved along each axis (figures 7 and 14).

        Args:
            window: Its first frame is where all of them start.
            path: The PNG file.
        """
        rows = []
        for name, direction in ATOMIC_ACTIONS.items():
            actions = atomic_actions(direction, window.batch.action_rows.shape[1])
            predicted = self._rollout(window, told(window, actions, self._model.config.action))
            label = f'{name}, {100 * ATOMIC_STEP:g} cm a frame'
            rows.append(self._row(window, label, predicted))
        self._save(rows, window, path)

    def transfer(self, reference: PictureWindow, start: PictureWindow, path: Path) -> None:
        """Draws the actions of one window from the first frame of another (figure 15).

        Args:
            reference: Where the actions are from.
            start: Where they are done.
            path: The PNG file.
        """
        actions = reference.batch.action_rows[0].numpy()
        transferred = self._rollout(start, told(start, actions, self._model.config.action))
        rows = [
            _Row(f'camera: {reference.name}', reference.images, self._true_points(reference)),
            self._row(reference, 'predicted', self._rollout(reference, reference.batch.actions)),
            self._row(start, f'same actions: {start.name}', transferred),
        ]
        self._save(rows, reference, path)

    @torch.no_grad()
    def _rollout(self, window: PictureWindow, actions: Tensor) -> Tensor:
        """Latents (T + 1, P, D): the first frame's, then the predicted ones."""
        observed = self._encode(window.images[:1])[:, None]
        none = actions[:, :0].to(self._device)
        predicted = self._model.rollout(observed, none, actions.to(self._device))
        return torch.cat([observed, predicted], 1)[0]

    def _encode(self, images: NDArray[np.uint8]) -> Tensor:
        return self._model.encode(torch.from_numpy(images).to(self._device))

    @torch.no_grad()
    def _row(self, window: PictureWindow, label: str, latents: Tensor) -> _Row:
        pictures = self._model.decode(latents).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
        if not self._dots:
            return _Row(label, pictures, None)
        points = self._model.keypoint_pixels(latents).cpu().numpy()
        visible = window.batch.keypoint_valid[0, 0].numpy()
        return _Row(label, pictures, np.where(visible[:, None], points, np.nan))

    def _true_points(self, window: PictureWindow) -> NDArray[np.float32] | None:
        if not self._dots:
            return None
        visible = window.batch.keypoint_valid[0].numpy()
        return np.where(visible[..., None], window.batch.keypoint_pixels[0].numpy(), np.nan)

    def _save(self, rows: Sequence[_Row], window: PictureWindow, path: Path) -> None:
        seconds = window.batch.seconds[0].numpy()
        shown = np.linspace(0, len(seconds) - 1, self._columns + 1).round().astype(int)
        height, width = self._model.encoder.image_size
        size = (_COLUMN_WIDTH * len(shown), (_COLUMN_WIDTH * height / width + _LABEL) * len(rows))
        figure = Figure(figsize=size, layout='constrained')
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(rows), len(shown), squeeze=False)
        for axes, row in zip(grid, rows, strict=True):
            axes[0].set_title(row.label, loc='left', fontsize=8)
            for cell, frame in zip(axes, shown, strict=True):
                # The decoder's pictures may be smaller than the encoder's.
                cell.imshow(row.pictures[frame], extent=(-0.5, width - 0.5, height - 0.5, -0.5))
                if row.points is not None:
                    cell.scatter(*row.points[frame].T, s=4, c='lime')
                cell.set_xlim(-0.5, width - 0.5)
                cell.set_ylim(height - 0.5, -0.5)
                cell.set_xticks([])
                cell.set_yticks([])
        for cell, frame in zip(grid[-1], shown, strict=True):
            cell.set_xlabel(f'{seconds[frame]:.1f} s', fontsize=8)
        figure.savefig(path, dpi=_DPI)


def atomic_actions(direction: tuple[float, float, float], steps: int) -> NDArray[np.float32]:
    """Actions that shift the right hand, all keypoints alike, and nothing else (steps, 44, 3)."""
    actions = np.zeros((steps, ACTION_ROWS, 3), np.float32)
    actions[:, RIGHT_HAND] = ATOMIC_STEP * np.array(direction)
    return actions


def follow(keypoints: NDArray[np.float32], actions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where actions (T, 44, 3) lead keypoints (42, 3): (T + 1, 42, 3), metres."""
    shifts = np.cumsum(actions[:, :HAND_KEYPOINTS], axis=0)
    return np.concatenate([keypoints[None], keypoints + shifts])


def told(window: PictureWindow, actions: NDArray[np.float32], options: ActionOptions) -> Tensor:
    """What a model is told of actions that start where a window starts.

    Args:
        window: The window.
        actions: (T, 44, 3), see `dexwm.data.actions.window_actions`.
        options: What the model is told.

    Returns:
        (1, T, A).

    Raises:
        EvaluationError: If the options do not say where other hands would be in the picture.
    """
    if options.pixels and options.camera_frame != 'first_camera':
        raise EvaluationError(
            "with the camera's motion in the frame of the data set it cannot be said where other "
            "hands would be in the picture: use a model of action.camera_frame 'first_camera'"
        )
    keypoints = follow(window.batch.keypoints_camera[0, 0].numpy(), actions)
    in_camera = transform_points(inverse_pose(camera_path(actions)), keypoints)
    # Unknown keypoints are at the origin.
    shown = keypoints.any(axis=-1) & (in_camera[..., 2] > 0)
    pixels = np.nan_to_num(window.camera.project(in_camera))
    seen = np.concatenate([pixels, in_camera[..., 2:]], axis=-1) * shown[..., None]
    return torch.from_numpy(conditioning(actions, keypoints, seen, options))[None]


@dataclass(frozen=True)
class _Row:
    """One line of a picture: (T + 1, h, w, 3) pictures and points (T + 1, 12, 2), or none."""

    label: str
    pictures: NDArray[np.generic]
    points: NDArray[np.float32] | None
