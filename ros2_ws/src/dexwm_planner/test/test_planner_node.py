"""The node `planner` with a tiny model, and a robot that goes where it is sent at once."""

import os
import subprocess
import sys
import threading
import time
from contextlib import closing

import cv2
import numpy as np
import pytest
import torch
from action_msgs.msg import GoalStatus
from dexwm_msgs.action import ExecutePlan, PlanToGoal
from dexwm_msgs.srv import CaptureGoal, ListGoals, SetGoal
from diagnostic_msgs.msg import DiagnosticArray, KeyValue
from rclpy.action import GoalResponse
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import Image

from dexwm.planning.goal import KeypointGoal
from dexwm.planning.mpc import REPLACEMENTS
from dexwm.robot.joints import JOINTS
from dexwm_franka_bringup.image_conversion import image_to_array
from dexwm_planner.graph.domain import DomainLease
from dexwm_planner.planner import planner_node, ros_plant

from .planner_scene import LATCHED, SIZE, TIMEOUT, Scene, picture, save_tiny_checkpoint

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
    with closing(Scene(domain_id, tmp_path, model=str(checkpoint))) as scene:
        assert scene.planner.autostart()
        yield scene


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


def test_keypoints_are_a_goal_too(scene):
    scene.wait_ready()
    pictures = []
    scene.robot.create_subscription(Image, '/planner/goal', pictures.append, LATCHED)
    goal = np.full((21, 3), np.nan)
    goal[8] = 0.5, 0.1, 0.9
    result = scene.ask(goal_keypoints=goal.ravel().tolist(), preset='keypoints')
    assert (result.error_code, result.error_string) == (Result.SUCCESSFUL, '')
    np.testing.assert_array_equal(np.reshape(result.plan.goal_keypoints, (21, 3)), goal)
    assert result.plan.goal_digest == KeypointGoal(points_base=goal).digest
    assert (
        dict(zip(result.plan.term_names, result.plan.terms, strict=True))['keypoint_distance']
        < 0.02
    )
    assert not pictures
    for wrong, message in (([0.0] * 60, r'must be (21, 3)'), ([np.nan] * 63, 'says nothing')):
        refused = scene.ask(goal_keypoints=wrong, preset='keypoints')
        assert refused.error_code == Result.INVALID_GOAL and message in refused.error_string


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


def test_what_the_lens_does_is_taken_out_of_what_is_planned_from(scene):
    scene.robot.distortion = [-0.3, 0.1, 0.0, 0.0, 0.0]
    scene.wait_ready()
    observed = []
    scene.robot.create_subscription(Image, '/planner/observed', observed.append, LATCHED)
    assert scene.ask(preset='random').error_code == Result.SUCCESSFUL
    scene.wait_until(lambda: observed)
    assert np.abs(image_to_array(observed[0]).astype(int) - picture()).mean() > 5


CLOSING = 'closing the hand'


def test_after_a_stale_motion_only_the_rest_of_the_way_is_sent(scene):
    scene.wait_ready()
    scene.robot.stale = {CLOSING: [0, 1]}
    scene.ask('grasp', execute=True, preset='random')
    first, again = (plan for plan in scene.robot.sent if plan.task == CLOSING)
    assert len(first.waypoints) == 2
    # Not the half closed hand once more.
    assert again.waypoints == first.waypoints[1:]


def test_a_stale_motion_that_got_nobody_knows_how_far_is_not_sent_again(scene):
    scene.wait_ready()
    scene.robot.stale = {'reach, plan 1 of 3': []}
    result = scene.ask(execute=True, preset='random')
    assert result.error_code == Result.EXECUTION_FAILED
    assert 'how far it got is not known' in result.error_string
    assert len(scene.robot.motions) == 1


def test_a_plan_says_how_old_its_picture_is_and_what_looks_at_none_does_not(scene):
    scene.wait_ready()
    result = scene.ask('grasp', execute=True, preset='random')
    stamps = {plan.task: plan.observation_stamp for plan in scene.robot.sent}
    assert stamps['grasp, plan 3 of 3'] == result.plan.observation_stamp
    assert (stamps[CLOSING].sec, stamps[CLOSING].nanosec) == (0, 0)


