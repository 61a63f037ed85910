"""Recorded plans, made again without ROS: the same bytes, or what differs."""

import dataclasses
import json
import time

import cv2
import numpy as np
import pytest

from dexwm.bag.bag_reader import BagError
from dexwm.bag.planner_setup import PlannerSetup
from dexwm.bag.preset_text import preset_from_text, preset_to_text
from dexwm.bag.recorded_run import camera_topic, read_run, rgb_of
from dexwm.bag.replay import Replay
from dexwm.cli import main
from dexwm.geometry.camera import CameraIntrinsics
from dexwm.model.checkpoint import load_checkpoint
from dexwm.planning.compute_setup import ComputeSetup
from dexwm.planning.goal import KeypointGoal, PictureGoal
from dexwm.planning.observation import Observation
from dexwm.planning.planner import Planner
from dexwm.planning.preset import PRESETS, PresetError, find_preset
from dexwm.robot.box import Box
from dexwm.robot.joints import HOME

from .planning_scene import camera_pose
from .run_writer import (
    image,
    joint_state,
    plan_message,
    save_tiny_checkpoint,
    setup_message,
    write_messages,
)

SIZE = (112, 168)
INTRINSICS = CameraIntrinsics(SIZE[1], SIZE[0], 119.0, 119.0, 83.5, 55.5)
BOXES = (Box('counter', (1.0, 1.0, 0.1), (0.5, 0.0, 0.1)),)
BUDGET = 1.5
SEEN_NS, PLANNED_NS = 5_000_000_000, 6_000_000_000


def picture(seed):
    small = np.random.default_rng(seed).integers(0, 256, (7, 12, 3), dtype=np.uint8)
    return cv2.resize(small, SIZE[::-1])


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return save_tiny_checkpoint(tmp_path_factory.mktemp('model'))


@pytest.fixture(scope='module')
def planner(checkpoint, model):
    preset = dataclasses.replace(
        find_preset('paper-sim'),
        samples=12,
        iterations=3,
        elites=4,
        horizon=2,
        replans=2,
        name='small',
    )
    return Planner(load_checkpoint(checkpoint), model, preset, boxes=BOXES)


def run_messages(planner, checkpoint, urdf, budget=0.0, goal=None, **stop):
    """Two plans of a task, as their planner published them."""
    goal = goal or PictureGoal(picture(1))
    keypoints = () if isinstance(goal, PictureGoal) else goal.points_base.ravel()
    messages = [
        ('/planner/setup', setup_message(planner, checkpoint, urdf, BOXES)),
        ('/camera/color/image_raw', image(picture(7), 1)),
    ]
    if isinstance(goal, PictureGoal):
        messages.append(('/planner/goal', image(goal.image)))
    previous = None
    for replan in range(2):
        q = HOME + 0.01 * replan
        seen = Observation(picture(10 + replan), q, INTRINSICS, camera_pose())
        plan = planner.plan(
            seen,
            goal,
            task='grasp',
            seed=4,
            replan=replan,
            previous=previous,
            budget=budget or None,
            **stop,
        )
        seen_ns, planned_ns = SEEN_NS + replan, PLANNED_NS + replan
        messages += [
            ('/camera/color/image_raw', image(seen.image, seen_ns)),
            ('/joint_states', joint_state(q, seen_ns)),
            ('/planner/observed', image(seen.image, seen_ns)),
            (
                '/planner/plan',
                plan_message(plan, seen, planner, seen_ns, planned_ns, budget, keypoints),
            ),
            ('/planner/overlay', image(picture(20))),
        ]
        previous = plan
    return messages


@pytest.fixture(scope='module')
def messages(planner, checkpoint, urdf):
    return run_messages(planner, checkpoint, urdf)


@pytest.fixture
def bag(messages, tmp_path):
    return write_messages(tmp_path / 'bag', messages)


def without(messages, topic):
    return [(name, message) for name, message in messages if name != topic]


def verdicts(bag, tmp_path, *arguments):
    file = tmp_path / 'replay.json'
    status = main(['replay', str(bag), '--json', str(file), *arguments])
    content = json.loads(file.read_text())
    return status, [plan['verdict'] for plan in content['plans']], content


def test_the_same_build_makes_the_same_bytes(bag, tmp_path, capsys):
    status, found, content = verdicts(bag, tmp_path)
    assert (status, found) == (0, ['identical'] * 2)
    assert content['not_as_recorded'] == content['problems'] == []
    assert [plan['waypoint_difference'] for plan in content['plans']] == [0.0, 0.0]
    assert 'identical, bit for bit' in capsys.readouterr().out


