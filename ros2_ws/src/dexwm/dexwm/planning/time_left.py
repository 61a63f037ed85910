"""How long planning will go on."""

from __future__ import annotations

from dexwm.planning.preset import Preset

_ONE_ITERATION = ('random', 'none')


def planning_time_left(
    preset: Preset, replan: int, iteration: int, elapsed: float, *, plans: int | None = None
) -> float:
    """Seconds of planning that a task has still to go, motions not counted.

    Every iteration is taken to need as long as those of this plan did, for each waypoint.

    Args:
        preset: how plans are made.
        replan: number of the plan that is being made, from 0.
        iteration: the last one that ended, from 0.
        elapsed: seconds that this plan's iterations took until then.
        plans: plans of the task; None: as the preset says.
    """
    each = 1 if preset.optimiser in _ONE_ITERATION else preset.iterations
    pace = elapsed / ((iteration + 1) * preset.horizon_at(replan))
    waypoints = max(0, each - iteration - 1) * preset.horizon_at(replan)
    for later in range(replan + 1, preset.replans if plans is None else plans):
        waypoints += each * preset.horizon_at(later)
    return pace * waypoints
