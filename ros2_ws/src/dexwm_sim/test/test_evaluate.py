"""Closed loop in the simulated cell, with a tiny world model that knows nothing."""

from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

from dexwm.evaluation.closed_loop import PlanningMethod
from dexwm.evaluation.code_version import code_version
from dexwm.evaluation.errors import EvaluationError
from dexwm.evaluation.trial_log import TrialLog
from dexwm.model.encoders.encoder import Encoder
from dexwm.model.world_model import WorldModel, WorldModelConfig
from dexwm.planning.closing import ClosingRule
from dexwm.planning.mpc import MotionRefused, PlantError
from dexwm.planning.planner import Planner
from dexwm.planning.preset import Preset, PresetError, default_preset
from dexwm.robot.joints import ARM, HAND, HOME
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.cell_config import load_cell_config
from dexwm_franka_bringup.description import robot_description
from dexwm_sim.attempt import SimulatedAttempt, plan_checker
from dexwm_sim.episode_maker import EpisodeError, EpisodeMaker
from dexwm_sim.evaluate import (
    TRIALS,
    Evaluator,
    MethodSettings,
    default_methods,
    evaluate,
    main,
)
from dexwm_sim.expert_method import ExpertMethod
from dexwm_sim.tasks import TASKS

DEFAULT = Path(__file__).resolve().parents[4] / 'models' / 'default'
SMALL = {
    'name': 'tiny',
    'predictor': {'dim': 8, 'depth': 1, 'heads': 2, 'context': 4},
    'keypoint_head': {'dim': 8, 'depth': 1, 'heads': 2, 'stride': 2},
}


class Colours(Encoder):
    """Mean colours of patches."""

    def __init__(self):
        super().__init__('tiny', (16, 24), (2, 3), 3, mean=[128.0] * 3, std=[64.0] * 3)

    def _encode(self, pixels):
        return torch.nn.functional.avg_pool2d(pixels, 8).flatten(2).transpose(1, 2)

    def frozen_digest(self):
        return 'colours'


@pytest.fixture(scope='module')
def maker():
    return EpisodeMaker(quality='fast')


@pytest.fixture(scope='module')
def grasp(maker):
    return maker.make('grasp', 10_000)


@pytest.fixture(scope='module')
def place(maker):
    return maker.make('place', 10_000)


@pytest.fixture(scope='module')
def method():
    torch.manual_seed(0)
    encoder = Colours()
    model = WorldModel(WorldModelConfig.for_encoder(SMALL, encoder), encoder)
    preset = Preset('tiny', samples=4, iterations=2, elites=2, replans=2)
    planner = Planner(model, RobotModel.from_urdf(robot_description()), preset)
    return PlanningMethod(planner, ClosingRule(height=0.05))


INTO_COUNTER = HOME.copy()
INTO_COUNTER[ARM] += [0.0, 0.9, 0.0, 0.4, 0.0, 0.0, 0.0]

CHECKER = plan_checker(load_cell_config())


def start(episode):
    return SimulatedAttempt(episode, load_cell_config(), CHECKER)


def test_the_planner_sees_the_start_and_where_the_joints_are(grasp):
    with start(grasp) as attempt:
        seen = attempt.observe()
        np.testing.assert_array_equal(seen.image, grasp.start_image)
        np.testing.assert_array_equal(attempt.goal.image, grasp.goal.image)
        np.testing.assert_allclose(seen.joint_positions, grasp.start.command, atol=0.02)
        target, goal, state = grasp.scene.target, grasp.goal, grasp.start_state
        way = state.object_positions[target] - goal.object_poses[target][:3]
        ways = state.hand_points - goal.hand_points
        assert attempt.distances() == pytest.approx(
            {'hand': np.mean(np.sqrt((ways**2).sum(axis=1))), 'object': np.sqrt(way @ way)}
        )


