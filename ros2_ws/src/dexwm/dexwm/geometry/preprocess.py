"""The one way from a camera's picture to the picture the encoder sees.

The paper (DexWM, appendix A.1) resizes a picture's shortest side to 224, keeping the aspect
ratio, and cuts 224x392 out of the middle. Training, evaluation and the nodes all call this.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dexwm.geometry.camera import CameraIntrinsics


class PreprocessError(ValueError):
    """Raised for an array that is not a picture, or that does not belong to its intrinsics."""


@dataclass(frozen=True)
class ResizeAndCrop:
    """A resize of the whole picture, then a cut-out from the resized picture.

    Attributes:
        source_width: columns of the pictures this is for.
        source_height: rows of the pictures this is for.
        scaled_width: columns after the resize.
        scaled_height: rows after the resize.
        x: first column of the cut-out.
        y: first row of the cut-out.
        width: columns of the cut-out.
        height: rows of the cut-out.
    """

    source_width: int
    source_height: int
    scaled_width: int
    scaled_height: int
    x: int
    y: int
    width: int
    height: int

    @classmethod
    def to_cover(
        cls, source_width: int, source_height: int, height: int, width: int
    ) -> ResizeAndCrop:
        """Resizes as little as covers height x width, then cuts it out of the middle.

        For pictures at least as wide as the target this is the paper's rule (shortest side to
        the target's height, then a centre crop); a narrower one is scaled to the target's width
        and loses rows, as the paper's RoboCasa pictures do (960x600 to 392x224). The scaled size
        is rounded to whole pixels; where an odd number of pixels is cut, the bottom or right
        side loses one more.

        Raises:
            PreprocessError: where a size is not positive.
        """
        if min(source_width, source_height, height, width) < 1:
            raise PreprocessError(
                f'cannot resize {source_width}x{source_height} to {width}x{height} pixels: '
                'every side must be at least 1'
            )
        scale = max(height / source_height, width / source_width)
        scaled_width = max(width, round(source_width * scale))
        scaled_height = max(height, round(source_height * scale))
        return cls(
            source_width,
            source_height,
            scaled_width,
            scaled_height,
            (scaled_width - width) // 2,
            (scaled_height - height) // 2,
            width,
            height,
        )

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Maps pixels of the source to pixels of the cut-out, (3, 3), homogeneous coordinates."""
        scale_x = self.scaled_width / self.source_width
        scale_y = self.scaled_height / self.source_height
        return np.array(
            [
                [scale_x, 0.0, 0.5 * scale_x - 0.5 - self.x],
                [0.0, scale_y, 0.5 * scale_y - 0.5 - self.y],
                [0.0, 0.0, 1.0],
            ]
        )

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The resized cut-out of a picture.

        Args:
            image: (source_height, source_width, 3) uint8. Not changed.

        Returns:
            (height, width, 3) uint8, contiguous, its own memory.

        Raises:
            PreprocessError: where image is not such an array.
        """
        expected = (self.source_height, self.source_width, 3)
        if image.shape != expected or image.dtype != np.uint8:
            raise PreprocessError(
                f'expected a picture of shape {expected} and type uint8, '
                f'got {image.shape} and {image.dtype}'
            )
        # Averaging over the covered area is what keeps a smaller picture free of aliasing.
        shrinks = self.scaled_height < self.source_height
        scaled = cv2.resize(
            image,
            (self.scaled_width, self.scaled_height),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        )
        rows = slice(self.y, self.y + self.height)
        columns = slice(self.x, self.x + self.width)
        return np.array(scaled[rows, columns], dtype=np.uint8, order='C')

    def apply_to_intrinsics(self, intrinsics: CameraIntrinsics) -> CameraIntrinsics:
        """The camera of the resized cut-out.

        Raises:
            PreprocessError: where the intrinsics belong to pictures of another size.
        """
        if (intrinsics.width, intrinsics.height) != (self.source_width, self.source_height):
            raise PreprocessError(
                f'the intrinsics are for {intrinsics.width}x{intrinsics.height}, '
                f'the picture has {self.source_width}x{self.source_height}: use the calibration '
                'made at this size'
            )
        return intrinsics.resized(self.scaled_width, self.scaled_height).cropped(
            self.x, self.y, self.width, self.height
        )


def resize_and_crop(
    image: NDArray[np.uint8], intrinsics: CameraIntrinsics, height: int, width: int
) -> tuple[NDArray[np.uint8], CameraIntrinsics]:
    """Resizes the shortest side, cuts height x width out of the middle, and K follows.

    `ResizeAndCrop.to_cover` says the rule; use it directly for pictures without intrinsics.

    Args:
        image: (H, W, 3) uint8, any H and W.
        intrinsics: the camera of this picture, H rows and W columns.
        height: rows wanted.
        width: columns wanted.

    Returns:
        The (height, width, 3) uint8 picture and its camera.

    Raises:
        PreprocessError: where image is not a picture or intrinsics are another size's.
    """
    if image.ndim != 3:
        raise PreprocessError(f'expected a picture of shape (H, W, 3), got {image.shape}')
    step = ResizeAndCrop.to_cover(image.shape[1], image.shape[0], height, width)
    return step.apply(image), step.apply_to_intrinsics(intrinsics)
