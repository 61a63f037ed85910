"""The pinhole camera and how its matrix follows a resize and a crop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


class CameraIntrinsicsError(ValueError):
    """Raised for intrinsics that no camera has, or a crop outside the picture."""


@dataclass(frozen=True)
class CameraIntrinsics:
    """A pinhole camera without distortion.

    Pixel convention, everywhere in this project: OpenCV's and ROS's, whole numbers are the
    *centres* of pixels. The centre of the top left pixel is (0, 0), the picture reaches from -0.5
    to width - 0.5, and a camera that looks through the middle of its picture has
    ``cx = (width - 1) / 2``. K from `cameracalibrator` or `cv2.calibrateCamera` is in it already.
    A data set that puts the *corner* of the top left pixel at (0, 0) (there, the middle of the
    picture is ``width / 2``) needs 0.5 subtracted from cx and cy.

    Attributes:
        width: columns of the picture this belongs to.
        height: rows of the picture this belongs to.
        fx: focal length in pixels along a row.
        fy: focal length in pixels along a column.
        cx: principal point's column, pixels.
        cy: principal point's row, pixels.

    Raises:
        CameraIntrinsicsError: where a size or focal length is not positive, or a value is not
            finite.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise CameraIntrinsicsError(
                f'a picture of {self.width}x{self.height} pixels has no content: '
                'width and height must be at least 1'
            )
        values = {'fx': self.fx, 'fy': self.fy, 'cx': self.cx, 'cy': self.cy}
        wrong = [f'{name}={value}' for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise CameraIntrinsicsError(f'intrinsics must be finite, got {", ".join(wrong)}')
        if self.fx <= 0 or self.fy <= 0:
            raise CameraIntrinsicsError(
                f'focal lengths must be positive, got fx={self.fx}, fy={self.fy}'
            )

    @classmethod
    def from_matrix(cls, width: int, height: int, K: ArrayLike) -> CameraIntrinsics:
        """Reads fx, fy, cx, cy from a 3x3 camera matrix.

        Args:
            width: columns of the picture the matrix belongs to.
            height: rows of it.
            K: (3, 3), pixels.

        Raises:
            CameraIntrinsicsError: where K is not [[fx, 0, cx], [0, fy, cy], [0, 0, 1]].
        """
        matrix = np.asarray(K, dtype=np.float64)
        if matrix.shape != (3, 3):
            raise CameraIntrinsicsError(f'K must be 3x3, got shape {matrix.shape}')
        fx, fy, cx, cy = (float(matrix[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
        intrinsics = cls(width, height, fx, fy, cx, cy)
        if not np.array_equal(matrix, intrinsics.K):
            raise CameraIntrinsicsError(
                f'K must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got {matrix.tolist()}'
            )
        return intrinsics

    @property
    def K(self) -> NDArray[np.float64]:
        """The camera matrix, (3, 3), pixels."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])

    def resized(self, width: int, height: int) -> CameraIntrinsics:
        """The same camera after its whole picture was resized to width x height.

        The picture's edges stay its edges (as `cv2.resize` does it), so a pixel centre moves
        from u to (u + 0.5) * scale - 0.5.

        Raises:
            CameraIntrinsicsError: where the new size is not positive.
        """
        scale_x, scale_y = width / self.width, height / self.height
        return CameraIntrinsics(
            width,
            height,
            self.fx * scale_x,
            self.fy * scale_y,
            (self.cx + 0.5) * scale_x - 0.5,
            (self.cy + 0.5) * scale_y - 0.5,
        )

    def cropped(self, x: int, y: int, width: int, height: int) -> CameraIntrinsics:
        """The same camera after rows y to y+height and columns x to x+width were cut out.

        Raises:
            CameraIntrinsicsError: where the cut-out leaves the picture.
        """
        if x < 0 or y < 0 or x + width > self.width or y + height > self.height:
            raise CameraIntrinsicsError(
                f'cut-out of {width}x{height} at ({x}, {y}) leaves the picture of '
                f'{self.width}x{self.height}'
            )
        return CameraIntrinsics(width, height, self.fx, self.fy, self.cx - x, self.cy - y)

    def project(self, points_camera: ArrayLike) -> NDArray[np.float64]:
        """Projects points into the picture.

        Args:
            points_camera: (..., 3) in the camera's optical frame (x right, y down, z forward),
                metres.

        Returns:
            (..., 2) column and row of each point, pixels; NaN for points that are not in front
            of the camera (z <= 0). Points outside the picture keep their coordinates.

        Raises:
            ValueError: where the last axis is not 3 long.
        """
        points = np.asarray(points_camera, dtype=np.float64)
        if points.ndim == 0 or points.shape[-1] != 3:
            raise ValueError(f'points_camera must have shape (..., 3), got {points.shape}')
        z = np.where(points[..., 2] > 0, points[..., 2], np.nan)
        return np.stack(
            [
                self.fx * points[..., 0] / z + self.cx,
                self.fy * points[..., 1] / z + self.cy,
            ],
            axis=-1,
        )
