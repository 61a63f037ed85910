"""How well a success rate is known."""

from __future__ import annotations

import math

from dexwm.evaluation.bootstrap import Estimate
from dexwm.evaluation.errors import EvaluationError

_Z = 1.959963984540054
"""Standard normal quantile at 97.5 %."""


def wilson(successes: int, count: int) -> Estimate:
    """Estimates a success rate with Wilson's 95 % score interval.

    It holds for few trials and rates near 0 and 1, where a bootstrap of equal outcomes has no
    width (Wilson 1927; Brown, Cai and DasGupta 2001).

    Args:
        successes: How many trials succeeded.
        count: How many there were; 0 gives NaN.

    Raises:
        EvaluationError: If there are more successes than trials, or a number is negative.
    """
    if not 0 <= successes <= count:
        raise EvaluationError(f'{successes} successes in {count} trials are impossible')
    if count == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    rate = successes / count
    scale = 1 / (1 + _Z**2 / count)
    centre = scale * (rate + _Z**2 / (2 * count))
    half = scale * _Z * math.sqrt(rate * (1 - rate) / count + _Z**2 / (4 * count**2))
    # Rounding alone would put the bound of a certain outcome beside 0 or 1.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == count else centre + half
    return Estimate(rate, low, high, count)
