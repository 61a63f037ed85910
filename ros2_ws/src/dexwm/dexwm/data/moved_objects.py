"""Which objects moved, and whether the hand had touched them by then."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOVED_PIXELS = 8.0
"""An object whose centre is further than this from where it started has moved, pixels."""


def moved_since_start(
    pixels: NDArray[np.floating],
    visible: NDArray[np.bool_],
    threshold: float = MOVED_PIXELS,
) -> NDArray[np.bool_]:
    """Tells for each later frame which objects are somewhere else than in the first frame.

    Args:
        pixels: (..., T + 1, K, 2) true centres in the input picture.
        visible: (..., T + 1, K) whether they are inside it.
        threshold: Smallest displacement, pixels.

    Returns:
        (..., T, K): in the picture in both frames, and more than ``threshold`` apart.
    """
    displacement = np.linalg.norm(pixels[..., 1:, :, :] - pixels[..., :1, :, :], axis=-1)
    return visible[..., 1:, :] & visible[..., :1, :] & (displacement > threshold)


def touched_since_start(contact: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tells for each later frame which objects the hand had touched by then.

    Args:
        contact: (..., T + 1, K) whether the hand touches the object in a frame.

    Returns:
        (..., T, K): contact in any frame from the first to this one.
    """
    return np.logical_or.accumulate(contact, axis=-2)[..., 1:, :]
