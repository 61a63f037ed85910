"""The estimate of the time that planning still takes."""

from dataclasses import replace

import pytest

from dexwm.planning.preset import Preset, find_preset
from dexwm.planning.time_left import planning_time_left

PRESET = Preset('test', horizon=3, iterations=10, replans=3)


def simulated(preset, seconds_a_waypoint, plans):
    """Each iteration of a task: plan, number, elapsed, and what is then truly left."""
    lasts = [
        preset.horizon_at(replan) * seconds_a_waypoint
        for replan in range(plans)
        for _ in range(preset.iterations)
    ]
    for number in range(len(lasts)):
        replan, iteration = divmod(number, preset.iterations)
        elapsed = sum(lasts[replan * preset.iterations : number + 1])
        yield replan, iteration, elapsed, sum(lasts[number + 1 :])


@pytest.mark.parametrize('plans', [1, 3])
@pytest.mark.parametrize('horizon', [1, 3])
def test_at_an_even_pace_the_estimate_is_true(horizon, plans):
    preset = replace(PRESET, horizon=horizon)
    for replan, iteration, elapsed, truth in simulated(preset, 0.4, plans):
        left = planning_time_left(preset, replan, iteration, elapsed, plans=plans)
        assert left == pytest.approx(truth)


def test_it_knows_how_many_plans_the_preset_makes():
    assert planning_time_left(PRESET, 0, 9, 10.0) == pytest.approx(10.0)
    assert planning_time_left(PRESET, 2, 9, 10.0) == 0


@pytest.mark.parametrize('name', ['keypoints', 'random'])
def test_optimisers_of_one_iteration(name):
    preset = find_preset(name)
    assert planning_time_left(preset, preset.replans - 1, 0, 1.0) == 0
