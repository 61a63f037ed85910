"""Actions: how hands and camera move from one frame of a window to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
        subset: which rows of the action are told. 'full': all 44; 'nwm': the camera's only;
            'peva': wrists and camera (ablations of the paper's section 4.2).
        euler: how the camera's angles are subtracted. 'wrapped': to [-pi, pi); 'reference':
            modulo 2 pi as in the published code, where a small negative turn becomes almost 2 pi.
        camera_frame: where the camera's motion is expressed. 'first_camera': in the window's
            first camera, as the keypoints; 'world': in the data set's own frame as in the
            published code, which depends on where a headset was switched on.

    Raises:
        DatasetError: for a name that is none of these.
    """

    absolute: bool = False
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
        """The length of the conditioning vector: 132, or 258 with `absolute`, for 'full'."""
        keypoints = len(self.keypoint_rows)
        return 3 * (keypoints + 2 + (keypoints if self.absolute else 0))


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


def conditioning(
    actions: ArrayLike, keypoints_start: ArrayLike, options: ActionOptions
) -> NDArray[np.float32]:
    """What the model is told about each step.

    Args:
        actions: (..., 44, 3), see `window_actions`.
        keypoints_start: (..., 42, 3), the keypoints at the start of each step in the camera of
            the window's first frame, metres. Only `absolute` uses them.
        options: what is told.

    Returns:
        (..., options.dim).
    """
    rows = [*options.keypoint_rows, CAMERA_TRANSLATION_ROW, CAMERA_ROTATION_ROW]
    told = np.asarray(actions, np.float32)[..., rows, :]
    if options.absolute:
        start = np.asarray(keypoints_start, np.float32)[..., list(options.keypoint_rows), :]
        told = np.concatenate([told, start], axis=-2)
    return told.reshape(*told.shape[:-2], options.dim)
