"""Pictures to an H.264 video with their own times."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

_TIME_BASE = Fraction(1, 1000)
# Without frames that wait for later ones: what was added is in the file. One thread: the cores
# belong to the robot.
_ENCODER = {'crf': '20', 'preset': 'veryfast', 'bf': '0', 'threads': '1'}


class FrameRecorderError(ValueError):
    """A picture that does not fit into the video, or a video that cannot be written."""


class FrameRecorder:
    """Writes every picture it is given, at the time it was taken.

    Attributes:
        frames: Pictures written so far.
    """

    def __init__(self, path: Path) -> None:
        """Takes the path of the video; the file appears with the first picture."""
        self._path = path
        self._container: av.container.OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._shape: tuple[int, ...] = ()
        self._first_ns = 0
        self._last_tick = -1
        self.frames = 0

    def add(self, image: NDArray[np.uint8], stamp_ns: int) -> None:
        """Writes a picture.

        Args:
            image: RGB (height, width, 3); all of one size.
            stamp_ns: When it was taken (ns). One not later than the one before is shown right
                after it.

        Raises:
            FrameRecorderError: If it is no such picture, or cannot be written.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise FrameRecorderError(f'expected an RGB picture, got {image.dtype} {image.shape}')
        if self._container is None:
            self._open(image, stamp_ns)
        if image.shape != self._shape:
            raise FrameRecorderError(f'the video is {self._shape}, this picture {image.shape}')
        self._last_tick = max(
            int((stamp_ns - self._first_ns) * 1e-9 / _TIME_BASE), self._last_tick + 1
        )
        frame = av.VideoFrame.from_ndarray(_even(image), format='rgb24')
        frame.pts, frame.time_base = self._last_tick, _TIME_BASE
        self._write(frame)
        self.frames += 1

    def close(self) -> None:
        """Finishes the file. May be called twice.

        Raises:
            FrameRecorderError: If the end cannot be written.
        """
        if self._container is not None:
            try:
                self._write(None)
            finally:
                self._container.close()
                self._container = None

    def __enter__(self) -> FrameRecorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, image: NDArray[np.uint8], stamp_ns: int) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._path), 'w')
        except OSError as error:
            raise FrameRecorderError(f'cannot write {self._path}: {error}') from error
        stream = self._container.add_stream('libx264', options=_ENCODER)
        stream.pix_fmt = 'yuv420p'
        stream.height, stream.width = _even(image).shape[:2]
        stream.time_base = stream.codec_context.time_base = _TIME_BASE
        self._stream, self._shape, self._first_ns = stream, image.shape, stamp_ns

    def _write(self, frame: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except av.error.FFmpegError as error:
            raise FrameRecorderError(f'cannot write {self._path}: {error}') from error


def _even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeats the last row or column where H.264 wants an even number of them."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode='edge')
