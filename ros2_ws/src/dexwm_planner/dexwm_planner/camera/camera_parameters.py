"""The camera node's parameters, and the source they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterUninitializedException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, QoSReliabilityPolicy

from dexwm_franka_bringup.cell_config import CellConfigError, load_cell_config
from dexwm_planner.camera.sources.calibration import (
    CalibrationError,
    CameraCalibration,
    load_calibration,
)
from dexwm_planner.camera.sources.device import DeviceSettings, DeviceSource
from dexwm_planner.camera.sources.file import FileSource
from dexwm_planner.camera.sources.sim import SimSource
from dexwm_planner.camera.sources.source import CameraConfigError, CameraSource

SOURCES = ('sim', 'device', 'file')
"""What the parameter `source` may be."""

_RELIABILITY = {
    'reliable': QoSReliabilityPolicy.RELIABLE,
    'best_effort': QoSReliabilityPolicy.BEST_EFFORT,
}


class CameraParameters:
    """Declares the parameters on a node and reads them.

    Attributes:
        source: sim, device or file.
        width: columns published; 0 as the source gives them.
        height: rows published; 0 as the source gives them.
        rate: pictures a second.
        frame_id: the camera's optical frame.
        qos: of the picture and its CameraInfo.
        retry_period: pause before a source that failed is opened again, s.

    Raises:
        CameraConfigError: where a parameter is missing or contradicts another.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self.source: str = self._needed(
            'source', f'{", ".join(SOURCES)}: where pictures come from'
        )
        if self.source not in SOURCES:
            raise CameraConfigError(
                f'unknown source {self.source!r}: it is one of {", ".join(SOURCES)}'
            )
        self.width: int = self._whole(
            'width', 392, 0, 8192, 'columns published; 0 with height 0: as the source gives them'
        )
        self.height: int = self._whole(
            'height', 224, 0, 8192, 'rows published; 0 with width 0: as the source gives them'
        )
        if (self.width == 0) != (self.height == 0):
            raise CameraConfigError(
                f'width {self.width} and height {self.height}: either both are 0 or none is'
            )
        self.rate: float = self._real('rate', 10.0, 0.1, 120.0, 'pictures a second, at most')
        self.retry_period: float = self._real(
            'retry_period', 1.0, 0.1, 60.0, 'pause before a failed source is opened again, s'
        )
        self.frame_id: str = self._text(
            'frame_id', 'head_camera_optical_frame', 'optical frame of the camera'
        )
        self.qos = self._qos()
        self._calibration_url: str = self._text(
            'camera_info_url',
            '',
            'calibration for device and file: path, file:// or package:// of a camera_info '
            'YAML file; empty: not calibrated, K is zero',
        )

    def make_source(self) -> CameraSource:
        """The source that the parameters ask for, not opened.

        Raises:
            CameraConfigError: where it can never work so.
        """
        if self.source == 'sim':
            return self._sim()
        return self._device() if self.source == 'device' else self._file()

    def _sim(self) -> SimSource:
        name = self._text(
            'sim.name', '', "name of the cell's shared state; empty: this user's and ROS domain's"
        )
        cell = self._text(
            'sim.cell_config', '', "the cell's YAML file; empty: the one of dexwm_franka_bringup"
        )
        if self._calibration_url:
            raise CameraConfigError(
                'camera_info_url does not go with source sim: its intrinsics stand in the '
                "cell's configuration"
            )
        try:
            intrinsics = load_cell_config(cell or None).camera.intrinsics
        except CellConfigError as error:
            raise CameraConfigError(str(error)) from error
        height, width = self.height or intrinsics.height, self.width or intrinsics.width
        return SimSource(name, intrinsics, height, width, self.rate)

    def _device(self) -> DeviceSource:
        settings = DeviceSettings(
            path=self._needed('device.path', 'device: /dev/video0, /dev/v4l/by-id/... or 0'),
            width=self._whole('device.width', 1280, 1, 8192, 'columns the device takes'),
            height=self._whole('device.height', 720, 1, 8192, 'rows the device takes'),
            rate=self._real('device.rate', 30.0, 1.0, 240.0, 'frames a second the device takes'),
            mjpg=self._flag('device.mjpg', True, 'whether frames come from the device as JPEG'),
        )
        return DeviceSource(settings, self.rate, self._calibration())

    def _file(self) -> FileSource:
        path = self._needed('file.path', 'picture or video')
        at_end = self._text('file.at_end', 'loop', "after a video's last frame: loop or hold")
        return FileSource(Path(path).expanduser(), at_end, self.rate, self._calibration())

    def _calibration(self) -> CameraCalibration | None:
        if not self._calibration_url:
            return None
        try:
            return load_calibration(_path_of(self._calibration_url))
        except CalibrationError as error:
            raise CameraConfigError(str(error)) from error

    def _qos(self) -> QoSProfile:
        reliability = self._text('qos.reliability', 'reliable', ' or '.join(_RELIABILITY))
        if reliability not in _RELIABILITY:
            raise CameraConfigError(
                f'qos.reliability is {" or ".join(_RELIABILITY)}, not {reliability!r}'
            )
        depth = self._whole('qos.depth', 1, 1, 100, 'pictures kept for a slow subscriber')
        return QoSProfile(depth=depth, reliability=_RELIABILITY[reliability])

    def _declare(self, name: str, default: Any, description: str, **ranges: Any) -> Any:
        descriptor = ParameterDescriptor(description=description, read_only=True, **ranges)
        return self._node.declare_parameter(name, default, descriptor).value

    def _needed(self, name: str, description: str) -> str:
        self._declare(name, Parameter.Type.STRING, description)
        try:
            return str(self._node.get_parameter(name).value)
        except ParameterUninitializedException:
            raise CameraConfigError(
                f'parameter {name} is not set ({description}): -p {name}:=...'
            ) from None

    def _text(self, name: str, default: str, description: str) -> str:
        return str(self._declare(name, default, description))

    def _flag(self, name: str, default: bool, description: str) -> bool:
        return bool(self._declare(name, default, description))

    def _whole(self, name: str, default: int, low: int, high: int, description: str) -> int:
        limits = [IntegerRange(from_value=low, to_value=high)]
        return int(self._declare(name, default, description, integer_range=limits))

    def _real(self, name: str, default: float, low: float, high: float, description: str) -> float:
        limits = [FloatingPointRange(from_value=low, to_value=high)]
        return float(self._declare(name, default, description, floating_point_range=limits))


def _path_of(url: str) -> Path:
    """The file that a path, a file:// or a package:// URL names."""
    parts = urlparse(url)
    if parts.scheme == 'package':
        try:
            return Path(get_package_share_directory(parts.netloc)) / unquote(parts.path[1:])
        except PackageNotFoundError as error:
            raise CameraConfigError(
                f'camera_info_url {url}: there is no package {parts.netloc}'
            ) from error
    if parts.scheme == 'file':
        return Path(unquote(parts.path))
    if parts.scheme:
        raise CameraConfigError(
            f'camera_info_url {url}: give a path, or a file:// or package:// URL'
        )
    return Path(url).expanduser()
