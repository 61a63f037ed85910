"""A picture of an attempt, to see why it failed."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dexwm.planning.planner import PlanResult

_GOAL_COLOUR = (40, 220, 40)
_PREDICTED_COLOUR = (255, 60, 200)


def attempt_strip(
    goal: NDArray[np.uint8],
    pictures: Sequence[NDArray[np.uint8]],
    plans: Sequence[PlanResult],
    executed: int,
) -> NDArray[np.uint8]:
    """Draws goal, start, and what was seen after each motion, side by side.

    Green dots are the goal's hand keypoints as the planner reads them; magenta ones, in the
    picture after a plan's motion, are where the plan expected them.

    Args:
        goal: The goal picture (H, W, 3), RGB.
        pictures: What the camera saw (H, W, 3) at the start and after each motion; those of the
            plans come first.
        plans: The plans.
        executed: How many waypoints of each were executed.

    Returns:
        RGB (H, W * (1 + number of pictures), 3).
    """
    goal_pixels = plans[0].goal_pixels if plans else None
    panels = [_dotted(goal, goal_pixels, _GOAL_COLOUR)]
    for i, picture in enumerate(pictures):
        panel = _dotted(picture, goal_pixels, _GOAL_COLOUR)
        if 0 < i <= len(plans):
            panel = _dotted(panel, plans[i - 1].predicted_pixels[executed - 1], _PREDICTED_COLOUR)
        panels.append(panel)
    height, width = pictures[0].shape[:2]
    return np.hstack([cv2.resize(panel, (width, height)) for panel in panels])


def _dotted(
    picture: NDArray[np.uint8], pixels: NDArray[np.float64] | None, colour: tuple[int, int, int]
) -> NDArray[np.uint8]:
    result = picture.copy()
    for pixel in [] if pixels is None else pixels[np.isfinite(pixels).all(axis=1)]:
        centre = (round(float(pixel[0])), round(float(pixel[1])))
        cv2.circle(result, centre, max(2, picture.shape[0] // 90), colour, -1, cv2.LINE_AA)
    return result
