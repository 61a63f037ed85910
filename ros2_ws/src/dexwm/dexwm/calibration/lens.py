"""What a lens does to straight lines, and taking it out again."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.geometry.camera import CameraIntrinsics

COEFFICIENTS = {'plumb_bob': 5, 'rational_polynomial': 8, 'equidistant': 4}
"""Distortion models by the names of sensor_msgs, and how many coefficients each has."""

_UNDISTORTION = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 100, 1e-10)


class LensError(ValueError):
    """A distortion model that is not known, or coefficients that do not belong to it."""


@dataclass(frozen=True)
class Lens:
    """A camera's distortion, as sensor_msgs/CameraInfo gives it.

    Attributes:
        model: one of `COEFFICIENTS`.
        coefficients: as many as the model has.

    Raises:
        LensError: where they do not fit.
    """

    model: str = 'plumb_bob'
    coefficients: tuple[float, ...] = (0.0,) * 5

    def __post_init__(self) -> None:
        count = COEFFICIENTS.get(self.model)
        if count is None:
            raise LensError(
                f'unknown distortion model {self.model!r}: it is one of {", ".join(COEFFICIENTS)}'
            )
        if len(self.coefficients) != count or not np.isfinite(self.coefficients).all():
            raise LensError(
                f'{self.model} has {count} finite coefficients, got {self.coefficients}'
            )

    def undistorted(self, pixels: ArrayLike, intrinsics: CameraIntrinsics) -> NDArray[np.float64]:
        """Where points would be in the picture of the same camera without distortion.

        Args:
            pixels: (n, 2) columns and rows in the picture as it came.
            intrinsics: of that picture.

        Returns:
            (n, 2) columns and rows.
        """
        points = np.asarray(pixels, dtype=np.float64).reshape(-1, 1, 2)
        K, D = intrinsics.K, np.asarray(self.coefficients)
        if self.model == 'equidistant':
            rays = cv2.fisheye.undistortPoints(points, K, D)
        else:
            rays = cv2.undistortPoints(points, K, D, criteria=_UNDISTORTION)
        focal, centre = (intrinsics.fx, intrinsics.fy), (intrinsics.cx, intrinsics.cy)
        return np.asarray(rays, dtype=np.float64).reshape(-1, 2) * focal + centre

    def distorted(self, pixels: ArrayLike, intrinsics: CameraIntrinsics) -> NDArray[np.float64]:
        """The inverse of `undistorted`.

        Args:
            pixels: (n, 2) columns and rows in the picture without distortion.
            intrinsics: of either picture.

        Returns:
            (n, 2) columns and rows in the picture as it comes.
        """
        points = np.asarray(pixels, dtype=np.float64).reshape(-1, 2)
        rays = (points - (intrinsics.cx, intrinsics.cy)) / (intrinsics.fx, intrinsics.fy)
        K, D = intrinsics.K, np.asarray(self.coefficients)
        if self.model == 'equidistant':
            moved = cv2.fisheye.distortPoints(rays[:, None], K, D)
        else:
            rays = np.hstack([rays, np.ones((len(rays), 1))])
            moved = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), K, D)[0]
        return np.asarray(moved, dtype=np.float64).reshape(-1, 2)
