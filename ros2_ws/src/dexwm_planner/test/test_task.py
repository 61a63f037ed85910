"""A task through the whole graph: from a goal picture to a verdict, with what a run leaves."""

import json
import subprocess
import sys

import av
import cv2
import pytest
import yaml

pytestmark = pytest.mark.realtime

# The machine that tests may be busy; how fresh inputs must be is for other tests.
PATIENT = {
    'trajectory': {'ros__parameters': {'joint_state_timeout': 2.0, 'heartbeat_timeout': 9.0}},
    'planner': {
        'ros__parameters': {'joint_state_timeout': 2.0, 'image_timeout': 9.0, 'max_skew': 1.0}
    },
}
TIMEOUT = 280


def run(task, folder, *arguments):
    """Does a task in a folder of its own, and gives what the process said and its summary."""
    parameters = folder / 'parameters.yaml'
    parameters.write_text(yaml.safe_dump(PATIENT))
    ended = subprocess.run(
        [sys.executable, '-m', 'dexwm_planner.runner', task, 'quality:=fast',
         f'runs_dir:={folder}', f'params_file:={parameters}', *arguments],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    (left,) = (path for path in folder.iterdir() if path.is_dir())
    return ended, left, json.loads((left / 'summary.json').read_text())


def test_the_hand_gets_nearer_to_where_the_goal_picture_has_it(tmp_path):
    ended, left, summary = run('reach', tmp_path, 'seed:=2')
    said = ended.stdout + ended.stderr
    assert (summary['verdict'], ended.returncode) == ('success', 0), said
    assert summary['paper_criterion'] and summary['measure'] < 0.15
    assert len(summary['plans']) == 3 and all(plan['cost'] > 0 for plan in summary['plans'])
    assert 'plan 3, iteration 6: best cost' in said and 'of motion' in said
    with av.open(str(left / summary['video'])) as video:
        assert sum(1 for _ in video.decode(video.streams.video[0])) > 20
    # Start, goal, predicted, overlay and reached, each 392 pixels wide, but for the model's 384.
    assert cv2.imread(str(left / 'strip.png')).shape == (224, 4 * 392 + 384, 3)
    assert cv2.imread(str(left / 'costs.png')) is not None


def test_an_object_is_pushed_to_where_the_goal_picture_has_it(tmp_path):
    ended, _, summary = run('push', tmp_path, 'seed:=60004')
    said = ended.stdout + ended.stderr
    assert (summary['verdict'], ended.returncode) == ('success', 0), said
    assert len(summary['plans']) == 5 and 'for push in' in said
    # It lay 9 cm away.
    assert summary['measure'] < 0.06


def test_what_is_only_planned_is_not_judged_and_moves_nothing(tmp_path):
    ended, _, summary = run('reach', tmp_path, 'seed:=2', 'preset:=keypoints', 'execute:=false')
    said = ended.stdout + ended.stderr
    assert (summary['verdict'], ended.returncode) == ('planned', 0), said
    assert summary['succeeded']
    assert summary['paper_criterion'] is None and len(summary['plans']) == 1
    assert 'of motion' not in said
