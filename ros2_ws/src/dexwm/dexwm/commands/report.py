"""`dexwm report`: a page about a recorded run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dexwm.bag.recorded_run import read_run
from dexwm.bag.report_page import report_page

FILE_NAME = 'report.html'


def add_parser(subparsers: Any) -> None:
    """Adds the command to the program's."""
    parser = subparsers.add_parser(
        'report',
        help='write a page about a recorded run',
        description='Writes pictures, costs, timings, joint curves and the verdict of a recorded '
        'run as one HTML file that needs no other.',
    )
    parser.add_argument('bag', type=Path, metavar='BAG', help='recording: folder, .mcap or .db3')
    parser.add_argument(
        '--output',
        type=Path,
        metavar='FILE',
        help=f'the page; by default {FILE_NAME} beside the recording',
    )


def run(arguments: argparse.Namespace) -> int:
    """Writes the page; returns the exit status."""
    recorded = read_run(arguments.bag)
    path: Path = arguments.output or recorded.path.parent / FILE_NAME
    path.write_text(report_page(recorded), encoding='utf-8')
    for problem in recorded.problems:
        print(f'note: {problem}')
    print(path)
    return 0
