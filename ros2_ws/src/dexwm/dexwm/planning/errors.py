"""What goes wrong while planning."""

from __future__ import annotations


class PlanningError(ValueError):
    """No plan can be made: of this goal with this model and preset, or in this time."""
