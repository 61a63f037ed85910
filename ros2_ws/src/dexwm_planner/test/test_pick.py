import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest
import yaml
from ament_index_python.packages import get_package_prefix

pytestmark = pytest.mark.realtime

# The machine that tests may be busy; how fast states come is for other tests and benchmarks.
PATIENT = {
    'trajectory': {'ros__parameters': {'joint_state_timeout': 2.0, 'heartbeat_timeout': 9.0}}
}
TIMEOUT = 200


def executable(package, name):
    return Path(get_package_prefix(package)) / 'lib' / package / name


@pytest.fixture
def environment():
    return {**os.environ, 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST', 'ROS_DOMAIN_ID': '43'}


@pytest.mark.parametrize(
    'parts',
    [
        pytest.param((), id='sim'),
        # Through libfranka's protocol and CAN frames.
        pytest.param(('arm:=fci', 'hand:=can'), id='fci and can'),
    ],
)
def test_lifts_an_object_through_the_whole_graph(parts, tmp_path):
    if 'arm:=fci' in parts:
        pytest.importorskip('pylibfranka', reason='the FCI node needs pylibfranka')
        pytest.importorskip('franka_sim', reason='the robot of this test needs franka-sim')
    parameters = tmp_path / 'parameters.yaml'
    parameters.write_text(yaml.safe_dump(PATIENT))
    result = subprocess.run(
        [sys.executable, '-m', 'dexwm_planner.runner', 'pick', 'objects:=box,can', 'seed:=3',
         'quality:=fast', *parts, f'runs_dir:={tmp_path}', f'params_file:={parameters}'],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    (run,) = (path for path in tmp_path.iterdir() if path.is_dir())
    summary = json.loads((run / 'summary.json').read_text())
    assert summary['verdict'] == 'lifted'
    assert summary['target'] == 'box'
    assert summary['scene_seed'] == 3
    assert summary['strict_lift'] and summary['paper_grasp']
    assert 0.05 < summary['height'] <= summary['highest'] < 0.3
    assert [stage['name'] for stage in summary['stages']] == [
        'approach+descend',
        'curl+close',
        'lift',
    ]
    assert 0 < summary['max_tracking_error_arm'] < 0.05
    assert summary['frames_received'] == summary['frames_recorded'] > 20
    with av.open(str(run / summary['video'])) as video:
        stream = video.streams.video[0]
        assert stream.codec_context.name == 'h264'
        assert (stream.width, stream.height) == (392, 224)
        assert sum(1 for _ in video.decode(stream)) == summary['frames_recorded']


def test_says_which_input_does_not_come(tmp_path, environment):
    result = subprocess.run(
        [executable('dexwm_sim', 'pick'), '--ros-args', '-p', f'output_dir:={tmp_path}',
         '-p', 'wait_timeout:=0.5'],
        capture_output=True, text=True, timeout=TIMEOUT, check=False, env=environment,
    )  # fmt: skip
    assert result.returncode == 1
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary['verdict'] == 'failed'
    assert '/joint_states' in summary['reason']
    assert '/joint_states' in result.stderr


def test_interrupted_it_leaves_a_summary(tmp_path, environment):
    pick = subprocess.Popen(
        [executable('dexwm_sim', 'pick'), '--ros-args', '-p', f'output_dir:={tmp_path}'],
        env=environment,
    )
    # It says nothing before it has its inputs; without a handler the signal would kill it.
    while not _catches(pick.pid, signal.SIGTERM):
        time.sleep(0.05)
    pick.terminate()
    assert pick.wait(TIMEOUT) == 1
    assert json.loads((tmp_path / 'summary.json').read_text())['reason'] == 'interrupted'


def _catches(pid, number):
    lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    caught = int(next(line for line in lines if line.startswith('SigCgt')).split()[1], 16)
    return bool(caught >> (number - 1) & 1)
