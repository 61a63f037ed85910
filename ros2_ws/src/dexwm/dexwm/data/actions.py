"""Actions: how hands and camera move from one frame of a window to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from dexwm.data.episode import HAND_KEYPOINTS, KEYPOINTS_PER_HAND, DatasetError
from dexwm.geometry.rotations import euler_xyz, relative_pose, wrap_angle

CAMERA_TRANSLATION_ROW = HAND_KEYPOINTS
CAMERA_ROTATION_ROW = HAND_KEYPOINTS + 1
ACTION_ROWS = HAND_KEYPOINTS + 2

Subset = Literal['full', 'nwm', 'peva']
Euler = Literal['wrapped', 'reference']
CameraFrame = Literal['first_camera', 'world']


@dataclass(frozen=True)
class ActionOptions:
    """What a model is told about a step.

    Attributes:
        absolute: also where the keypoints are at the start of the step, in the first frame's
            camera. Small models need it: differences alone say nothing about a hand that the
            latents show badly. The paper's models do without.
        pixels: also where the pictures show the keypoints before and after the step, which a
            predictor with hand maps wants. The paper's models do without.
        subset: which rows of the action are told. 'full': all 44; 'nwm': the camera's only;
            'peva': wrists and camera (ablations of the paper's section 4.4; its PEVA* is told the
            upper body as well, of which most data say nothing).
        euler: how the camera's angles are subtracted. 'wrapped': to [-pi, pi); 'reference':
            modulo 2 pi as in the published code, where a small negative turn becomes almost 2 pi.
        camera_frame: where the camera's motion is expressed. 'first_camera': in the window's
            first camera, as the keypoints; 'world': in the data set's own frame as in the
            published code, which depends on where a headset was switched on.

    Raises:
        DatasetError: for a name that is none of these.
    """

    absolute: bool = False
    pixels: bool = False
    subset: Subset = 'full'
    euler: Euler = 'wrapped'
    camera_frame: CameraFrame = 'first_camera'

    def __post_init__(self) -> None:
        for name, value, names in (
            ('subset', self.subset, get_args(Subset)),
            ('euler', self.euler, get_args(Euler)),
            ('camera_frame', self.camera_frame, get_args(CameraFrame)),
        ):
            if value not in names:
                raise DatasetError(f'{name} must be one of {", ".join(names)}, got {value!r}')

    @property
    def keypoint_rows(self) -> tuple[int, ...]:
        """The rows of keypoints that are told."""
        if self.subset == 'nwm':
            return ()
        if self.subset == 'peva':
            return (0, KEYPOINTS_PER_HAND)
        return tuple(range(HAND_KEYPOINTS))

    @property
    def dim(self) -> int:
        """The length of the conditioning vector.

        For 'full' 132, with `absolute` 126 more, with `pixels` 252 more.
        """
        return 3 * (2 + len(self.keypoint_rows) * (1 + self.absolute + 2 * self.pixels))


def window_actions(
    keypoints_camera: ArrayLike,
    known: ArrayLike,
    T_world_from_camera: ArrayLike,
    options: ActionOptions,
) -> NDArray[np.float32]:
    """The actions between successive frames of windows (paper, section 3.1).

    Args:
        keypoints_camera: (..., F, 42, 3), in the camera of each window's first frame, metres.
        known: (..., F, 42) which keypoints are known; a step to or from an unknown one is zero.
        T_world_from_camera: (..., F, 4, 4), metres.
        options: the frame and the subtraction of the camera's motion.

    Returns:
        (..., F - 1, 44, 3): differences of the 42 keypoints and of the camera's position, metres,
        and of its Euler angles 'xyz', rad.
    """
    poses = np.asarray(T_world_from_camera, dtype=np.float64)
    if options.camera_frame == 'first_camera':
        poses = relative_pose(poses[..., :1, :, :], poses)
    keypoints = np.asarray(keypoints_camera)
    turns = np.diff(euler_xyz(poses[..., :3, :3]), axis=-2)
    shape = (*keypoints.shape[:-3], keypoints.shape[-3] - 1, ACTION_ROWS, 3)
    actions = np.empty(shape, np.float32)
    both = np.asarray(known)[..., 1:, :] & np.asarray(known)[..., :-1, :]
    actions[..., :HAND_KEYPOINTS, :] = np.where(both[..., None], np.diff(keypoints, axis=-3), 0.0)
    actions[..., CAMERA_TRANSLATION_ROW, :] = np.diff(poses[..., :3, 3], axis=-2)
    actions[..., CAMERA_ROTATION_ROW, :] = (
        wrap_angle(turns) if options.euler == 'wrapped' else turns % (2 * np.pi)
    )
    return actions


def camera_path(actions: ArrayLike) -> NDArray[np.float64]:
    """Where actions lead a camera.

    Args:
        actions: (T, 44, 3), see `window_actions`, of `camera_frame` 'first_camera'.

    Returns:
        (T + 1, 4, 4), T_first_from_camera; the first is the identity.
    """
    rows = np.asarray(actions, np.float64)
    path = np.tile(np.eye(4), (len(rows) + 1, 1, 1))
    path[1:, :3, 3] = np.cumsum(rows[:, CAMERA_TRANSLATION_ROW], axis=0)
    turns = np.cumsum(rows[:, CAMERA_ROTATION_ROW], axis=0)
    path[1:, :3, :3] = Rotation.from_euler('xyz', turns).as_matrix()
    return path


def conditioning(
    actions: ArrayLike, keypoints: ArrayLike, seen: ArrayLike, options: ActionOptions
) -> NDArray[np.float32]:
    """What the model is told about each step.

    Args:
        actions: (..., F - 1, 44, 3), see `window_actions`.
        keypoints: (..., F, 42, 3), the keypoints in the camera of the window's first frame,
            metres. Only `absolute` uses them.
        seen: (..., F, 42, 3), where the pictures show them: columns and rows (pixels of the input
            picture) and depths (m); zero where unknown or behind the camera. Only `pixels` uses
            them.
        options: what is told.

    Returns:
        (..., F - 1, options.dim).
    """
    hands = list(options.keypoint_rows)
    rows = [*hands, CAMERA_TRANSLATION_ROW, CAMERA_ROTATION_ROW]
    parts = [np.asarray(actions, np.float32)[..., rows, :]]
    if options.absolute:
        parts.append(np.asarray(keypoints, np.float32)[..., :-1, hands, :])
    if options.pixels:
        shown = np.asarray(seen, np.float32)[..., hands, :]
        parts += [shown[..., :-1, :, :], shown[..., 1:, :, :]]
    told = np.concatenate(parts, axis=-2)
    return told.reshape(*told.shape[:-2], options.dim)