def test_expert_grasps_and_its_motion_is_repeated(grasp):
    with start(grasp) as attempt:
        ExpertMethod().run(attempt, 'grasp', 0, lambda plan: None)
        (motion,) = attempt.motions
        assert motion.success
        assert motion.strict_success
        assert motion.measure > 0.05
        assert len(attempt.pictures) == 2


def test_execute_ends_where_it_was_sent_at_rest(grasp):
    waypoints = np.stack([grasp.start.command, HOME])
    with start(grasp) as attempt:
        attempt.execute(waypoints, 'home')
        first = attempt.observe().joint_positions
        np.testing.assert_allclose(first, HOME, atol=0.02)
        attempt.execute(waypoints[1:], 'stay')
        np.testing.assert_allclose(attempt.observe().joint_positions, first, atol=1e-3)
        assert [motion.what for motion in attempt.motions] == ['home', 'stay']


@pytest.mark.parametrize(
    ('waypoints', 'reason', 'another_may_do'),
    [
        (HOME, 'INVALID_PLAN: waypoint 0 has 1 positions', False),
        (np.zeros((0, 23)), 'INVALID_PLAN: the plan has no waypoints', False),
        (np.full((1, 23), np.nan), 'INVALID_PLAN: .*is nan', False),
        (np.full((1, 23), 9.0), 'LIMITS: waypoint 0 is out of reach', True),
        (INTO_COUNTER[None], 'COLLISION: .*counter', True),
    ],
)
def test_what_the_trajectory_node_would_refuse_moves_nothing(
    grasp, waypoints, reason, another_may_do
):
    with start(grasp) as attempt:
        before = attempt.observe().joint_positions
        with pytest.raises(PlantError, match=f'nowhere: {reason}') as refused:
            attempt.execute(waypoints, 'nowhere')
        assert isinstance(refused.value, MotionRefused) == another_may_do
        assert attempt.refusals == [str(refused.value)]
        assert attempt.motions == [] and len(attempt.pictures) == 1
        np.testing.assert_array_equal(attempt.observe().joint_positions, before)
        attempt.execute(HOME[None], 'home')
        assert len(attempt.motions) == len(attempt.refusals) == 1


def test_place_keeps_its_grip_while_the_planner_says_stay(place):
    with start(place) as attempt:
        held = attempt.observe().joint_positions
        assert np.abs(place.start.command - held)[HAND].max() > 0.05
        for _ in range(2):
            attempt.execute(attempt.observe().joint_positions[None], 'stay')
        # Fingers may creep around what they hold.
        np.testing.assert_allclose(attempt.observe().joint_positions[ARM], held[ARM], atol=0.03)
        target = place.scene.target
        height = attempt._cell.object_pose(target)[2]
        assert height > place.start_state.object_positions[target][2] - 0.02


def test_same_seed_same_trial_and_all_is_kept(tmp_path, method):
    evaluators = [
        Evaluator('grasp', tmp_path / name, [method, ExpertMethod()], 'fast') for name in 'ab'
    ]
    first, second = (each.attempt(10_000, ['tiny']) for each in evaluators)
    (one,), (two,) = first, second
    assert one.motions == two.motions
    assert one.last_costs == two.last_costs
    assert one.end == two.end
    # Two plans, then the closing rule's two motions, unless it could not lift from there.
    assert one.refusals == () and one.code == code_version()
    assert len(one.motions) == 4 - bool(one.failure)
    assert len(one.plan_seconds) == 2
    assert one.unaided == any(motion.success for motion in one.motions[:2])
    assert TrialLog(tmp_path / 'a' / TRIALS).read() == first
    strip = cv2.imread(str(tmp_path / 'a' / 'pictures' / 'tiny' / '10000.jpg'))
    intrinsics = load_cell_config().camera.intrinsics
    assert strip.shape[:2] == (intrinsics.height, intrinsics.width * (2 + len(one.motions)))


