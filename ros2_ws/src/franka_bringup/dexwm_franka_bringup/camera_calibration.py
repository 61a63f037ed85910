"""The file in which a calibrated camera pose is kept, with its date."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from dexwm.calibration.camera_pose import CameraPose
from dexwm.geometry.camera import CameraIntrinsics
from dexwm_franka_bringup.camera_frames import body_pose, optical_pose

DEFAULT_MAX_AGE = timedelta(days=30)
"""Age from which a calibration is called stale."""

_HEADER = """\
# Where the head camera is, as `ros2 run dexwm_planner calibrate` found it. xyz and rpy place
# head_camera_link in base, as in cell.yaml (m, rad). Nodes take it as camera_calibration:=FILE.
"""
# A clock that is a little off must not make a calibration of the future.
_CLOCK_TOLERANCE = timedelta(minutes=10)


class CameraCalibrationError(ValueError):
    """A calibration file that cannot be used; the message says why."""


@dataclass(frozen=True)
class CameraCalibrationFile:
    """A calibrated camera pose as it was read.

    Attributes:
        path: where from.
        date: when it was taken.
        T_base_from_camera: (4, 4) pose of the optical frame in the arm's base, m.
    """

    path: Path
    date: datetime
    T_base_from_camera: NDArray[np.float64]

    def stale(self, now: datetime, max_age: timedelta = DEFAULT_MAX_AGE) -> str:
        """What to tell about its age; empty if it is fresh.

        Args:
            now: with a time zone.
            max_age: from when on it is stale.
        """
        age = now - self.date
        if age < -_CLOCK_TOLERANCE:
            return (
                f'the camera calibration {self.path} is dated {self.date:%Y-%m-%d %H:%M}, in the '
                "future: check this machine's clock"
            )
        if age > max_age:
            return (
                f'the camera calibration {self.path} is {age.days} days old (from '
                f'{self.date:%Y-%m-%d}): look at the overlay, and calibrate again'
            )
        return ''


def save_camera_calibration(
    path: Path,
    found: CameraPose,
    intrinsics: CameraIntrinsics,
    held_by: str,
    date: datetime,
) -> None:
    """Writes a calibration; one that is there is kept beside it with its time in the name.

    Args:
        path: YAML file.
        found: what was solved.
        intrinsics: of the pictures it was solved from.
        held_by: link that held the board.
        date: when, with a time zone.

    Raises:
        OSError: where it cannot be written.
    """
    xyz, rpy = body_pose(found.T_base_from_camera)
    content = {
        'date': date.astimezone(UTC).isoformat(timespec='seconds'),
        'camera': {
            'xyz': [round(float(v), 6) for v in xyz],
            'rpy': [round(float(v), 8) for v in rpy],
        },
        'picture': {
            'width': intrinsics.width,
            'height': intrinsics.height,
            **{key: round(getattr(intrinsics, key), 4) for key in ('fx', 'fy', 'cx', 'cy')},
        },
        'result': {
            'held_by': held_by,
            'views': len(found.view_rms),
            'left_out': len(found.outliers),
            'reprojection_rms_pixels': round(found.reprojection_rms, 4),
            'position_sigma_mm': round(1e3 * found.position_sigma, 3),
            'angle_sigma_degrees': round(float(np.degrees(found.angle_sigma)), 4),
            'board_scale': round(found.scale, 5),
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        was = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        path.rename(path.with_name(f'{path.stem}-{was:%Y%m%dT%H%M%S}{path.suffix}'))
    partial = path.with_name(path.name + '.partial')
    partial.write_text(_HEADER + yaml.safe_dump(content, sort_keys=False))
    partial.replace(path)


def load_camera_calibration(path: str | Path) -> CameraCalibrationFile:
    """Reads a calibration.

    Raises:
        CameraCalibrationError: The file is absent or is not such a file.
    """
    path = Path(path).expanduser().absolute()
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise CameraCalibrationError(
            f'cannot read the camera calibration {path}: {error}'
        ) from error
    except yaml.YAMLError as error:
        raise CameraCalibrationError(f'{path} is not valid YAML: {error}') from error
    try:
        camera = content['camera']
        pose = optical_pose(_vector(camera, 'xyz'), _vector(camera, 'rpy'))
        return CameraCalibrationFile(path, _date(content['date']), pose)
    except (KeyError, TypeError) as error:
        raise CameraCalibrationError(
            f'{path} is no camera calibration ({error}): it needs date, and camera with xyz and '
            'rpy, as the tool calibrate writes them'
        ) from error
    except ValueError as error:
        raise CameraCalibrationError(f'{path}: {error}') from error


def _date(value: Any) -> datetime:
    date = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    if date.tzinfo is None:
        raise ValueError(f'the date {value} has no time zone')
    return date


def _vector(section: dict[str, Any], key: str) -> NDArray[np.float64]:
    values = np.array(section[key], dtype=np.float64)
    if values.shape != (3,) or not np.isfinite(values).all():
        raise ValueError(f'{key} must be 3 finite numbers, got {section[key]}')
    return values
