"""The node `planner` with a tiny model, and a robot that goes where it is sent at once."""

import os
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from dexwm_msgs.action import ExecutePlan, PlanToGoal
from dexwm_msgs.srv import CaptureGoal, ListGoals, SetGoal
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import TransitionCallbackReturn

from dexwm.planning.mpc import REPLACEMENTS
from dexwm.robot.joints import JOINTS
from dexwm_planner.camera.image_conversion import image_to_array
from dexwm_planner.graph.domain import DomainLease

from .planner_scene import SIZE, TIMEOUT, Scene, picture, save_tiny_checkpoint

Result = PlanToGoal.Result


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp('model'))


@pytest.fixture
def domain_id():
    with DomainLease() as lease:
        yield lease.domain_id


@pytest.fixture
def scene(domain_id, checkpoint, tmp_path):
    scene = Scene(domain_id, tmp_path, model=str(checkpoint))
    assert scene.planner.autostart()
    yield scene
    scene.close()


def test_a_goal_picture_becomes_a_plan_and_the_same_seed_the_same_plan(scene):
    scene.wait_ready()
    first = scene.ask(seed=3)
    assert (first.error_code, first.error_string) == (Result.SUCCESSFUL, '')
    plan = first.plan
    assert list(plan.joint_names) == list(JOINTS) and len(plan.waypoints) == 1
    assert len(plan.costs) == 10 and all(np.diff(plan.costs) <= 0)
    assert plan.seed == 3 and len(plan.goal_digest) == len(plan.checkpoint_digest) == 64
    scene.wait_until(lambda: len(scene.feedback) == 10)
    assert [f.iteration for f in scene.feedback] == list(range(10))
    assert scene.feedback[-1].best_cost == plan.costs[-1]
    scene.wait_until(lambda: scene.robot.plans)
    assert scene.robot.plans[0] == plan
    again, other = scene.ask(seed=3).plan, scene.ask(seed=4).plan
    assert again.waypoints == plan.waypoints and again.costs == plan.costs
    assert other.waypoints != plan.waypoints
    assert scene.robot.motions == []


def test_executed_plans_follow_one_another_from_where_the_robot_got(scene):
    scene.wait_ready()
    result = scene.ask(execute=True, preset='random')
    assert result.error_code == Result.SUCCESSFUL
    assert scene.robot.motions == [f'reach, plan {n} of 3' for n in (1, 2, 3)]
    np.testing.assert_allclose(scene.robot.positions, result.plan.waypoints[-1].positions)


@pytest.mark.parametrize(
    ('refusal', 'tries'),
    [
        # Another plan may go another way.
        (ExecutePlan.Result.COLLISION, 1 + REPLACEMENTS),
        (ExecutePlan.Result.REFUSED, 1),
    ],
)
def test_a_motion_that_is_refused_ends_the_task_and_says_why(scene, refusal, tries):
    scene.wait_ready()
    scene.robot.refusal = refusal
    result = scene.ask(execute=True, preset='random')
    assert result.error_code == Result.EXECUTION_FAILED
    assert f'code {refusal}, because' in result.error_string
    assert scene.robot.motions == ['reach, plan 1 of 3'] * tries


def test_without_fresh_inputs_nothing_is_planned(scene):
    scene.robot.camera_runs = scene.robot.joints_run = False
    time.sleep(1.2)
    result = scene.ask()
    assert result.error_code == Result.STALE_IMAGE and 'camera running' in result.error_string
    scene.robot.camera_runs = True
    scene.wait_until(lambda: 'picture' not in scene.planner._inputs.problem())
    result = scene.ask()
    assert result.error_code == Result.STALE_STATE and 'joint state' in result.error_string
    scene.robot.joints_run, scene.robot.joints_late = True, 0.6
    scene.wait_until(lambda: 'nearest to the picture' in scene.planner._inputs.problem())
    result = scene.ask()
    assert result.error_code == Result.STALE_STATE and 'synchronise' in result.error_string
    scene.robot.joints_late = 0.0
    scene.wait_ready()
    assert scene.ask(preset='random').error_code == Result.SUCCESSFUL


def test_a_camera_that_stops_while_the_task_runs_ends_it(scene):
    scene.wait_ready()
    handle = scene.send(execute=True)
    scene.wait_until(lambda: scene.feedback)
    scene.robot.camera_runs = False
    result = scene.result_of(handle.get_result_async()).result
    assert result.error_code == Result.STALE_IMAGE
    assert len(scene.robot.motions) <= 1


def test_one_goal_at_a_time_and_cancel_ends_it_within_an_iteration(scene):
    scene.wait_ready()
    handle = scene.send(preset='paper-sim')
    scene.wait_until(lambda: scene.feedback)
    second = scene.ask()
    assert second.error_code == Result.BUSY and 'another goal' in second.error_string
    scene.result_of(handle.cancel_goal_async())
    before = len(scene.feedback)
    result = scene.result_of(handle.get_result_async()).result
    assert result.error_code == Result.CANCELLED
    assert len(scene.feedback) <= before + 2 < 10
    assert scene.robot.motions == []
    assert scene.ask(preset='random').error_code == Result.SUCCESSFUL


