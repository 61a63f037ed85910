import itertools

import numpy as np
import pytest

from dexwm.robot.joints import ARM, HAND, HOME, robot_limits
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.description import robot_description
from dexwm_sim.exploration import LOWEST_KEYPOINT, random_legs

COUNT = 60


@pytest.fixture(scope='module')
def model() -> RobotModel:
    return RobotModel.from_urdf(robot_description())


@pytest.fixture(scope='module')
def legs(model):
    return list(itertools.islice(random_legs(model, np.random.default_rng(3), HOME), COUNT))


def test_the_seed_decides_everything(model, legs):
    again = list(itertools.islice(random_legs(model, np.random.default_rng(3), HOME), 5))
    for one, other in zip(again, legs, strict=False):
        assert np.array_equal(one.target, other.target) and one.duration == other.duration
    (different,) = itertools.islice(random_legs(model, np.random.default_rng(4), HOME), 1)
    assert not np.array_equal(different.target, legs[0].target)


def test_targets_stay_within_the_limits_and_over_the_counter(model, legs):
    limits = robot_limits()
    for leg in legs:
        assert limits.violations(leg.target) == []
        assert model.keypoints(leg.target)[:, 2].min() >= LOWEST_KEYPOINT


def test_motions_stay_below_the_speed_limits(legs):
    # The steepest slope of 10 s^3 - 15 s^4 + 6 s^5 over [0, 1], from its derivative.
    s = np.linspace(0, 1, 1001)
    steepest = np.max(30 * s**2 - 60 * s**3 + 30 * s**4)
    start = HOME
    for leg in legs:
        peak = steepest * np.abs(leg.target - start) / leg.duration
        assert (peak < robot_limits().velocity).all()
        start = leg.target


def test_the_palm_goes_everywhere_and_the_fingers_move_alone_at_times(model, legs):
    start, alone, heights = HOME, 0, []
    for leg in legs:
        alone += np.array_equal(leg.target[ARM], start[ARM])
        assert not np.array_equal(leg.target[HAND], start[HAND])
        heights.append(model.frame_pose(leg.target, 'palm_link')[:3, 3])
        start = leg.target
    assert 0 < alone < COUNT / 2
    assert (np.ptp(heights, axis=0) > [0.2, 0.4, 0.12]).all()
