"""A camera at the computer: Video4Linux through OpenCV."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2

from dexwm_planner.camera.sources.calibration import CameraCalibration
from dexwm_planner.camera.sources.source import (
    CameraConfigError,
    CameraSourceError,
    Frame,
    MalformedFrameError,
)

# Seconds after which OpenCV gives up on a device that is there but sends nothing; its own 10 s
# would delay a restart by as much. Read once, at the first frame.
os.environ.setdefault('OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT', '2')

_OLDEST_CAPTURE = 1.0
"""Age at which a capture time is taken for one of another clock, s."""


@dataclass(frozen=True)
class DeviceSettings:
    """What is asked of a Video4Linux device.

    Attributes:
        path: /dev/video0, a link such as /dev/v4l/by-id/..., or the number of the former.
        width: columns.
        height: rows.
        rate: frames a second that the device takes.
        mjpg: whether frames come as JPEG, which most USB cameras need for large frames at full
            rate.

    Raises:
        CameraConfigError: where path is empty or a number not positive.
    """

    path: str
    width: int
    height: int
    rate: float
    mjpg: bool

    def __post_init__(self) -> None:
        if not self.path:
            raise CameraConfigError('source device needs the device: /dev/video0, for example')
        if self.width < 1 or self.height < 1 or not self.rate > 0:
            raise CameraConfigError(
                f'a device cannot take {self.width}x{self.height} at {self.rate} Hz'
            )

    @property
    def file(self) -> Path:
        """The device's file."""
        return Path(f'/dev/video{self.path}' if self.path.isdigit() else self.path)


def open_v4l2(settings: DeviceSettings) -> cv2.VideoCapture:
    """Opens a device with these settings; the caller looks whether it did."""
    capture = cv2.VideoCapture(str(settings.file), cv2.CAP_V4L2)
    # The format first: which sizes and rates there are depends on it.
    if settings.mjpg:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*'MJPG'))
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, settings.width)
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.height)
    capture.set(cv2.CAP_PROP_FPS, settings.rate)
    # Frames that wait in the driver are old frames.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def capture_stamp(capture_ms: float, monotonic_ns: int, system_ns: int) -> int:
    """System time of a capture that the driver dated on the monotonic clock.

    Args:
        capture_ms: the driver's date, milliseconds on CLOCK_MONOTONIC; 0 where it gives none.
        monotonic_ns: that clock now, nanoseconds.
        system_ns: the system's clock now, nanoseconds.

    Returns:
        Nanoseconds of system time; now, where the driver's date is none or of another clock.
    """
    age_ns = monotonic_ns - round(capture_ms * 1e6)
    return system_ns - age_ns if 0 <= age_ns <= _OLDEST_CAPTURE * 1e9 else system_ns


class DeviceSource:
    """Takes frames from a device; gives out at most `rate` of them a second, the newest ones.

    The device is read without a pause, so that nothing waits in its queue; frames between those
    that are due are skipped without being decoded.
    """

    def __init__(
        self,
        settings: DeviceSettings,
        rate: float,
        calibration: CameraCalibration | None,
        open_capture: Callable[[DeviceSettings], cv2.VideoCapture] = open_v4l2,
    ) -> None:
        """Prepares; the device may be plugged in later.

        Args:
            settings: of the device.
            rate: frames to give out a second.
            calibration: the camera's at the device's size; None where nobody made one.
            open_capture: opens the device.

        Raises:
            CameraConfigError: where the calibration is for another size.
        """
        if calibration is not None:
            size = (calibration.intrinsics.width, calibration.intrinsics.height)
            if size != (settings.width, settings.height):
                raise CameraConfigError(
                    f'the device is to take {settings.width}x{settings.height}, the calibration '
                    f'is for {size[0]}x{size[1]}'
                )
        self._settings = settings
        self._period_ns = 1e9 / rate
        self._calibration = calibration
        self._open_capture = open_capture
        self._capture: cv2.VideoCapture | None = None
        self._due_ns = 0.0

    def open(self) -> None:
        """Opens the device with its settings. Raises as `CameraSource.open`."""
        self.close()
        file = self._settings.file
        if not file.exists():
            others = ', '.join(str(other) for other in sorted(Path('/dev').glob('video*')))
            raise CameraSourceError(
                f'there is no device {file} (there is: {others or "no /dev/video*"})'
            )
        if not os.access(file, os.R_OK | os.W_OK):
            raise CameraSourceError(
                f'no permission for {file}: sudo usermod -aG video $USER, then log in again'
            )
        capture = self._open_capture(self._settings)
        self._capture = capture
        if not capture.isOpened():
            self.close()
            raise CameraSourceError(
                f'{file} does not open: is it a camera, and does no other program use it?'
            )
        width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if (width, height) != (self._settings.width, self._settings.height):
            self.close()
            raise CameraSourceError(
                f'{file} takes {width}x{height}, not {self._settings.width}x'
                f'{self._settings.height}; v4l2-ctl --list-formats-ext -d {file} lists what it '
                'can take'
            )
        self._due_ns = 0.0

    def read(self) -> Frame:
        """The next frame that is due. Raises as `CameraSource.read`."""
        capture = self._capture
        assert capture is not None, 'read before open'
        while True:
            if not capture.grab():
                raise CameraSourceError(f'{self._settings.file} stopped: was it unplugged?')
            stamp_ns = capture_stamp(
                capture.get(cv2.CAP_PROP_POS_MSEC), time.monotonic_ns(), time.time_ns()
            )
            if self._due_ns - stamp_ns > 2.0 * self._period_ns:
                self._due_ns = stamp_ns  # The clock was set back.
            # A quarter of a period early is on time: the device's rate need not divide ours.
            if stamp_ns >= self._due_ns - self._period_ns / 4:
                break
        if stamp_ns - self._due_ns > self._period_ns:
            self._due_ns = stamp_ns  # The first, or the device is slower: the grid starts anew.
        self._due_ns += self._period_ns
        decoded, image = capture.retrieve()
        if not decoded or image is None:
            raise MalformedFrameError(f'{self._settings.file} sent a frame that does not decode')
        if image.ndim != 3 or image.shape[2] != 3:
            raise MalformedFrameError(
                f'{self._settings.file} sent a frame of shape {image.shape}, not (H, W, 3)'
            )
        if image.shape[:2] != (self._settings.height, self._settings.width):
            raise MalformedFrameError(
                f'{self._settings.file} sent a frame of {image.shape[1]}x{image.shape[0]}, not '
                f'{self._settings.width}x{self._settings.height}'
            )
        return Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), stamp_ns, self._calibration)

    def close(self) -> None:
        """Gives the device back."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None
