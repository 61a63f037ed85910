"""What evaluation refuses."""

from __future__ import annotations


class EvaluationError(ValueError):
    """Raised for data, models or options that cannot be evaluated, saying why."""
