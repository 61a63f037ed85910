"""Draws a ChArUco board as a known camera would see it: truth for calibration tests."""

import cv2
import numpy as np

from dexwm.calibration.lens import Lens

SQUARE_PIXELS = 80
_OVERSAMPLING = 2
_WALL = 90


class BoardCamera:
    """A camera with distortion, noise and blur that looks at a board in front of a grey wall."""

    def __init__(self, intrinsics, lens=None, noise=2.0, blur=0.6):
        self._intrinsics = intrinsics
        self._lens = lens or Lens()
        self._noise, self._blur = noise, blur
        # Rays of all pixels of the oversampled picture, distortion taken out.
        fine = intrinsics.resized(
            _OVERSAMPLING * intrinsics.width, _OVERSAMPLING * intrinsics.height
        )
        columns, rows = np.meshgrid(np.arange(fine.width), np.arange(fine.height))
        pixels = np.stack([columns.ravel(), rows.ravel()], axis=-1).astype(float)
        ideal = self._lens.undistorted(pixels, fine)
        rays = np.column_stack(
            [(ideal - (fine.cx, fine.cy)) / (fine.fx, fine.fy), np.ones(len(ideal))]
        )
        self._rays = rays.reshape(fine.height, fine.width, 3)

    def picture(self, board, T_camera_from_board, rng):
        """RGB (height, width, 3)."""
        rotation, origin = T_camera_from_board[:3, :3], T_camera_from_board[:3, 3]
        # Where each ray meets the board's plane, in the board's frame.
        normal = rotation[:, 2]
        distance = (normal @ origin) / (self._rays @ normal)
        at = (self._rays * distance[..., None] - origin) @ rotation
        pattern = cv2.copyMakeBorder(
            board.picture(SQUARE_PIXELS),
            *(4 * [SQUARE_PIXELS // 4]),
            cv2.BORDER_CONSTANT,
            value=255,
        )
        at = at[..., :2] / board.square * SQUARE_PIXELS - 0.5 + SQUARE_PIXELS // 4
        at[distance <= 0] = -1e6
        drawn = cv2.remap(
            pattern,
            at.astype(np.float32),
            None,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=_WALL,
        )
        size = (self._intrinsics.width, self._intrinsics.height)
        drawn = cv2.resize(drawn, size, interpolation=cv2.INTER_AREA).astype(np.float64)
        drawn = cv2.GaussianBlur(drawn, (0, 0), self._blur)
        drawn = 20 + 0.8 * drawn + rng.normal(0, self._noise, drawn.shape)
        return np.repeat(np.clip(drawn, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)
