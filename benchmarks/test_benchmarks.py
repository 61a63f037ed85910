"""Every benchmark runs and gives its numbers; how large they are is not looked at."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults import FAULTS
from benchmarks.measurement import Goal, percentiles
from benchmarks.run import BENCHMARKS

ROOT = Path(__file__).resolve().parents[1]

GOALS = {
    'cell': {'real-time factor', 'plans failed'},
    'fci': {'real-time factor', 'plans failed', 'cycle rate', 'reports without control'},
    'can': {
        'control loop: cycle rate',
        'control loop: cycle period, p99',
        'real-time factor',
        'plans failed',
    },
    'data': {'pictures, fast, 2 cores', 'pictures, standard, 2 cores'},
    'faults': {
        f'{fault}: {what}'
        for fault in (
            *FAULTS,
            'trajectory node is told to end',
            'trajectory node is killed',
            'trajectory node hangs',
            'clock jumps',
            'controllers are killed',
        )
        for what in ('to rest', 'peak acceleration of limit', 'peak jerk of limit')
    },
    'kinematics': set(),
    'loader': {'cache over demand'},
    'planning': {
        'default, N 64, T 1: naive over cached',
        'plan, hybrid, reach',
        'plan, hybrid, reach, share of kinematics, gradients and start included',
        'plan, hybrid, grasp',
        'plan, hybrid, grasp, share of kinematics, gradients and start included',
        'plan, push, push',
        'plan, push, push, share of kinematics, gradients and start included',
    },
    'replay': {'plans made again byte for byte'},
    'training': set(),
}


@pytest.mark.realtime
@pytest.mark.timeout(700)
@pytest.mark.parametrize('name', BENCHMARKS)
def test_a_short_run_writes_what_it_measured(name: str, tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'benchmarks.run', name, '--seconds', '3']
    result = subprocess.run(
        [*command, '--output', str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (file,) = tmp_path.glob('*.json')
    report = json.loads(file.read_text())
    assert report['machine']['cores'] >= 1
    assert report['software']['versions']['mujoco']
    assert not report['failures']
    assert list(report['benchmarks']) == [name]
    measurements = report['benchmarks'][name]['measurements']
    assert all(math.isfinite(item['value']) for item in measurements)
    names = [item['name'] for item in measurements]
    assert len(set(names)) == len(names)
    with_goal = {item['name'] for item in measurements if item['goal'] is not None}
    assert with_goal == GOALS[name]
    for item in measurements:
        assert (item['meets_goal'] is None) == (item['goal'] is None)


def test_an_unknown_benchmark_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'benchmarks.run', 'speed', '--output', str(tmp_path / 'x')]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert 'there is no benchmark speed' in result.stderr
    assert not (tmp_path / 'x').exists()


def test_goals_include_their_bound() -> None:
    assert Goal(0.99).is_met_by(0.99) and not Goal(0.99).is_met_by(0.98)
    assert Goal(0, at_least=False).is_met_by(0) and not Goal(0, at_least=False).is_met_by(1)


def test_percentiles_are_of_the_raw_samples() -> None:
    found = {item.name: item.value for item in percentiles('x', range(101), 'ms')}
    assert found == {'x, p50': 50.0, 'x, p99': 99.0, 'x, largest': 100.0}
