"""Ratios of sums over windows, with intervals that know which windows belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dexwm.evaluation.errors import EvaluationError

_SAMPLES = 2000
_TAILS = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval.

    Attributes:
        value: The figure, NaN where nothing was counted.
        low: 2.5th percentile of the bootstrap, NaN where there is only one episode.
        high: 97.5th percentile, likewise.
        count: How many things (keypoints, objects) went into the figure.
    """

    value: float
    low: float
    high: float
    count: int


def ratio_of_sums(
    numerator: NDArray[np.number],
    denominator: NDArray[np.number],
    groups: NDArray[np.integer],
    count: int,
    seed: int = 0,
) -> Estimate:
    """Estimates sum(numerator) / sum(denominator) with a bootstrap over groups.

    Windows out of the same episode show the same scene, so whole episodes are drawn, with
    replacement. A mean is such a ratio (errors over counts), PCK is one (correct over visible
    points), and so is an error relative to persistence (errors over errors).

    Args:
        numerator: (N,) sums of the windows.
        denominator: (N,) sums of the windows.
        groups: (N,) the episode of each window.
        count: How many things were summed, for the record.
        seed: Of the bootstrap.

    Raises:
        EvaluationError: If the three arrays are not equally long vectors.
    """
    if not (numerator.ndim == 1 and numerator.shape == denominator.shape == groups.shape):
        raise EvaluationError(
            'numerator, denominator and groups must be equally long vectors, got shapes '
            f'{numerator.shape}, {denominator.shape} and {groups.shape}'
        )
    if denominator.sum() == 0:
        return Estimate(np.nan, np.nan, np.nan, count)
    value = float(numerator.sum() / denominator.sum())
    names, group = np.unique(groups, return_inverse=True)
    if len(names) == 1:
        return Estimate(value, np.nan, np.nan, count)
    top = np.bincount(group, numerator, len(names))
    bottom = np.bincount(group, denominator, len(names))
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), _SAMPLES)
    drawn_top, drawn_bottom = times @ top, times @ bottom
    ratios = drawn_top[drawn_bottom > 0] / drawn_bottom[drawn_bottom > 0]
    low, high = np.percentile(ratios, _TAILS)
    return Estimate(value, float(low), float(high), count)
