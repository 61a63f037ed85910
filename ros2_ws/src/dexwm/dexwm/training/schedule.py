"""The learning rate as a function of the step."""

from __future__ import annotations

import math


def one_cycle(step: int, steps: int, peak: float, final: float, warmup: int = 0) -> float:
    """Linear warm-up to the peak, then half a cosine down to the final rate.

    Without warm-up this is the one-cycle schedule the paper's training uses, whose rising part
    is empty (appendix C.1): the first step is just below the peak, and the last one is final.
    A function of the step alone, so that a resumed training has nothing to restore.

    Args:
        step: Steps taken before this one, from 0.
        steps: How many steps there are.
        peak: Largest learning rate.
        final: Learning rate of the last step.
        warmup: Steps of the linear rise.
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = (step - warmup + 1) / (steps - warmup)
    return final + (peak - final) * 0.5 * (1.0 + math.cos(math.pi * progress))
