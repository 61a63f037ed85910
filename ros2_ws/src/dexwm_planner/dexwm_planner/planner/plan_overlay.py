"""Draws where the hand is expected to be."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

PREDICTED_COLOUR = (0, 255, 0)
GOAL_COLOUR = (255, 160, 0)

_RADIUS = 0.008


def draw_keypoints(
    image: NDArray[np.uint8],
    predicted: NDArray[np.float64],
    goal: NDArray[np.float64] | None = None,
) -> NDArray[np.uint8]:
    """Returns a picture with keypoints marked: filled where predicted, rings in the goal.

    Args:
        image: RGB (height, width, 3).
        predicted: (n, 2) columns and rows, pixels; NaN for unknown ones.
        goal: the same; None: without.
    """
    drawn = image.copy()
    radius = max(2, round(_RADIUS * image.shape[1]))
    marks = [(predicted, PREDICTED_COLOUR, cv2.FILLED)]
    if goal is not None:
        marks.append((goal, GOAL_COLOUR, 1))
    for points, colour, thickness in marks:
        for x, y in points[np.isfinite(points).all(axis=1)]:
            cv2.circle(drawn, (round(x), round(y)), radius, colour, thickness, cv2.LINE_AA)
    return drawn
