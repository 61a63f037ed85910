import dataclasses

import numpy as np
import pytest

from dexwm.robot.collision import CollisionChecker
from dexwm.robot.joints import HAND, HOME, robot_limits
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.cell_config import load_cell_config
from dexwm_franka_bringup.description import robot_description
from dexwm_sim.cell import Cell
from dexwm_sim.expert import (
    CLOSED_HAND,
    CURLED_HAND,
    GRASP_POINT,
    Expert,
    UnreachableError,
    palm_rotation,
)
from dexwm_sim.expert_benchmark import lift
from dexwm_sim.follow import Follower
from dexwm_sim.robot_spec import PALM
from dexwm_sim.scene_config import SceneConfig
from dexwm_sim.tasks import GraspJudge, PlaceJudge


@pytest.fixture(scope='module')
def model():
    return RobotModel.from_urdf(robot_description())


@pytest.fixture(scope='module')
def expert(model):
    return Expert(model)


@pytest.mark.parametrize('kind', ['box', 'cylinder', 'sphere', 'can'])
def test_lifts(expert, kind):
    cell = None
    for seed in (3, 14, 15):
        scene = SceneConfig.sample(seed, (kind,), quality='fast')
        if cell is None:
            cell = Cell(scene)
        else:
            cell.load(scene)
        verdict = lift(cell, expert)
        assert verdict.success
        assert verdict.strict_success
        assert verdict.measure > 0.1


def test_the_grasp_is_what_lifts(expert):
    cell = Cell(SceneConfig.sample(3, ('box',), quality='fast'))
    position = cell.object_pose('box')[:3]
    judge = GraspJudge('box', position[2])
    follower = Follower(cell, HOME, lambda: judge.update(cell.task_state()))
    legs = expert.pick(position, HOME)
    # The same way without closing the hand.
    follower.follow([legs[0], legs[1]])
    target = legs[-1].target.copy()
    target[HAND] = legs[1].target[HAND]
    follower.follow([dataclasses.replace(legs[-1], target=target)])
    follower.hold(1.2)
    assert not judge.verdict().strict_success


def test_lifting_twice_is_the_same_bit_for_bit(expert):
    states = []
    for _ in range(2):
        cell = Cell(SceneConfig.sample(8, ('can',), quality='fast'))
        lift(cell, expert)
        states.append(cell.data.qpos.tobytes())
    assert states[0] == states[1]


def test_pick_puts_the_palm_over_the_object(expert, model):
    position = np.array([0.55, 0.1, 0.26])
    approach, descend, curl, close, lifted = expert.pick(position, HOME)
    T = model.frame_pose(descend.target, PALM)
    np.testing.assert_allclose(T[:3, :3] @ GRASP_POINT + T[:3, 3], position, atol=1e-3)
    np.testing.assert_array_equal(curl.target[HAND], CURLED_HAND)
    np.testing.assert_array_equal(close.target[HAND], CLOSED_HAND)
    for leg, height in ((approach, 0.12), (lifted, 0.15)):
        above = model.frame_pose(leg.target, PALM)[:3, 3] - T[:3, 3]
        np.testing.assert_allclose(above, [0, 0, height], atol=1e-3)


def test_motions_are_legal_and_free_of_collisions(expert):
    limits = robot_limits()
    checker = CollisionChecker.from_urdf(robot_description(), load_cell_config().boxes)
    for position in ([0.46, -0.2, 0.25], [0.68, 0.28, 0.26], [0.57, 0.0, 0.28]):
        legs = expert.pick(position, HOME)
        path = np.array([HOME, *(leg.target for leg in legs)])
        for q in path:
            assert limits.violations(q) == []
        assert checker.check_path(path) is None
        for start, leg in zip(path, legs, strict=False):
            rate = 1.875 * np.abs(leg.target - start) / leg.duration
            assert (rate <= 0.36 * limits.velocity).all()


def test_places(expert):
    cell = Cell(SceneConfig.sample(5, ('box',), quality='fast'))
    start = cell.object_pose('box')[:3]
    follower = Follower(cell, HOME)
    follower.follow(expert.pick(start, HOME))
    goal = np.array([0.5, 0.2 if start[1] < 0.1 else -0.1, start[2] + 0.004])
    judge = PlaceJudge('box', goal)
    legs = expert.place(follower.command, cell.object_pose('box')[:3], goal)
    follower.follow(legs)
    observer = Follower(cell, follower.command, lambda: judge.update(cell.task_state()))
    observer.hold(1.2)
    assert judge.verdict().strict_success
    assert cell.objects_touched() == frozenset()


def test_out_of_reach_is_said(expert):
    with pytest.raises(UnreachableError, match='does not reach'):
        expert.pick([1.2, 0.0, 0.25], HOME)
    with pytest.raises(UnreachableError, match='does not reach'):
        expert.place(HOME, [0.5, 0.0, 0.3], [0.5, 0.0, 2.0])
    with pytest.raises(UnreachableError, match='does not reach'):
        expert.reach(np.diag([1.0, 1.0, 1.0, 1.0]), HOME[HAND], HOME)


def test_palm_rotation_looks_down_and_forward():
    flat = palm_rotation(0.0, 0.0)
    np.testing.assert_allclose(flat @ [1, 0, 0], [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(flat @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    turned = palm_rotation(0.3, np.pi / 2)
    np.testing.assert_allclose(turned @ [0, 0, 1], [0, np.cos(0.3), -np.sin(0.3)], atol=1e-12)
    np.testing.assert_allclose(turned @ turned.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turned) == pytest.approx(1)