def test_plans_to_keypoints_are_made_again(planner, checkpoint, urdf, tmp_path, capsys):
    points = np.full((21, 3), np.nan)
    points[8] = 0.5, 0.1, 0.9
    messages = run_messages(planner, checkpoint, urdf, goal=KeypointGoal(points_base=points))
    bag = write_messages(tmp_path / 'bag', messages)
    assert verdicts(bag, tmp_path)[:2] == (0, ['identical'] * 2)
    assert main(['report', str(bag), '--out', str(tmp_path / 'report.html')]) == 0
    assert 'keypoints, SHA-256' in (tmp_path / 'report.html').read_text()


def test_the_plan_depends_on_what_is_said_to_be_recorded(messages, tmp_path):
    """Each recorded input is really used: changed alone, it changes the plan."""

    def changed(number, **fields):
        parts = list(messages)
        where = [i for i, (topic, _) in enumerate(parts) if topic == '/planner/plan'][number]
        parts[where] = ('/planner/plan', dataclasses.replace(parts[where][1], **fields))
        bag = write_messages(tmp_path / '_'.join(fields), parts)
        return verdicts(bag, tmp_path)

    plan = dict(enumerate(m for topic, m in messages if topic == '/planner/plan'))[1]
    pose = plan.t_base_from_camera.copy()
    pose[3] += 0.05
    settings = json.loads(plan.preset_settings)
    settings['weights']['latent'] *= 2
    for fields in (
        {'seed': 5},
        {'observed_positions': plan.observed_positions + 0.01},
        {'previous_waypoints': plan.previous_waypoints + 0.01},
        {'t_base_from_camera': pose},
        {'preset_settings': json.dumps(settings)},
        {'task': 'reach'},
    ):
        status, found, content = changed(1, **fields)
        assert (status, found) == (3, ['identical', 'different']), fields
        assert any('costs differ' in text for text in content['plans'][1]['differences'])


def test_another_model_is_named(bag, tmp_path):
    other = save_tiny_checkpoint(tmp_path / 'other', seed=1)
    status, found, content = verdicts(bag, tmp_path, '--model', str(other))
    assert (status, found) == (3, ['different'] * 2)
    differences = content['plans'][1]['differences']
    assert differences[0].startswith('model: ') and 'waypoints differ by up to' in differences[2]
    assert content['plans'][1]['waypoint_difference'] > 1e-3


def test_another_computer_is_named(messages, tmp_path, capsys):
    topic, message = messages[0]
    setup = PlannerSetup.from_text(message.data)
    assert PlannerSetup.from_text(setup.to_text()).to_text() == setup.to_text() == message.data
    compute = dataclasses.replace(setup.compute, torch='1.0', processor='abacus')
    text = dataclasses.replace(setup, compute=compute).to_text()
    parts = [(topic, dataclasses.replace(message, data=text)), *messages[1:]]
    _, _, content = verdicts(write_messages(tmp_path / 'bag', parts), tmp_path)
    now = ComputeSetup.of_this_process('cpu')
    assert f'torch: 1.0, now {now.torch}' in content['not_as_recorded']
    assert any(text.startswith('processor: abacus') for text in content['not_as_recorded'])
    assert 'not as recorded: torch' in capsys.readouterr().out


def test_a_preset_that_was_changed_since_is_named_and_the_recorded_one_used(
    messages, tmp_path, monkeypatch
):
    today = dataclasses.replace(PRESETS['paper-sim'], name='small', samples=99)
    monkeypatch.setattr('dexwm.bag.replay.PRESETS', {'small': today})
    bag = write_messages(tmp_path / 'bag', messages)
    status, found, content = verdicts(bag, tmp_path)
    assert (status, found) == (0, ['identical'] * 2)
    assert 'other settings now' in content['plans'][0]['differences'][0]


@pytest.mark.parametrize('preset', PRESETS.values(), ids=list(PRESETS))
def test_presets_survive_as_text(preset):
    assert preset_from_text(preset_to_text(preset)) == preset
    with pytest.raises(PresetError, match='other settings'):
        preset_from_text(preset_to_text(preset).replace('samples', 'tries'))


