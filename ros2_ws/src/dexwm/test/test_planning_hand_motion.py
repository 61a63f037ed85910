"""Motions of the hand that leave it turned and closed as it is."""

import dataclasses

import numpy as np
import pytest

from dexwm.planning.errors import PlanningError
from dexwm.planning.hand_motion import raised, swept
from dexwm.robot.joints import ARM, HAND, HOME, robot_limits

LIMITS = robot_limits().with_margin(0.06)


def test_sweeps_go_level_in_all_directions(model):
    begin = raised(model, HOME, LIMITS, -0.15)[0]
    ways = swept(model, begin, LIMITS, 60, np.random.default_rng(0))
    assert ways.shape == (60, 23)
    np.testing.assert_array_equal(ways[:, HAND], np.tile(begin[HAND], (60, 1)))
    assert np.abs(ways - begin)[:, ARM].max() <= 1.0
    before = model.frame_pose(begin, 'allegro_wrist')
    for q in ways:
        assert LIMITS.violations(q) == []
        after = model.frame_pose(q, 'allegro_wrist')
        np.testing.assert_allclose(after[:3, :3], before[:3, :3], atol=3e-3)
        x, y, z = after[:3, 3] - before[:3, 3]
        assert -0.016 < z < 0.026 and 0.044 < np.hypot(x, y) < 0.306
    points = np.array([model.frame_pose(q, 'allegro_wrist')[:2, 3] for q in ways]) - before[:2, 3]
    quadrants = {(x > 0, y > 0) for x, y in points}
    assert len(quadrants) == 4
    again = swept(model, begin, LIMITS, 60, np.random.default_rng(0))
    np.testing.assert_array_equal(again, ways)


def test_an_arm_that_can_go_nowhere_says_so(model):
    limits = dataclasses.replace(LIMITS, lower=HOME - 1e-4, upper=HOME + 1e-4)
    with pytest.raises(PlanningError, match=r'not one of 8 level motions .* further inside'):
        swept(model, HOME, limits, 2, np.random.default_rng(0))
