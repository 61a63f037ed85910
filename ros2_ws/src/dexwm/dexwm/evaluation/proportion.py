"""How well a success rate is known, and the difference of two."""

from __future__ import annotations

import math
from collections.abc import Sequence

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


def paired_difference(first: Sequence[bool], second: Sequence[bool]) -> Estimate:
    """Estimates by how much one success rate is ahead of another in the same trials.

    The interval is the 95 % one of Newcombe's method 10, of Wilson's intervals of both rates and
    their correlation (Statistics in Medicine 17, 1998, 2635-2650). It holds for few trials, and
    has a width where all pairs agree.

    Args:
        first: Whether each trial succeeded.
        second: The same of the rate that is subtracted, in the same order; no trials give NaN.

    Raises:
        EvaluationError: If they are not equally many.
    """
    if len(first) != len(second):
        raise EvaluationError(f'{len(first)} trials cannot be paired with {len(second)}')
    count = len(first)
    if count == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    wins, others = sum(first), sum(second)
    one, two = wilson(wins, count), wilson(others, count)
    both = sum(a and b for a, b in zip(first, second, strict=True))
    # Both succeed times both fail, less the product of the two ways to differ.
    agreement = float(both * (count - wins - others + both) - (wins - both) * (others - both))
    if agreement > 0:
        agreement = max(agreement - count / 2, 0.0)
    scale = math.sqrt(wins * (count - wins) * others * (count - others))
    correlation = agreement / scale if scale else 0.0

    def together(a: float, b: float) -> float:
        # Rounding alone would make it negative.
        return math.sqrt(max(a**2 - 2 * correlation * a * b + b**2, 0.0))

    value = (wins - others) / count
    return Estimate(
        value,
        value - together(one.value - one.low, two.high - two.value),
        value + together(one.high - one.value, two.value - two.low),
        count,
    )
