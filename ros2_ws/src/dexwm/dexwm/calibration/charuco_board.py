"""The calibration target: a chessboard with ArUco markers in its white squares."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

DICTIONARIES: tuple[str, ...] = (
    'DICT_4X4_50',
    'DICT_4X4_100',
    'DICT_5X5_50',
    'DICT_5X5_100',
    'DICT_6X6_50',
    'DICT_6X6_100',
    'DICT_APRILTAG_36h11',
)
"""Names of OpenCV's marker dictionaries that a board may use."""

_REFINEMENT = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 40, 1e-3)


class BoardError(ValueError):
    """A board that cannot be made, or a picture in which none can be looked for."""


@dataclass(frozen=True)
class BoardCorners:
    """Inner chessboard corners that were found in a picture.

    Attributes:
        ids: (n,) numbers of the corners, ascending.
        pixels: (n, 2) columns and rows, pixels of the picture as it came (with distortion).
    """

    ids: NDArray[np.int64]
    pixels: NDArray[np.float64]


@dataclass(frozen=True)
class CharucoBoard:
    """A ChArUco board.

    The board's frame has its origin in the printed pattern's outer top left corner, x to the
    right, y down and z into the paper (OpenCV's convention).

    Attributes:
        columns: squares along x.
        rows: squares along y.
        square: edge of a square, m: measured on the print, not taken from the drawing.
        marker: edge of a marker, m.
        dictionary: one of `DICTIONARIES`.

    Raises:
        BoardError: where no such board exists.
    """

    columns: int = 7
    rows: int = 5
    square: float = 0.030
    marker: float = 0.022
    dictionary: str = 'DICT_5X5_50'

    def __post_init__(self) -> None:
        if self.dictionary not in DICTIONARIES:
            raise BoardError(
                f'unknown marker dictionary {self.dictionary!r}: it is one of '
                f'{", ".join(DICTIONARIES)}'
            )
        if self.columns < 3 or self.rows < 3:
            raise BoardError(
                f'a board of {self.columns}x{self.rows} squares is too small: both must be at '
                'least 3'
            )
        # Written so that NaN is refused as well.
        if not 0 < self.marker < self.square < 1:
            raise BoardError(
                f'square {self.square} m and marker {self.marker} m: a marker is smaller than '
                'its square, and a square smaller than 1 m; both are given in metres'
            )
        wanted, there = self.columns * self.rows // 2, len(self._dictionary.bytesList)
        if wanted > there:
            raise BoardError(
                f'{self.columns}x{self.rows} squares need {wanted} markers, {self.dictionary} '
                f'has {there}'
            )

    @property
    def corners(self) -> NDArray[np.float64]:
        """All inner corners, (n, 3), in the board's frame, m; a corner's number is its row."""
        return np.asarray(self._board.getChessboardCorners(), dtype=np.float64)

    def picture(self, square_pixels: int) -> NDArray[np.uint8]:
        """The pattern to print, without margin: (rows, columns) * square_pixels, grey.

        Raises:
            BoardError: where a square gets too few pixels for its marker.
        """
        if square_pixels < 16:
            raise BoardError(f'a square needs at least 16 pixels, got {square_pixels}')
        size = (self.columns * square_pixels, self.rows * square_pixels)
        return np.asarray(self._board.generateImage(size, marginSize=0, borderBits=1))

    def find(self, image: NDArray[np.uint8]) -> BoardCorners | None:
        """Finds the board's corners, to a fraction of a pixel.

        Args:
            image: RGB (height, width, 3) or grey (height, width).

        Returns:
            The corners; None where there are none.

        Raises:
            BoardError: where the array is no such picture.
        """
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise BoardError(f'no picture of bytes: {image.dtype} of shape {image.shape}')
        grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        found, ids, _, _ = self._detector.detectBoard(grey)
        if ids is None or not len(ids):
            return None
        numbers = ids.ravel().astype(np.int64)
        guess = found.reshape(-1, 1, 2).astype(np.float32)
        window = self._window(guess[:, 0].astype(np.float64), numbers)
        refined = cv2.cornerSubPix(grey, guess, (window, window), (-1, -1), _REFINEMENT)
        order = np.argsort(numbers)
        return BoardCorners(numbers[order], refined.reshape(-1, 2)[order].astype(np.float64))

    def _window(self, pixels: NDArray[np.float64], ids: NDArray[np.int64]) -> int:
        """Half the width of the square looked at around a corner: short of its neighbours."""
        columns = self.columns - 1
        places = {int(i): pixels[k] for k, i in enumerate(ids)}
        steps = [
            float(np.linalg.norm(places[i] - places[j]))
            for i in places
            for j in (i + 1, i + columns)
            if j in places and (j != i + 1 or j % columns)
        ]
        # The nearest marker's edge is (square - marker) / 2 away.
        gap = (self.square - self.marker) / 2 / self.square
        return int(np.clip(min(steps, default=0.0) * gap, 2, 11))

    @cached_property
    def _dictionary(self) -> cv2.aruco.Dictionary:
        return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, self.dictionary))

    @cached_property
    def _board(self) -> cv2.aruco.CharucoBoard:
        return cv2.aruco.CharucoBoard(
            (self.columns, self.rows), self.square, self.marker, self._dictionary
        )

    @cached_property
    def _detector(self) -> cv2.aruco.CharucoDetector:
        return cv2.aruco.CharucoDetector(self._board)
