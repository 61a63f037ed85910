"""One look at the board: where the hand was, and where corners were seen."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.calibration.charuco_board import CharucoBoard
from dexwm.calibration.lens import Lens
from dexwm.geometry.camera import CameraIntrinsics

MIN_CORNERS = 8
"""Fewest corners in a picture that tell the board's pose reliably."""

_FLATTEST = 0.1


class BoardViewError(ValueError):
    """A picture that does not tell the board's pose; the message says why."""


@dataclass(frozen=True)
class BoardView:
    """One look at the board.

    Attributes:
        T_base_from_hand: (4, 4) pose of the link that holds the board, m.
        points_board: (n, 3) corners in the board's frame, m.
        pixels: (n, 2) where they were seen, distortion taken out.
    """

    T_base_from_hand: NDArray[np.float64]
    points_board: NDArray[np.float64]
    pixels: NDArray[np.float64]

    @classmethod
    def from_picture(
        cls,
        image: NDArray[np.uint8],
        board: CharucoBoard,
        T_base_from_hand: ArrayLike,
        intrinsics: CameraIntrinsics,
        lens: Lens,
    ) -> BoardView:
        """Looks for the board in a picture.

        Args:
            image: RGB (height, width, 3) or grey (height, width), as it came.
            board: what to look for.
            T_base_from_hand: (4, 4) pose of the link that held the board then, m.
            intrinsics: of the picture.
            lens: its distortion.

        Raises:
            BoardViewError: where the board, or enough of it, is not seen, or all of it in a line.
        """
        if image.shape[:2] != (intrinsics.height, intrinsics.width):
            raise BoardViewError(
                f'the picture has {image.shape[1]}x{image.shape[0]} pixels, its camera matrix is '
                f'for {intrinsics.width}x{intrinsics.height}'
            )
        found = board.find(image)
        if found is None:
            raise BoardViewError('no board is seen: check light, focus, size and dictionary')
        if len(found.ids) < MIN_CORNERS:
            raise BoardViewError(
                f'only {len(found.ids)} corners of the board are seen, {MIN_CORNERS} are needed: '
                'bring it wholly into the picture, or closer'
            )
        points = board.corners[found.ids]
        spread = np.linalg.svd(points[:, :2] - points[:, :2].mean(axis=0), compute_uv=False)
        if spread[1] < _FLATTEST * spread[0]:
            raise BoardViewError('the corners seen lie in a line: turn the board to the camera')
        return cls(
            np.array(T_base_from_hand, dtype=np.float64),
            points,
            lens.undistorted(found.pixels, intrinsics),
        )

    def T_camera_from_board(self, intrinsics: CameraIntrinsics) -> NDArray[np.float64]:
        """(4, 4) pose of the board in the camera's optical frame, from this view alone, m.

        Of the two poses that explain a flat board, the one that explains it better.
        """
        _, rotations, translations, errors = cv2.solvePnPGeneric(
            self.points_board, self.pixels, intrinsics.K, None, flags=cv2.SOLVEPNP_IPPE
        )
        best = int(np.argmin(np.ravel(errors)))
        rotation, translation = cv2.solvePnPRefineLM(
            self.points_board,
            self.pixels,
            intrinsics.K,
            None,
            rotations[best].copy(),
            translations[best].copy(),
        )
        pose = np.eye(4)
        pose[:3, :3] = cv2.Rodrigues(rotation)[0]
        pose[:3, 3] = translation.ravel()
        return pose