def test_the_picture_may_be_on_the_topic_of_the_camera_only(messages, tmp_path):
    bag = write_messages(tmp_path / 'bag', without(messages, '/planner/observed'))
    assert verdicts(bag, tmp_path)[:2] == (0, ['identical'] * 2)
    assert camera_topic(bag) == '/camera/color/image_raw'
    assert rgb_of(image(picture(3), encoding='bgr8')).tobytes() == picture(3).tobytes()


@pytest.mark.parametrize('lost', ['goal', 'picture', 'other picture'])
def test_what_the_recording_lacks_is_named(lost, messages, tmp_path):
    parts = without(messages, '/planner/goal') if lost == 'goal' else list(messages)
    if 'picture' in lost:
        parts = without(without(parts, '/planner/observed'), '/camera/color/image_raw')
    if lost == 'other picture':
        parts.insert(1, ('/planner/observed', image(picture(9), SEEN_NS)))
    status, found, content = verdicts(write_messages(tmp_path / 'bag', parts), tmp_path)
    assert (status, found) == (4, ['impossible'] * 2)
    what = 'the goal picture' if lost == 'goal' else 'the picture of 5.000 s'
    assert what in content['plans'][0]['differences'][0]


def test_recordings_without_a_plan_or_a_setup_are_refused(messages, tmp_path, capsys):
    no_plan = write_messages(tmp_path / 'a', without(messages, '/planner/plan'))
    assert main(['replay', str(no_plan)]) == 1
    assert '0 topics of plans' in capsys.readouterr().err
    no_setup = write_messages(tmp_path / 'b', messages[1:])
    assert main(['replay', str(no_setup)]) == 1
    assert "lacks the planner's setup" in capsys.readouterr().err
    assert main(['replay', str(tmp_path / 'c')]) == 1
    assert 'there is no recording' in capsys.readouterr().err


def test_a_plan_that_its_budget_ended_is_compared_up_to_its_last_iteration(
    planner, checkpoint, urdf, tmp_path, capsys
):
    def use_up(iteration):
        if iteration.iteration == 1:
            time.sleep(BUDGET)

    parts = run_messages(planner, checkpoint, urdf, budget=BUDGET, on_iteration=use_up)
    bag = write_messages(tmp_path / 'bag', parts)
    run = read_run(bag)
    assert [plan.outcome for plan in run.plans] == ['budget'] * 2
    assert all(plan.budget == BUDGET and len(plan.costs) < 3 for plan in run.plans)
    assert verdicts(bag, tmp_path)[:2] == (0, ['interrupted'] * 2)
    assert 'not repeatable beyond its last iteration' in capsys.readouterr().out


def test_a_recording_that_was_cut_off_replays_the_plans_that_it_holds(messages, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    filler = [('/camera/color/image_raw', image(noise, i)) for i in range(3)]
    where = max(i for i, (topic, _) in enumerate(messages) if topic == '/planner/goal') + 6
    assert [topic for topic, _ in messages[:where]].count('/planner/plan') == 1
    parts = [*messages[:where], *filler, *messages[where:]]
    bag = write_messages(tmp_path / 'bag', parts)
    (file,) = bag.glob('*.mcap')
    file.write_bytes(file.read_bytes()[:-60_000])
    status, found, content = verdicts(bag, tmp_path)
    assert (status, found) == (0, ['identical'])
    assert 'lost' in ' '.join(content['problems'])


def test_the_run_is_told_as_it_was(bag):
    run = read_run(bag)
    assert run.positions.shape == (2, 23) and run.problems == []
    np.testing.assert_allclose(run.positions[1], HOME + 0.01)
    np.testing.assert_allclose(np.diff(run.times), 0.05)
    assert run.pictures['start'].tobytes() == picture(7).tobytes()
    assert run.pictures['reached'].tobytes() == picture(11).tobytes()
    assert run.pictures['overlay'].tobytes() == picture(20).tobytes()
    assert [plan.replan for plan in run.plans] == [0, 1]
    assert run.plans[0].previous_waypoints is None
    np.testing.assert_array_equal(run.plans[1].previous_waypoints, run.plans[0].waypoints)


def test_plans_of_another_robot_are_refused(messages, tmp_path):
    parts = [
        (topic, dataclasses.replace(message, joint_names=['a'] * 23))
        if topic == '/planner/plan'
        else (topic, message)
        for topic, message in messages
    ]
    with pytest.raises(BagError, match='not of this robot'):
        read_run(write_messages(tmp_path / 'bag', parts))


def test_a_device_that_is_not_there_is_an_error(bag):
    with pytest.raises((RuntimeError, ValueError)):
        Replay(read_run(bag), device='abacus')
