"""A camera's calibration as ROS keeps it in YAML files and sends it as CameraInfo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from dexwm.geometry.camera import CameraIntrinsics
from dexwm.geometry.preprocess import ResizeAndCrop

_COEFFICIENTS = {'plumb_bob': 5, 'rational_polynomial': 8, 'equidistant': 4}
"""How many distortion coefficients each model of sensor_msgs/distortion_models.hpp has."""


class CalibrationError(ValueError):
    """Raised for a calibration file that cannot be used."""


@dataclass(frozen=True)
class CameraCalibration:
    """What sensor_msgs/CameraInfo says of a camera.

    Attributes:
        intrinsics: of the raw (distorted) picture, K.
        distortion_model: plumb_bob, rational_polynomial or equidistant.
        distortion: (n,) coefficients of the model, D.
        rectification: (3, 3) rotation to the rectified camera, R.
        projection: (3, 4) projection into the rectified picture, P.
    """

    intrinsics: CameraIntrinsics
    distortion_model: str
    distortion: NDArray[np.float64]
    rectification: NDArray[np.float64]
    projection: NDArray[np.float64]

    def __post_init__(self) -> None:
        count = _COEFFICIENTS.get(self.distortion_model)
        if count is None:
            raise CalibrationError(
                f'unknown distortion model {self.distortion_model!r}: this understands '
                f'{", ".join(_COEFFICIENTS)}'
            )
        for name, array, shape in (
            ('distortion', self.distortion, (count,)),
            ('rectification', self.rectification, (3, 3)),
            ('projection', self.projection, (3, 4)),
        ):
            if array.shape != shape or not np.isfinite(array).all():
                raise CalibrationError(
                    f'{name} of a {self.distortion_model} camera must be {shape} finite '
                    f'numbers, got {array.tolist()}'
                )

    @classmethod
    def pinhole(cls, intrinsics: CameraIntrinsics) -> CameraCalibration:
        """The calibration of a camera without distortion."""
        projection = np.hstack([intrinsics.K, np.zeros((3, 1))])
        return cls(intrinsics, 'plumb_bob', np.zeros(5), np.eye(3), projection)

    def resized_and_cropped(self, step: ResizeAndCrop) -> CameraCalibration:
        """The calibration of the pictures that `step` makes; distortion stays as it is.

        Distortion acts on rays, before K, so that neither a resize nor a crop changes it.
        """
        return CameraCalibration(
            step.apply_to_intrinsics(self.intrinsics),
            self.distortion_model,
            self.distortion,
            self.rectification,
            step.matrix @ self.projection,
        )

    def to_message(self, header: Header) -> CameraInfo:
        """The CameraInfo of a picture with this header."""
        return CameraInfo(
            header=header,
            width=self.intrinsics.width,
            height=self.intrinsics.height,
            distortion_model=self.distortion_model,
            d=self.distortion.tolist(),
            k=self.intrinsics.K.ravel(),
            r=self.rectification.ravel(),
            p=self.projection.ravel(),
        )


def load_calibration(path: Path) -> CameraCalibration:
    """Reads the YAML file that camera_calibration and camera_info_manager write.

    Args:
        path: file with image_width, image_height, camera_matrix, distortion_model,
            distortion_coefficients, rectification_matrix and projection_matrix.

    Raises:
        CalibrationError: where the file is missing or is not such a file.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise CalibrationError(f'cannot read the calibration {path}: {error.strerror}') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CalibrationError(f'{path} is not YAML: {error}') from error
    try:
        return CameraCalibration(
            CameraIntrinsics.from_matrix(
                int(_value(content, 'image_width')),
                int(_value(content, 'image_height')),
                _matrix(content, 'camera_matrix').reshape(3, 3),
            ),
            str(_value(content, 'distortion_model')),
            _matrix(content, 'distortion_coefficients'),
            _matrix(content, 'rectification_matrix').reshape(3, 3),
            _matrix(content, 'projection_matrix').reshape(3, 4),
        )
    except (ValueError, TypeError) as error:
        raise CalibrationError(f'{path}: {error}') from error


def _value(content: Any, key: str) -> Any:
    if not isinstance(content, dict) or key not in content:
        raise CalibrationError(f'{key} is missing')
    return content[key]


def _matrix(content: Any, key: str) -> NDArray[np.float64]:
    values = np.asarray(_value(_value(content, key), 'data'), dtype=np.float64)
    if values.ndim != 1:
        raise CalibrationError(f'{key}: data must be a flat list of numbers')
    return values
