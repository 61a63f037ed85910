"""What the robot knows when a plan is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dexwm.geometry.camera import CameraIntrinsics
from dexwm.robot.joints import JOINTS


class ObservationError(ValueError):
    """Raised for parts of an observation that don't fit one another or can't be true."""


@dataclass(frozen=True)
class Observation:
    """A picture and the robot's posture at the time it was taken.

    Attributes:
        image: (H, W, 3) uint8 RGB, the camera's picture before any preprocessing.
        joint_positions: (23,) in canonical order, rad.
        intrinsics: the camera of this picture, H rows and W columns.
        T_base_from_camera: (4, 4) pose of the camera's optical frame in the robot's base, metres.

    Raises:
        ObservationError: where shapes or types are wrong, a number is not finite, the intrinsics
            are another picture's or the pose is not rigid.
    """

    image: NDArray[np.uint8]
    joint_positions: NDArray[np.float64]
    intrinsics: CameraIntrinsics
    T_base_from_camera: NDArray[np.float64]

    def __post_init__(self) -> None:
        image = np.asarray(self.image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ObservationError(
                f'the picture must be (H, W, 3) uint8 RGB, got {image.shape} of {image.dtype}'
            )
        size = (self.intrinsics.height, self.intrinsics.width)
        if image.shape[:2] != size:
            raise ObservationError(
                f'the picture has {image.shape[1]}x{image.shape[0]} pixels, its intrinsics are '
                f'for {size[1]}x{size[0]}: use the calibration made at this size'
            )
        positions = np.array(self.joint_positions, dtype=np.float64)
        if positions.shape != (len(JOINTS),):
            raise ObservationError(
                f'joint_positions must be ({len(JOINTS)},), got {positions.shape}'
            )
        if not np.isfinite(positions).all():
            bad = [JOINTS[i] for i in np.flatnonzero(~np.isfinite(positions))]
            raise ObservationError(f'the positions of {", ".join(bad)} are not finite')
        pose = np.array(self.T_base_from_camera, dtype=np.float64)
        if pose.shape != (4, 4):
            raise ObservationError(f'T_base_from_camera must be (4, 4), got {pose.shape}')
        rotation = pose[:3, :3]
        rigid = (
            np.isfinite(pose).all()
            and np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4)
            and np.linalg.det(rotation) > 0
            and np.array_equal(pose[3], [0, 0, 0, 1])
        )
        if not rigid:
            raise ObservationError(f'T_base_from_camera is no rigid transform: {pose.tolist()}')
        for name, value in (
            ('image', image),
            ('joint_positions', positions),
            ('T_base_from_camera', pose),
        ):
            object.__setattr__(self, name, value)