@pytest.mark.parametrize(
    ('request_fields', 'message'),
    [
        ({'task': 'juggle'}, "unknown task 'juggle'"),
        ({'preset': 'quick'}, "no preset 'quick'"),
        ({'goal_name': 'nothing'}, "no goal 'nothing'"),
        ({'goal': np.zeros((*SIZE, 3), np.uint8)}, 'shows nothing'),
        ({'goal': picture()[:, :80].copy()}, 'picture'),
        ({'goal_name': ''}, 'neither a name nor a picture'),
    ],
)
def test_goals_that_cannot_be_are_refused(request_fields, message, scene):
    scene.wait_ready()
    result = scene.ask(**request_fields)
    assert result.error_code == Result.INVALID_GOAL and message in result.error_string
    assert scene.robot.plans == []


def test_an_inactive_planner_says_so(domain_id, checkpoint, tmp_path):
    scene = Scene(domain_id, tmp_path, model=str(checkpoint), autostart=False)
    try:
        assert scene.planner.autostart()
        assert scene.ask().error_code == Result.NOT_ACTIVE
        assert not scene.call(CaptureGoal, 'capture_goal', name='a').success
        assert scene.planner.trigger_configure() is TransitionCallbackReturn.SUCCESS
        assert scene.planner.trigger_activate() is TransitionCallbackReturn.SUCCESS
        scene.wait_ready()
        assert scene.ask(preset='random').error_code == Result.SUCCESSFUL
        assert scene.planner.trigger_deactivate() is TransitionCallbackReturn.SUCCESS
        assert scene.ask().error_code == Result.NOT_ACTIVE
    finally:
        scene.close()


def test_the_goal_library_over_services(scene, tmp_path):
    scene.wait_ready()
    path = tmp_path / 'goal.png'
    cv2.imwrite(str(path), cv2.cvtColor(picture(5), cv2.COLOR_RGB2BGR))
    stored = scene.call(SetGoal, 'set_goal', name='file', path=str(path))
    assert stored.success and stored.goal.name == 'file' and len(stored.goal.digest) == 64
    captured = scene.call(CaptureGoal, 'capture_goal', name='seen')
    assert captured.success
    assert [goal.name for goal in scene.call(ListGoals, 'list_goals').goals] == ['seen', 'file']
    # The thumbnail has the model's aspect ratio.
    thumbnail = image_to_array(captured.goal.thumbnail)
    assert thumbnail.shape == (128, 192, 3)
    missing = scene.call(SetGoal, 'set_goal', name='a', path=str(tmp_path / 'nothing.png'))
    assert not missing.success and 'no goal picture' in missing.message
    wrong = scene.call(SetGoal, 'set_goal', name='../a', path=str(path))
    assert not wrong.success and 'not a possible name' in wrong.message
    result = scene.ask(goal_name='file', preset='random')
    assert result.error_code == Result.SUCCESSFUL and result.plan.goal_name == 'file'
    assert result.plan.goal_digest == stored.goal.digest


@pytest.mark.parametrize('model', ['', '/nowhere'])
def test_without_a_model_the_node_ends_and_says_why(model, domain_id, tmp_path):
    ended = subprocess.run(
        [
            sys.executable, '-m', 'dexwm_planner.planner.planner_node',
            '--ros-args', '-p', f'model:="{model}"', '-p', f'goals:={tmp_path}',
        ],
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain_id)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT * 2,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert 'not configured' in ended.stderr


def test_a_stale_camera_calibration_is_reported(domain_id, checkpoint, tmp_path):
    path = tmp_path / 'camera.yaml'
    path.write_text(
        'date: "2020-01-01T00:00:00+00:00"\ncamera: {xyz: [0.1, 0.5, 1.0], rpy: [0, 0.8, -0.8]}\n'
    )
    scene = Scene(domain_id, tmp_path, model=str(checkpoint), camera_calibration=str(path))
    reports = []
    try:
        scene.robot.create_subscription(
            DiagnosticArray, '/diagnostics', lambda m: reports.extend(m.status), 10
        )
        assert scene.planner.autostart()
        scene.wait_until(lambda: any('days old (from 2020-01-01)' in s.message for s in reports))
        pose = scene.planner._cell.camera.T_base_from_camera
        np.testing.assert_allclose(pose[:3, 3], [0.1, 0.5, 1.0])
    finally:
        scene.close()


def test_a_camera_calibration_that_cannot_be_read_is_refused(domain_id, checkpoint, tmp_path):
    scene = Scene(
        domain_id, tmp_path, model=str(checkpoint), camera_calibration=str(tmp_path / 'none.yaml')
    )
    try:
        assert not scene.planner.autostart()
    finally:
        scene.close()
