"""Keypoints in the picture: distances, and the percentage of correct ones (PCK)."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dexwm.evaluation.errors import EvaluationError

Denominator = Literal['visible', 'all']
"""What PCK divides by: the keypoints inside the true picture, or all of them."""

DENOMINATORS: tuple[Denominator, ...] = get_args(Denominator)

PCK_THRESHOLDS = (2.5, 5.0, 10.0, 20.0)
"""Distances within which a keypoint counts as correct, pixels of the input picture."""


def pixel_distances(
    predicted: NDArray[np.floating], truth: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Distances between predicted and true points (...), pixels.

    Args:
        predicted: (..., 2) columns and rows.
        truth: (..., 2), NaN where a point is not in front of the camera.

    Raises:
        EvaluationError: If the shapes differ or the last axis is not 2 long.
    """
    if predicted.shape != truth.shape or predicted.shape[-1:] != (2,):
        raise EvaluationError(
            'predicted and true points must have the same shape (..., 2), '
            f'got {predicted.shape} and {truth.shape}'
        )
    return np.linalg.norm(predicted - truth, axis=-1)


def correct_and_counted(
    distances: NDArray[np.floating],
    visible: NDArray[np.bool_],
    threshold: float,
    denominator: Denominator = 'visible',
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which keypoints are correct, and which are counted: PCK is the ratio of their sums.

    Only a keypoint inside the true picture can be correct. The published evaluation of DexWM
    divides by all 12 keypoints, so a hand outside the picture lowers its score; that is 'all'.

    Args:
        distances: (..., 12) pixels.
        visible: (..., 12) whether the true keypoint is inside the picture.
        threshold: Largest distance that is correct, pixels.
        denominator: What is counted.

    Raises:
        EvaluationError: If there is no such denominator.
    """
    if denominator not in DENOMINATORS:
        raise EvaluationError(
            f'unknown denominator {denominator!r}; there are {", ".join(DENOMINATORS)}'
        )
    # NaN, the distance to a point behind the camera, is not <= anything.
    correct = visible & (distances <= threshold)
    return correct, visible if denominator == 'visible' else np.ones_like(visible)


def pck(
    predicted: NDArray[np.floating],
    truth: NDArray[np.floating],
    visible: NDArray[np.bool_],
    threshold: float = 20.0,
    denominator: Denominator = 'visible',
) -> float:
    """Share of keypoints within ``threshold`` pixels of the truth (DexWM, section 4.1).

    Args:
        predicted: (..., 12, 2) pixels.
        truth: (..., 12, 2) pixels.
        visible: (..., 12) whether the true keypoint is inside the picture.
        threshold: Largest distance that is correct, pixels.
        denominator: What is counted.

    Returns:
        Between 0 and 1; NaN where nothing is counted.

    Raises:
        EvaluationError: If shapes do not fit or there is no such denominator.
    """
    correct, counted = correct_and_counted(
        pixel_distances(predicted, truth), visible, threshold, denominator
    )
    return float(correct.sum() / counted.sum()) if counted.any() else float('nan')