def test_told_goals_need_no_picture(tmp_path):
    methods = MethodSettings(('told', 'keypoints'), DEFAULT)
    table = evaluate('reach', [10_000], methods, tmp_path, 1, Console(quiet=True))
    told, read = table.rows
    assert told.strict_success.value == 1 and told.measure.value < 0.01
    assert read.measure.value > told.measure.value
    built = {method.name: method.digest for method in methods.build()}
    assert built['told'] != built['keypoints']


def test_finished_trials_are_not_made_again(tmp_path):
    console = Console(quiet=True)
    expert = MethodSettings(('expert',), tmp_path)
    table = evaluate('reach', [10_000], expert, tmp_path, 1, console)
    assert table.rows[0].strict_success.value == 1
    assert table.code == {code_version(): 1}
    trials = tmp_path / TRIALS
    picture = tmp_path / 'pictures' / 'expert' / '10000.jpg'
    before = trials.read_bytes()
    picture.unlink()
    again = evaluate('reach', [10_000], expert, tmp_path, 1, console)
    assert again == table
    assert trials.read_bytes() == before
    assert not picture.exists()
    assert '| expert (n=1) |' in (tmp_path / 'table.md').read_text()


def test_trials_of_other_code_are_told_from_those_to_come(tmp_path):
    expert = MethodSettings(('expert',), tmp_path)
    evaluate('reach', [10_000], expert, tmp_path, 1, Console(quiet=True))
    trials = tmp_path / TRIALS
    trials.write_text(trials.read_text().replace(code_version(), 'dexwm 0, commit abc'))
    said = StringIO()
    table = evaluate('reach', [10_000, 10_001], expert, tmp_path, 1, Console(file=said, width=999))
    assert 'warning: 1 attempts here were made by dexwm 0, commit abc, the' in said.getvalue()
    assert table.code == {'dexwm 0, commit abc': 1, code_version(): 1}
    said = StringIO()
    evaluate('reach', [10_000, 10_001], expert, tmp_path, 1, Console(file=said, width=999))
    assert 'warning' not in said.getvalue()


def test_a_seed_without_an_episode_does_not_end_the_others(tmp_path, monkeypatch):
    make = EpisodeMaker.make

    def fail_at_one(self, task, seed):
        if seed == 10_001:
            raise EpisodeError('the expert fails')
        return make(self, task, seed)

    monkeypatch.setattr(EpisodeMaker, 'make', fail_at_one)
    expert = MethodSettings(('expert',), tmp_path)
    said = StringIO()
    table = evaluate('reach', [10_001, 10_000], expert, tmp_path, 1, Console(file=said, width=999))
    assert table.rows[0].episodes == 1
    assert table.without_episode == {10_001: 'the expert fails'}
    assert '0 left' in said.getvalue().splitlines()[-1]
    assert '10001 (the expert fails)' in (tmp_path / 'table.md').read_text()
    with pytest.raises(EvaluationError, match='no episode of these seeds: 10001'):
        evaluate('reach', [10_001], expert, tmp_path, 1, Console(quiet=True))


@pytest.mark.parametrize('task', TASKS)
def test_a_task_is_evaluated_with_its_own_preset_too(task):
    methods = default_methods(task)
    assert default_preset(task) in methods
    assert len(set(methods)) == len(methods)


def test_bad_requests_are_refused(tmp_path, capsys):
    console = Console(quiet=True)
    expert = MethodSettings(('expert',), tmp_path)
    with pytest.raises(EvaluationError, match='unknown task'):
        evaluate('stack', [1], expert, tmp_path, 1, console)
    with pytest.raises(EvaluationError, match='at least one'):
        evaluate('reach', [], expert, tmp_path, 1, console)
    with pytest.raises(PresetError, match="'fast'"):
        evaluate('reach', [1], MethodSettings(('fast',), tmp_path), tmp_path, 1, console)
    missing = ['--methods', 'cpu', '--model', str(tmp_path / 'none'), '--out', str(tmp_path)]
    assert main(missing) == 1
    assert 'make eval' in capsys.readouterr().err
