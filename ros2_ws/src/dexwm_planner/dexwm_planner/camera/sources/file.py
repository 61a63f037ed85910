"""A picture or a video file in the place of a camera."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dexwm_planner.camera.sources.calibration import CameraCalibration
from dexwm_planner.camera.sources.pacer import Pacer
from dexwm_planner.camera.sources.source import CameraConfigError, CameraSourceError, Frame

AT_END = ('loop', 'hold')
"""What happens after a video's last frame: it starts anew, or the frame stays."""


class FileSource:
    """Shows a picture again and again, or plays a video at its own speed.

    The stamp is the time at which a frame is given out.
    """

    def __init__(
        self, path: Path, at_end: str, rate: float, calibration: CameraCalibration | None
    ) -> None:
        """Checks the file.

        Args:
            path: a picture, or a video with a frame rate.
            at_end: 'loop' or 'hold', what follows a video's last frame.
            rate: frames to give out a second; a video's own rate stays, frames are skipped or
                repeated.
            calibration: the camera's that took the file; None where unknown.

        Raises:
            CameraConfigError: where the file is missing, cannot be decoded, or is of another
                size than the calibration; or at_end is neither.
        """
        if at_end not in AT_END:
            raise CameraConfigError(f'a file ends with {" or ".join(AT_END)}, not with {at_end!r}')
        if not path.is_file():
            raise CameraConfigError(f'there is no file {path}')
        self._path = path
        self._loops = at_end == 'loop'
        self._calibration = calibration
        self._pacer = Pacer(rate)
        self._picture = _read_picture(path)
        self._video: cv2.VideoCapture | None = None
        self._fps = 0.0
        self._played = 0
        self._started = 0.0
        self._image = self._first_frame() if self._picture is None else self._picture
        height, width = self._image.shape[:2]
        if calibration is not None:
            size = (calibration.intrinsics.width, calibration.intrinsics.height)
            if size != (width, height):
                raise CameraConfigError(
                    f'{path} is {width}x{height}, the calibration is for {size[0]}x{size[1]}'
                )

    def open(self) -> None:
        """Starts at the first frame."""
        if self._picture is None:
            self._rewind()

    def read(self) -> Frame:
        """The picture, or the video's frame of this moment. Raises as `CameraSource.read`."""
        self._pacer.wait()
        if self._picture is None:
            self._advance()
        return Frame(self._image, time.time_ns(), self._calibration)

    def close(self) -> None:
        """Closes the file."""
        if self._video is not None:
            self._video.release()
            self._video = None

    def _first_frame(self) -> NDArray[np.uint8]:
        try:
            self._rewind()
            self._advance()
        except CameraSourceError as error:
            raise CameraConfigError(
                f'{self._path} is neither a picture nor a video that OpenCV can decode'
            ) from error
        finally:
            self.close()
        return self._image

    def _rewind(self) -> None:
        self.close()
        self._video = cv2.VideoCapture(str(self._path))
        self._fps = self._video.get(cv2.CAP_PROP_FPS)
        if not self._video.isOpened() or not self._fps > 0:
            self.close()
            raise CameraSourceError(f'{self._path} is not a video with a frame rate')
        self._played = 0
        self._started = time.monotonic()

    def _advance(self) -> None:
        """Decodes up to the frame of this moment; keeps the last one at the end of a video."""
        if self._video is None:
            return  # Held after the end.
        due = 1 + int((time.monotonic() - self._started) * self._fps)
        image = None
        while self._played < due:
            decoded, next_image = self._video.read()
            if decoded:
                image = next_image
                self._played += 1
            elif self._played == 0:
                raise CameraSourceError(f'{self._path} has no frame that can be decoded')
            elif self._loops:
                self._rewind()
                due = 1
            else:
                self.close()
                break
        if image is not None:
            self._image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _read_picture(path: Path) -> NDArray[np.uint8] | None:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
