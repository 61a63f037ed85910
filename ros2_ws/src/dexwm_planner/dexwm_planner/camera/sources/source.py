"""What every source of pictures is and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dexwm_planner.camera.sources.calibration import CameraCalibration


class CameraConfigError(ValueError):
    """Raised for settings with which a source can never work: wrong name, missing file."""


class CameraSourceError(RuntimeError):
    """Raised where a source gives nothing now but may later: unplugged, not started yet."""


class MalformedFrameError(ValueError):
    """Raised for a single frame that is no picture; the next one may be."""


@dataclass(frozen=True)
class Frame:
    """One picture as its source gave it.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        stamp_ns: time of capture, system time, nanoseconds.
        calibration: the camera's, for this size; None where nobody calibrated it.

    Raises:
        MalformedFrameError: where image is not a filled array of that shape and type.
    """

    image: NDArray[np.uint8]
    stamp_ns: int
    calibration: CameraCalibration | None

    def __post_init__(self) -> None:
        image = self.image
        if image is None or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            shape = None if image is None else image.shape
            raise MalformedFrameError(f'a frame must have shape (H, W, 3), got {shape}')
        if image.dtype != np.uint8:
            raise MalformedFrameError(f'a frame must be of type uint8, got {image.dtype}')


class CameraSource(Protocol):
    """A camera, or what stands in for one. All three are called from one and the same thread."""

    def open(self) -> None:
        """Gets ready to read.

        Raises:
            CameraSourceError: where that fails now and may work later.
        """

    def read(self) -> Frame:
        """Waits until the next frame is due and gives the newest there is then.

        Raises:
            CameraSourceError: where no more frames come until the source is opened again.
            MalformedFrameError: where this one frame is broken.
        """

    def close(self) -> None:
        """Lets go of everything; may be called twice, and before open."""
