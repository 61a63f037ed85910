import itertools

import numpy as np
import pytest

from dexwm.robot.joints import ARM, robot_limits
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.cell_config import load_cell_config
from dexwm_franka_bringup.description import robot_description
from dexwm_sim.cell import Cell
from dexwm_sim.exploration import Explorer
from dexwm_sim.follow import Follower
from dexwm_sim.scene_config import SceneConfig
from dexwm_sim.smooth_noise import SmoothNoise
from dexwm_sim.strategies import STRATEGIES, explore


@pytest.fixture(scope='module')
def model() -> RobotModel:
    return RobotModel.from_urdf(robot_description())


@pytest.fixture(scope='module')
def cell() -> Cell:
    return Cell(SceneConfig.sample(7, ('can', 'apple'), quality='fast'))


def exploration_of(strategy, cell, model, seed, permute=0.0):
    rng = np.random.default_rng(seed)
    return explore(strategy, Explorer(cell, model, load_cell_config().camera, rng), permute)


@pytest.mark.parametrize('strategy', STRATEGIES)
def test_the_robot_starts_free_stays_within_its_limits_and_touches_objects(strategy, cell, model):
    exploration = exploration_of(strategy, cell, model, seed=2)
    assert not cell.robot_in_contact()
    assert np.allclose(cell.joint_positions(), exploration.start)
    touched = []

    def look():
        touched.append(bool(cell.objects_touched()))
        assert robot_limits().violations(follower.sent) == []

    follower = Follower(cell, exploration.start, look, exploration.noise)
    while len(touched) < 150:
        follower.follow([next(exploration.legs)])
    assert sum(touched) > 5


def test_the_seed_decides_everything(cell, model):
    targets = []
    for seed in (1, 1, 2):
        exploration = exploration_of('noisy_expert', cell, model, seed)
        follower = Follower(cell, exploration.start, noise=exploration.noise)
        for leg in itertools.islice(exploration.legs, 3):
            follower.follow([leg])
        targets.append(cell.joint_positions())
    assert np.array_equal(targets[0], targets[1]) and not np.array_equal(targets[0], targets[2])


def test_hand_only_moves_nothing_but_the_fingers(cell, model):
    exploration = exploration_of('hand_only', cell, model, seed=3)
    assert exploration.noise is None
    legs = list(itertools.islice(exploration.legs, 8))
    assert all(np.array_equal(leg.target[ARM], exploration.start[ARM]) for leg in legs)


def test_a_permuted_grasp_goes_elsewhere(cell, model):
    def descend(permute):
        for seed in range(50):
            exploration = exploration_of('noisy_expert', cell, model, seed, permute)
            legs = [next(exploration.legs) for _ in range(2)]
            if [leg.name for leg in legs] == ['approach', 'descend']:
                palm = model.frame_pose(legs[1].target, 'palm_link')
                grasped = palm[:3, :3] @ [0.085, 0.008, 0.045] + palm[:3, 3]
                yield min(
                    np.linalg.norm(grasped - cell.object_pose(name)[:3])
                    for name in ('can', 'apple')
                )

    # Heights differ by object: a grasp at another's place is not at that one's centre.
    meant = list(itertools.islice(descend(0.0), 3))
    permuted = list(itertools.islice(descend(1.0), 3))
    assert max(meant) < 0.04
    assert not np.allclose(meant, permuted)


def test_an_unknown_strategy_is_an_error_that_lists_the_known(cell, model):
    with pytest.raises(ValueError, match='noisy_expert, random_targets, hand_only'):
        exploration_of('sleep', cell, model, 0)


def test_noise_starts_at_zero_has_the_scale_asked_for_and_the_rate_of_its_value():
    scales = np.array([0.01, 0.05, 0.0])
    values = []
    for seed in range(300):
        noise = SmoothNoise(np.random.default_rng(seed), scales)
        assert np.array_equal(noise.at(0.0)[0], np.zeros(3))
        value, rate = noise.at(7.3)
        later, _ = noise.at(7.3 + 1e-6)
        assert np.allclose((later - value) / 1e-6, rate, atol=1e-4)
        values.append([noise.at(time)[0] for time in np.arange(10, 30, 1.7)])
    rms = np.sqrt(np.mean(np.square(values), axis=(0, 1)))
    assert rms == pytest.approx(scales, rel=0.1)
