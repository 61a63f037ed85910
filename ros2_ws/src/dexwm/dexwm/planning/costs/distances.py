"""Distances between sets of points."""

from __future__ import annotations

import torch
from torch import Tensor

_SQUARED_FLOOR = 1e-12


def mean_distance(points: Tensor, goal: Tensor) -> Tensor:
    """Mean distance of points from their goals, over those that are known.

    Args:
        points: (..., K, d).
        goal: (K, d), NaN where unknown.

    Returns:
        (...). Its gradient is finite where a point is at its goal.
    """
    known = torch.isfinite(goal).all(dim=-1)
    squared = (points[..., known, :] - goal[known]).square().sum(dim=-1)
    return (squared + _SQUARED_FLOOR).sqrt().mean(dim=-1)
