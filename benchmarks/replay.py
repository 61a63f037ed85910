"""A recorded run: what recording costs while it runs, and how fast it is made again after.

The graph `reach` with the default model runs once, recorded. Reading is of all messages with their
fields, in recorded seconds a second; replay is the plans' recorded time over that of making them
again, on a machine on which nothing else of the graph runs any more.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measurement import BenchmarkError, Goal, Measurement, Settings
from dexwm.bag.bag_reader import BagReader
from dexwm.bag.recorded_run import read_run
from dexwm.bag.replay import Replay

_LAST_LINES = 15
_PROCESSOR_TIME = re.compile(r'processor time ([\d.]+) s')


def run(settings: Settings) -> list[Measurement]:
    """Measures; raises BenchmarkError where the run or its replay is not as it shall be."""
    with tempfile.TemporaryDirectory() as directory:
        return _measure(settings, Path(directory))


def _measure(settings: Settings, directory: Path) -> list[Measurement]:
    settings.console.print('  one recorded reach, then its replay')
    folder = _record(directory)
    used = _PROCESSOR_TIME.search((folder / 'recorder.log').read_text())
    if used is None:
        raise BenchmarkError(f'the recorder did not end well: see {folder}')
    bag = folder / 'bag'
    run = read_run(bag)
    summary = json.loads((folder / 'summary.json').read_text())
    size = sum(file.stat().st_size for file in bag.iterdir())
    begin = time.perf_counter()
    count = sum(1 for _ in BagReader(bag).messages())
    reading = time.perf_counter() - begin
    replay = Replay(run)
    begin = time.perf_counter()
    comparisons = [replay.plan(plan) for plan in run.plans]
    replaying = time.perf_counter() - begin
    planned = sum(plan.seconds['total'] for plan in run.plans)
    same = sum(comparison.verdict == 'identical' for comparison in comparisons)
    return [
        Measurement('recorded', run.seconds, 's'),
        Measurement('size', size / run.seconds / 1e6, 'MB/s'),
        Measurement('messages', count / run.seconds, 'Hz'),
        Measurement(
            'processor time of the recorder, of a core', float(used[1]) / run.seconds * 100, '%'
        ),
        Measurement('real-time factor while recording', summary['real_time_factor'], ''),
        Measurement('reading over real time', run.seconds / reading, 'x'),
        Measurement('plans', len(run.plans), ''),
        Measurement('plans made again byte for byte', same, '', Goal(len(run.plans))),
        Measurement('planning, recorded over replayed', planned / replaying, 'x'),
        Measurement('the run over its replay', run.seconds / replaying, 'x'),
    ]


def _record(directory: Path) -> Path:
    """Runs a recorded reach; the folder that it left.

    Raises:
        BenchmarkError: With the last words of a run that was not made.
    """
    command = [sys.executable, '-m', 'dexwm_planner.runner', 'reach', 'seed:=3']
    ended = subprocess.run(
        [*command, f'runs_dir:={directory}'], capture_output=True, text=True, check=False
    )
    folders = list(directory.iterdir())
    # A reach that does not arrive is recorded as well.
    if not folders or not (folders[0] / 'summary.json').is_file():
        lines = (ended.stdout + ended.stderr).splitlines()[-_LAST_LINES:]
        raise BenchmarkError('\n'.join(['the graph `reach` ended:', *lines]))
    return folders[0]