def cancel(scene, handle):
    scene.result_of(handle.cancel_goal_async())
    answer = scene.result_of(handle.get_result_async())
    assert answer.status == GoalStatus.STATUS_CANCELED
    return answer.result


def test_cancelled_in_mid_motion_the_task_is_cancelled(scene):
    scene.wait_ready()
    scene.robot.endless = True
    handle = scene.send(execute=True, preset='random')
    scene.wait_until(lambda: scene.robot.motions)
    result = cancel(scene, handle)
    assert result.error_code == Result.CANCELLED and 'plan 1 of 3' in result.error_string
    assert result.plan.waypoints
    assert len(scene.robot.motions) == 1


def test_cancelled_before_a_motion_is_sent_again_it_is_not_sent(scene, monkeypatch):
    scene.wait_ready()
    monkeypatch.setattr(ros_plant, '_RETRY_PAUSE', TIMEOUT / 2)
    scene.robot.stale = {'reach, plan 1 of 3': [0]}
    handle = scene.send(execute=True, preset='random')
    scene.wait_until(lambda: scene.robot.motions)
    result = cancel(scene, handle)
    assert result.error_code == Result.CANCELLED
    assert len(scene.robot.motions) == 1


def test_cancelled_while_nobody_takes_motions_the_task_ends(
    domain_id, checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setattr(ros_plant, '_ANSWER_TIMEOUT', TIMEOUT / 2)
    with closing(Scene(domain_id, tmp_path, takes_motions=False, model=str(checkpoint))) as scene:
        assert scene.planner.autostart()
        scene.wait_ready()
        handle = scene.send(execute=True, preset='random')
        scene.wait_until(lambda: scene.robot.plans)
        assert cancel(scene, handle).error_code == Result.CANCELLED


def test_cancelled_while_the_trajectory_node_is_silent_its_late_motion_is_called_off(
    scene, monkeypatch
):
    scene.wait_ready()
    monkeypatch.setattr(ros_plant, '_ANSWER_TIMEOUT', 3.0)
    asked, answers = threading.Event(), threading.Event()

    def answer_late(_):
        asked.set()
        answers.wait(TIMEOUT)
        return GoalResponse.ACCEPT

    scene.robot.server.register_goal_callback(answer_late)
    scene.robot.endless = True
    try:
        handle = scene.send(execute=True, preset='random')
        scene.wait_until(asked.is_set)
        result = cancel(scene, handle)
    finally:
        answers.set()
    assert result.error_code == Result.CANCELLED and 'did not answer' in result.error_string
    scene.wait_until(lambda: scene.robot.called_off)


def test_cancelled_while_a_picture_is_awaited_the_task_ends(domain_id, checkpoint, tmp_path):
    settings = {'model': str(checkpoint), 'image_timeout': TIMEOUT / 2}
    with closing(Scene(domain_id, tmp_path, **settings)) as scene:
        assert scene.planner.autostart()
        scene.wait_ready()
        scene.robot.camera_runs = False
        time.sleep(0.5)
        handle = scene.send()
        result = cancel(scene, handle)
        assert result.error_code == Result.CANCELLED and 'picture' in result.error_string


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
        ({'goal_name': ''}, 'neither a name, a picture nor keypoints'),
    ],
)
def test_goals_that_cannot_be_are_refused(request_fields, message, scene):
    scene.wait_ready()
    result = scene.ask(**request_fields)
    assert result.error_code == Result.INVALID_GOAL and message in result.error_string
    assert scene.robot.plans == []


def test_without_a_preset_the_task_decides(domain_id, checkpoint, tmp_path):
    with closing(Scene(domain_id, tmp_path, model=str(checkpoint), preset='')) as scene:
        assert scene.planner.autostart()
        scene.wait_ready()
        assert scene.ask('reach').plan.preset == 'hybrid'
        # This model reads no objects.
        result = scene.ask('push')
        assert result.error_code == Result.PLANNING_FAILED
        assert 'the preset push pushes' in result.error_string


