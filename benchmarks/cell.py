"""The running graph `cell`, with a 10 Hz camera and the robot in motion all the time.

Measured while plans go back and forth through /trajectory/execute_plan:

- Real-time factor: simulated time over wall time, from first to last /cell/state; and the lowest
  that the node reports for any second.
- Capture to callback: from the stamp of a picture (when the state it shows held) to the callback
  of a subscriber in another process: rendering, conversion, transport, deserialisation.
- Command period: between two trajectories that the trajectory node published to one controller
  within one motion, by DDS's time of sending; jitter is its distance from the period asked for.
- Processor time of each node, as cores kept busy: says who is slow even where the machine has
  other work to do.
- Goal to command: from sending a goal to the first trajectory: checks, timing, collisions.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cell_graph import CellGraph
from benchmarks.measurement import BenchmarkError, Goal, Measurement, Settings, percentiles
from benchmarks.probe import Probe, Recording

SECONDS = 30.0
COMMAND_PERIOD_MS = 50.0
"""Period of the trajectory node's stream unless its parameter chunk_period says otherwise."""

_RTF_GOAL = Goal(0.99)
_FAILURE_GOAL = Goal(0, at_least=False)
_WARM_UP = 4.0


def run(settings: Settings) -> list[Measurement]:
    """Measures; raises BenchmarkError where that is not possible."""
    recording, loads = record(settings, SECONDS)
    return [
        *real_time_factor(recording),
        *_camera(recording),
        *_commands(recording),
        *motions(recording),
        *loads,
    ]


def record(
    settings: Settings, seconds: float, **arguments: Any
) -> tuple[Recording, list[Measurement]]:
    """Starts the graph, warms it up, and records the robot moving.

    Returns:
        What was recorded, and how busy each node kept the processor.
    """
    say = settings.console.print
    with CellGraph(arguments, settings.directory) as graph:
        say('  starting the graph')
        with Probe(graph.domain_id, graph.check) as probe:
            probe.wait_until_ready()
            probe.drive(_WARM_UP)
            probe.recording = recording = Recording()
            seconds = settings.seconds or seconds
            say(f'  moving the robot for {seconds:g} s')
            begun, before = time.monotonic(), graph.cpu_seconds()
            probe.drive(seconds)
            passed, after = time.monotonic() - begun, graph.cpu_seconds()
    if recording.failures:
        say(f'  a plan failed with {recording.failures[-1]}', style='yellow', markup=False)
    return recording, [
        Measurement(f'processor time of {name}', (after[name] - before[name]) / passed, 'cores')
        for name in before
    ]


def real_time_factor(recording: Recording) -> list[Measurement]:
    """Simulated over wall time."""
    wall, simulated, reported = np.array(recording.states).T
    if len(wall) < 2:
        raise BenchmarkError('there are too few states of the cell: measure for longer')
    factor = (simulated[-1] - simulated[0]) / (wall[-1] - wall[0])
    return [
        Measurement('real-time factor', float(factor), '', _RTF_GOAL),
        Measurement('real-time factor, worst second', float(reported.min()), ''),
    ]


def motions(recording: Recording) -> list[Measurement]:
    """How the motions went."""
    errors = [motion.max_tracking_error for motion in recording.motions]
    counts = [
        Measurement('plans executed', len(errors), ''),
        Measurement('plans failed', len(recording.failures), '', _FAILURE_GOAL),
    ]
    if not errors:
        return counts
    return [*counts, Measurement('tracking error, largest', max(errors), 'rad')]


def _camera(recording: Recording) -> list[Measurement]:
    stamps, callbacks = np.array(recording.frames).T
    if len(stamps) < 2:
        raise BenchmarkError('there are too few pictures: measure for longer')
    rate = (len(callbacks) - 1) / ((callbacks[-1] - callbacks[0]) * 1e-9)
    return [
        Measurement('pictures', float(rate), 'Hz'),
        *percentiles('capture to callback', (callbacks - stamps) * 1e-6, 'ms'),
    ]


def _commands(recording: Recording) -> list[Measurement]:
    periods, delays = [], []
    for times in recording.commands.values():
        sent = np.array(times)
        for motion in recording.motions:
            own = sent[(sent >= motion.sent_ns) & (sent <= motion.ended_ns)]
            # The first piece goes out at once, out of step with the stream.
            periods.append(np.diff(own[1:]) * 1e-6)
            delays.append((own[:1] - motion.sent_ns) * 1e-6)
    if not periods:
        raise BenchmarkError('no plan succeeded, so there is no motion to look at')
    period = np.concatenate(periods)
    jitter: NDArray[np.float64] = np.abs(period - COMMAND_PERIOD_MS)
    return [
        *percentiles('command period', period, 'ms'),
        *percentiles('command jitter', jitter, 'ms'),
        *percentiles('goal to command', np.concatenate(delays), 'ms', (50,)),
    ]
