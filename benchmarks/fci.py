"""The same motions through libfranka's protocol (`arm:=fci`).

Measured by the FCI node's own diagnostics, which count what its 1 kHz control process did: cycles
answered a second on the wall, milliseconds of the robot's time without a command of ours, and
times at which control was lost (a reflex: the server enforces the motion limits and the
communication constraints of a real arm).
"""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus

from benchmarks.cell import motions, real_time_factor, record
from benchmarks.measurement import BenchmarkError, Goal, Measurement, Settings

SECONDS = 60.0
_RATE_GOAL = Goal(995)
_VIOLATION_GOAL = Goal(0, at_least=False)
_STATUS = 'fci: arm'


def run(settings: Settings) -> list[Measurement]:
    """Measures; raises BenchmarkError where that is not possible."""
    recording, loads = record(settings, SECONDS, arm='fci')
    statuses = recording.statuses.get(_STATUS, [])
    if len(statuses) < 2:
        raise BenchmarkError(f'too few diagnostics {_STATUS!r}: measure for longer')
    values = [{item.key: item.value for item in status.values} for _, status in statuses]
    seconds = (statuses[-1][0] - statuses[0][0]) * 1e-9

    def increase(key: str) -> float:
        return float(values[-1][key]) - float(values[0][key])

    lost = sum(status.level == DiagnosticStatus.ERROR for _, status in statuses)
    return [
        Measurement('time observed', seconds, 's'),
        Measurement('cycle rate', increase('cycles') / seconds, 'Hz', _RATE_GOAL),
        Measurement('missed cycles', increase('missed_cycles'), ''),
        Measurement('reports without control', lost, '', _VIOLATION_GOAL),
        Measurement(
            'success rate, lowest', min(float(value['success_rate']) for value in values), ''
        ),
        Measurement('real-time priority', float(values[-1]['real_time_priority'] == 'True'), ''),
        *real_time_factor(recording),
        *motions(recording),
        *loads,
    ]
