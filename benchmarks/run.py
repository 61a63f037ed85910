"""Measures how fast things are, shows tables, and keeps the numbers as JSON.

Each run writes `<date>.json` with machine, versions and load: numbers of a machine that has other
work to do are worth little. Exit status: 0 if everything was measured, met or not; 1 if something
could not be.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measurement import BenchmarkError, Measurement, Settings
from dexwm_planner.graph.run_directory import provenance

BENCHMARKS = (
    'cell',
    'fci',
    'can',
    'faults',
    'data',
    'kinematics',
    'loader',
    'planning',
    'replay',
    'training',
)
"""Modules of this package, each with a function `run`."""


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'benchmarks',
        nargs='*',
        metavar='benchmark',
        help=f'which, of {", ".join(BENCHMARKS)}; all if none is named',
    )
    parser.add_argument(
        '--seconds', type=float, help='length of every measurement; each has its own if omitted'
    )
    parser.add_argument('--output', type=Path, default=Path('runs/bench'), help='folder')
    parsed = parser.parse_args()
    if unknown := sorted(set(parsed.benchmarks) - set(BENCHMARKS)):
        parser.error(f'there is no benchmark {", ".join(unknown)}; choose of {BENCHMARKS}')
    if parsed.seconds is not None and not parsed.seconds > 0:
        parser.error('--seconds must be positive')

    console = Console()
    now = datetime.now().astimezone()
    output = parsed.output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    settings = Settings(parsed.seconds, output, console)
    report: dict[str, Any] = {
        'date': now.isoformat(timespec='seconds'),
        'machine': _machine(),
        'software': provenance(),
        'benchmarks': {},
        'failures': {},
    }
    path = output / f'{now:%Y-%m-%d_%H-%M-%S}.json'
    for name in parsed.benchmarks or BENCHMARKS:
        load = os.getloadavg()[0]
        console.print(f'[bold]{name}[/] (load average {load:.1f})')
        try:
            measurements = importlib.import_module(f'benchmarks.{name}').run(settings)
        except BenchmarkError as error:
            report['failures'][name] = str(error)
            console.print(f'  could not be measured: {error}', style='red', markup=False)
        else:
            report['benchmarks'][name] = {
                'load_average_before': load,
                'measurements': [_as_json(measurement) for measurement in measurements],
            }
            console.print(_table(measurements))
        path.write_text(json.dumps(report, indent=2) + '\n')
    console.print(f'Written to {path}')
    return 1 if report['failures'] else 0


def _machine() -> dict[str, Any]:
    return {
        'cpu': _cpu_model(),
        'cores': len(os.sched_getaffinity(0)),
        'kernel': platform.release(),
    }


def _cpu_model() -> str:
    for line in Path('/proc/cpuinfo').read_text().splitlines():
        key, _, value = line.partition(':')
        if key.strip() == 'model name':
            return value.strip()
    return platform.machine()


def _verdict(measurement: Measurement) -> str:
    if measurement.goal is None:
        return ''
    met = measurement.goal.is_met_by(measurement.value)
    return f'{"meets" if met else "misses"} the goal'


def _as_json(measurement: Measurement) -> dict[str, Any]:
    goal = measurement.goal
    met = None if goal is None else goal.is_met_by(measurement.value)
    return {**asdict(measurement), 'meets_goal': met}


def _table(measurements: list[Measurement]) -> Table:
    table = Table('what', 'value', 'unit', 'goal', '')
    table.columns[1].justify = 'right'
    for measurement in measurements:
        verdict = _verdict(measurement)
        style = {'meets the goal': 'green', 'misses the goal': 'red'}.get(verdict, '')
        table.add_row(
            measurement.name,
            _digits(measurement.value),
            measurement.unit,
            '' if measurement.goal is None else str(measurement.goal),
            verdict,
            style=style,
        )
    return table


def _digits(value: float) -> str:
    if abs(value) >= 1000 or value == int(value):
        return f'{value:,.0f}'
    return f'{value:.3f}' if abs(value) < 10 else f'{value:.1f}'


if __name__ == '__main__':
    sys.exit(main())
