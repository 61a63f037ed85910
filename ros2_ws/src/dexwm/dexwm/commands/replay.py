"""`dexwm replay`: recorded plans, made again without ROS."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from dexwm.bag.recorded_run import read_run
from dexwm.bag.replay import Comparison, Replay

EXIT_DIFFERENT = 3
EXIT_INCOMPLETE = 4

_SAYS = {
    'identical': 'identical, bit for bit',
    'interrupted': 'ended by its budget of time, so not repeatable beyond its last iteration; '
    'up to there identical',
    'different': 'different',
    'impossible': 'could not be made again',
}


def add_parser(subparsers: Any) -> None:
    """Adds the command to the program's."""
    parser = subparsers.add_parser(
        'replay',
        help='make recorded plans again and compare',
        description='Plans again from the recorded pictures, joints, presets and seeds, without '
        'any ROS, and compares with the recorded plans. Exit status: 0 all plans are the same, '
        f'{EXIT_DIFFERENT} one differs, {EXIT_INCOMPLETE} one could not be made again for lack '
        'of something in the recording, 1 the recording cannot be used.',
    )
    parser.add_argument('bag', type=Path, metavar='BAG', help='recording: folder, .mcap or .db3')
    parser.add_argument('--model', type=Path, help='folder of the world model, if it moved')
    parser.add_argument('--device', help='where to compute; by default as recorded')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the comparison there')


def run(arguments: argparse.Namespace) -> int:
    """Replays all plans of a recording; returns the exit status."""
    recorded = read_run(arguments.bag, course=False)
    for problem in recorded.problems:
        print(f'note: {problem}')
    replay = Replay(recorded, arguments.model, arguments.device)
    for difference in replay.differences:
        print(f'not as recorded: {difference}')
    comparisons, rows = [], []
    for number, plan in enumerate(recorded.plans, 1):
        begin = time.perf_counter()
        comparison = replay.plan(plan)
        seconds = time.perf_counter() - begin
        comparisons.append(comparison)
        rows.append(_row(comparison, seconds))
        print(
            f'plan {number} ({plan.task}, {plan.preset.name}, seed {plan.seed}): '
            f'{_SAYS[comparison.verdict]} ({seconds:.1f} s, recorded '
            f'{plan.seconds.get("total", float("nan")):.1f} s)'
        )
        for difference in comparison.differences:
            print(f'  {difference}')
    if arguments.json is not None:
        content = {
            'bag': str(recorded.path),
            'not_as_recorded': list(replay.differences),
            'problems': recorded.problems,
            'plans': rows,
        }
        arguments.json.write_text(json.dumps(content, indent=2) + '\n')
    verdicts = {comparison.verdict for comparison in comparisons}
    if 'different' in verdicts:
        return EXIT_DIFFERENT
    return EXIT_INCOMPLETE if 'impossible' in verdicts else 0


def _row(comparison: Comparison, seconds: float) -> dict[str, Any]:
    recorded = comparison.recorded
    distance = comparison.waypoint_difference
    return {
        'task': recorded.task,
        'preset': recorded.preset.name,
        'seed': recorded.seed,
        'replan': recorded.replan,
        'verdict': comparison.verdict,
        'differences': list(comparison.differences),
        'waypoint_difference': distance if distance == distance else None,
        'seconds': seconds,
        'seconds_recorded': recorded.seconds.get('total'),
    }
