import numpy as np
import pytest

from dexwm.robot.joints import ARM, HAND, HOME, robot_limits
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.cell_config import load_cell_config
from dexwm_franka_bringup.description import robot_description
from dexwm_sim.cell import Cell
from dexwm_sim.exploration import LOWEST_KEYPOINT, Explorer
from dexwm_sim.follow import Follower
from dexwm_sim.scene_config import SceneConfig

COUNT = 12


@pytest.fixture(scope='module')
def model() -> RobotModel:
    return RobotModel.from_urdf(robot_description())


@pytest.fixture(scope='module')
def cell() -> Cell:
    return Cell(SceneConfig.sample(5, ('box',), positions={'box': (0.56, 0.05)}, quality='fast'))


@pytest.fixture
def explorer(cell, model):
    cell.reset()
    return explorer_of(cell, model, 3)


def explorer_of(cell, model, seed):
    return Explorer(cell, model, load_cell_config().camera, np.random.default_rng(seed))


def test_the_seed_decides_everything(cell, model, explorer):
    first, again, other = (
        explorer.reach(HOME) + explorer.sweep(HOME, 'box') + explorer.fingers_only(HOME)
        for explorer in (explorer, *(explorer_of(cell, model, seed) for seed in (3, 4)))
    )
    for one, same in zip(first, again, strict=True):
        assert np.array_equal(one.target, same.target) and one.duration == same.duration
    assert not np.array_equal(first[0].target, other[0].target)


def test_targets_are_within_the_limits_over_the_counter_and_seen(model, explorer):
    camera = load_cell_config().camera
    T_camera_from_base = np.linalg.inv(camera.T_base_from_camera)
    q = HOME
    for _ in range(COUNT):
        for leg in (*explorer.reach(q), *explorer.sweep(q, 'box')):
            assert robot_limits().violations(leg.target) == []
            keypoints = model.keypoints(leg.target)
            assert keypoints[:, 2].min() > LOWEST_KEYPOINT - 0.002
            q = leg.target
        inside = keypoints @ T_camera_from_base[:3, :3].T + T_camera_from_base[:3, 3]
        u, v = camera.intrinsics.project(inside).T
        assert ((u >= 0) & (u < 392) & (v >= 0) & (v < 224)).all()


def test_motions_stay_below_the_speed_limits(explorer):
    # The steepest slope of 10 s^3 - 15 s^4 + 6 s^5 over [0, 1], from its derivative.
    s = np.linspace(0, 1, 1001)
    steepest = np.max(30 * s**2 - 60 * s**3 + 30 * s**4)
    q = HOME
    for _ in range(COUNT):
        for draw in (explorer.reach, lambda q: explorer.sweep(q, 'box'), explorer.fingers_only):
            for leg in draw(q):
                peak = steepest * np.abs(leg.target - q) / leg.duration
                assert (peak < robot_limits().velocity).all()
                q = leg.target


def test_many_sweeps_push_the_object(cell, explorer):
    ways = []
    for _ in range(8):
        cell.reset()
        before = cell.object_pose('box')[:2]
        Follower(cell, HOME).follow(explorer.sweep(HOME, 'box'))
        ways.append(np.linalg.norm(cell.object_pose('box')[:2] - before))
    # Some slip off, or push with the gap between two fingers.
    assert np.mean(np.array(ways) > 0.02) > 0.3
    assert max(ways) < 0.4


def test_fingers_alone_leave_the_arm_where_it_is(explorer):
    (leg,) = explorer.fingers_only(HOME)
    assert np.array_equal(leg.target[ARM], HOME[ARM])
    assert not np.array_equal(leg.target[HAND], HOME[HAND])


def test_an_object_off_the_counter_is_not_at_hand(cell, explorer):
    assert explorer.objects_at_hand() == ['box']
    cell.data.joint('box').qpos[:3] = 0.56, 0.05, 0.1
    assert explorer.objects_at_hand() == []
    cell.data.joint('box').qpos[:3] = 0.95, 0.05, 0.25
    assert explorer.objects_at_hand() == []
