"""The cell's configuration: head camera, mount of the hand, boxes to keep out of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ament_index_python.packages import get_package_share_directory
from numpy.typing import NDArray

from dexwm.geometry.camera import CameraIntrinsics
from dexwm.robot.box import Box
from dexwm_franka_bringup.camera_calibration import (
    CameraCalibrationError,
    CameraCalibrationFile,
    load_camera_calibration,
)
from dexwm_franka_bringup.camera_frames import optical_pose

PACKAGE = 'dexwm_franka_bringup'

CAMERA_FRAME = 'head_camera_optical_frame'
"""Optical frame of the head camera (x right, y down, z forward)."""


class CellConfigError(ValueError):
    """The cell's configuration file cannot be used."""


@dataclass(frozen=True)
class CameraConfig:
    """Pose and intrinsics of the head camera.

    Attributes:
        T_base_from_camera: Pose (4, 4) of the optical frame in ``base``, m.
        intrinsics: Intrinsics of the published picture.
    """

    T_base_from_camera: NDArray[np.float64]
    intrinsics: CameraIntrinsics


@dataclass(frozen=True)
class MountConfig:
    """How the hand sits on the arm's flange.

    Attributes:
        thickness: Distance from flange to the hand's wrist face, m.
        yaw: Turn of the hand about the flange's z axis, rad.
    """

    thickness: float
    yaw: float


@dataclass(frozen=True)
class CellConfig:
    """The cell around the arm.

    Attributes:
        path: File this was read from; the robot description reads the same one.
        camera: Head camera.
        mount: Mount of the hand.
        boxes: Counter and other boxes that the robot must not touch.
        calibration: File that the camera's pose was taken from instead, if it was.
    """

    path: Path
    camera: CameraConfig
    mount: MountConfig
    boxes: tuple[Box, ...]
    calibration: CameraCalibrationFile | None = None

    def box(self, name: str) -> Box:
        """Return the box called ``name``.

        Raises:
            CellConfigError: No box has that name; the message lists those there are.
        """
        for box in self.boxes:
            if box.name == name:
                return box
        raise CellConfigError(
            f'{self.path}: no box is called {name!r}; there are {[box.name for box in self.boxes]}'
        )


def load_cell_config(
    path: str | Path | None = None, camera_calibration: str | Path | None = None
) -> CellConfig:
    """Read the cell's configuration.

    Args:
        path: YAML file; the package's ``config/cell.yaml`` if not given.
        camera_calibration: File of the calibration tool, whose camera pose replaces the one in
            the configuration; the configuration's if not given.

    Raises:
        CellConfigError: A file is absent, lacks a key, has an unknown one, or has a value that
            makes no sense.
    """
    if not path:
        path = Path(get_package_share_directory(PACKAGE)) / 'config' / 'cell.yaml'
    path = Path(path).absolute()
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise CellConfigError(f'cannot read the cell configuration {path}: {error}') from error
    except yaml.YAMLError as error:
        raise CellConfigError(f'{path} is not valid YAML: {error}') from error
    try:
        config = _parse(path, content)
    except (TypeError, ValueError) as error:
        raise CellConfigError(f'{path}: {error}') from error
    if not camera_calibration:
        return config
    try:
        calibration = load_camera_calibration(camera_calibration)
    except CameraCalibrationError as error:
        raise CellConfigError(str(error)) from error
    camera = replace(config.camera, T_base_from_camera=calibration.T_base_from_camera)
    return replace(config, camera=camera, calibration=calibration)


def _parse(path: Path, content: Any) -> CellConfig:
    root = _section(content, 'the file', {'camera', 'mount', 'boxes'})
    camera = _section(
        root['camera'], 'camera', {'xyz', 'rpy', 'width', 'height', 'fx', 'fy', 'cx', 'cy'}
    )
    mount = _section(root['mount'], 'mount', {'thickness', 'yaw'})
    if not isinstance(root['boxes'], list):
        raise ValueError('boxes must be a list')
    boxes = []
    for i, entry in enumerate(root['boxes']):
        box = _section(entry, f'boxes[{i}]', {'name', 'size', 'position'})
        boxes.append(Box(str(box['name']), box['size'], box['position']))
    names = [box.name for box in boxes]
    if len(set(names)) != len(names):
        raise ValueError(f'names of boxes must be unique, got {names}')

    return CellConfig(
        path=path,
        camera=CameraConfig(
            optical_pose(_vector(camera, 'xyz'), _vector(camera, 'rpy')),
            CameraIntrinsics(
                width=_count(camera, 'width'),
                height=_count(camera, 'height'),
                **{key: _number(camera, key) for key in ('fx', 'fy', 'cx', 'cy')},
            ),
        ),
        mount=MountConfig(_number(mount, 'thickness'), _number(mount, 'yaw')),
        boxes=tuple(boxes),
    )


def _section(content: Any, name: str, keys: set[str]) -> dict[str, Any]:
    if not isinstance(content, dict) or set(content) != keys:
        found = sorted(map(str, content)) if isinstance(content, dict) else repr(content)
        raise ValueError(f'{name} must have exactly the keys {sorted(keys)}, found {found}')
    return content


def _number(section: dict[str, Any], key: str) -> float:
    value = float(section[key])
    if not np.isfinite(value):
        raise ValueError(f'{key} must be finite, got {value}')
    return value


def _count(section: dict[str, Any], key: str) -> int:
    if not isinstance(section[key], int):
        raise ValueError(f'{key} must be a whole number, got {section[key]!r}')
    return section[key]


def _vector(section: dict[str, Any], key: str) -> NDArray[np.float64]:
    values = np.array(section[key], dtype=np.float64)
    if values.shape != (3,) or not np.isfinite(values).all():
        raise ValueError(f'{key} must be 3 finite numbers, got {section[key]}')
    return values