def test_an_inactive_planner_says_so(domain_id, checkpoint, tmp_path):
    with closing(Scene(domain_id, tmp_path, model=str(checkpoint), autostart=False)) as scene:
        assert scene.planner.autostart()
        assert scene.ask().error_code == Result.NOT_ACTIVE
        assert not scene.call(CaptureGoal, 'capture_goal', name='a').success
        assert scene.planner.trigger_configure() is TransitionCallbackReturn.SUCCESS
        assert scene.planner.trigger_activate() is TransitionCallbackReturn.SUCCESS
        scene.wait_ready()
        assert scene.ask(preset='random').error_code == Result.SUCCESSFUL
        assert scene.planner.trigger_deactivate() is TransitionCallbackReturn.SUCCESS
        assert scene.ask().error_code == Result.NOT_ACTIVE


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


@pytest.mark.parametrize(
    ('model', 'device', 'reason'),
    [
        ('', 'cpu', 'the parameter model is empty'),
        ('/nowhere', 'cpu', 'there is no model in /nowhere'),
        ('/nowhere', 'gpu', "'gpu' is no device"),
    ],
)
def test_without_model_or_device_the_node_ends_and_says_why(
    model, device, reason, domain_id, tmp_path
):
    ended = subprocess.run(
        [
            sys.executable, '-m', 'dexwm_planner.planner.planner_node',
            '--ros-args', '-p', f'model:="{model}"', '-p', f'device:={device}',
            '-p', f'goals:={tmp_path}',
        ],
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain_id)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT * 2,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert f'not configured: {reason}' in ended.stderr


def test_what_nobody_foresaw_while_configuring_is_logged(
    domain_id, checkpoint, tmp_path, monkeypatch, capfd
):
    def load(*_):
        raise torch.OutOfMemoryError('CUDA out of memory')

    monkeypatch.setattr(planner_node, 'load_checkpoint', load)
    with closing(Scene(domain_id, tmp_path, model=str(checkpoint))) as scene:
        assert scene.planner.trigger_configure() is TransitionCallbackReturn.ERROR
    said = capfd.readouterr().err
    assert 'on_configure failed' in said and 'in load\n' in said
    assert 'OutOfMemoryError: CUDA out of memory' in said


def test_what_nobody_foresaw_while_planning_is_no_success(scene, monkeypatch, capfd):
    scene.wait_ready()
    with monkeypatch.context() as patch:
        patch.setattr(planner_node.Planner, 'plan', lambda *_, **__: {}['a bug'])
        result = scene.ask(seed=3)
    assert result.error_code == Result.PLANNING_FAILED
    assert "KeyError('a bug')" in result.error_string
    assert 'Traceback' in capfd.readouterr().err
    assert scene.ask(seed=3).error_code == Result.SUCCESSFUL


def test_a_stale_camera_calibration_is_reported(domain_id, checkpoint, tmp_path):
    path = tmp_path / 'camera.yaml'
    path.write_text(
        'date: "2020-01-01T00:00:00+00:00"\ncamera: {xyz: [0.1, 0.5, 1.0], rpy: [0, 0.8, -0.8]}\n'
    )
    reports = []
    settings = {'model': str(checkpoint), 'camera_calibration': str(path)}
    with closing(Scene(domain_id, tmp_path, **settings)) as scene:
        scene.robot.create_subscription(
            DiagnosticArray, '/diagnostics', lambda m: reports.extend(m.status), 10
        )
        assert scene.planner.autostart()
        scene.wait_until(
            lambda: any(
                s.message.startswith('ready; the camera calibration')
                and 'days old (from 2020-01-01)' in s.message
                and KeyValue(key='state', value='ready') in s.values
                for s in reports
            )
        )
        pose = scene.planner._cell.camera.T_base_from_camera
        np.testing.assert_allclose(pose[:3, 3], [0.1, 0.5, 1.0])


def test_a_camera_calibration_that_cannot_be_read_is_refused(domain_id, checkpoint, tmp_path):
    settings = {'model': str(checkpoint), 'camera_calibration': str(tmp_path / 'none.yaml')}
    with closing(Scene(domain_id, tmp_path, **settings)) as scene:
        assert not scene.planner.autostart()
