"""The hand behind CAN frames (`hand:=can`): how well its driver keeps the 333 Hz of the hand.

First the control process alone with a hand on a bench, whose poses go out by the clock: cycles a
second, and the time between two of them, which is 3 ms on an idle machine; what exceeds that is
jitter. Then the same motions as in `cell`, with the cell's hand on the bus: the physics waits for
the answers to its poses, so here a busy machine shows in the real-time factor.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

import can
import numpy as np
from numpy.typing import NDArray

from allegro_driver.driver import POSE_PERIOD
from allegro_driver.hand_process import HandProcess
from allegro_driver.messages import POWERED, Alive, HandReport, HandSettings
from allegro_driver.simulated_hand import SimulatedHand
from allegro_driver.unix_bus import UnixBus
from benchmarks.cell import motions, real_time_factor, record
from benchmarks.measurement import BenchmarkError, Goal, Measurement, Settings, percentiles

SECONDS = 30.0
_RATE_GOAL = Goal(330)
_PERIOD_GOAL = Goal(4.0, at_least=False)
_START_TIMEOUT = 30.0
_ALIVE_PERIOD = 0.02
_STATUS = 'hand: can'


def run(settings: Settings) -> list[Measurement]:
    """Measures; raises BenchmarkError where that is not possible."""
    measurements = _control_loop(settings)
    recording, loads = record(settings, SECONDS, hand='can')
    statuses = recording.statuses.get(_STATUS, [])
    if len(statuses) < 2:
        raise BenchmarkError(f'too few diagnostics {_STATUS!r}: measure for longer')
    values = [{item.key: item.value for item in status.values} for _, status in statuses]
    seconds = (statuses[-1][0] - statuses[0][0]) * 1e-9
    cycles = float(values[-1]['cycles']) - float(values[0]['cycles'])
    return [
        *measurements,
        Measurement('whole graph: cycle rate', cycles / seconds, 'Hz'),
        Measurement(
            'whole graph: cycle period, p99', float(values[-1]['cycle_period_p99_ms']), 'ms'
        ),
        *real_time_factor(recording),
        *motions(recording),
        *loads,
    ]


class _AnswerTimes(UnixBus):
    """The hand's end of the bus, which notes when poses go out and the last answers come in."""

    def __init__(self, channel: str) -> None:
        super().__init__(channel, listen=True)
        self.answered: list[float] = []
        self.delays: list[float] = []
        self._sent = 0.0

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        super().send(msg, timeout)
        self._sent = time.monotonic()

    def recv(self, timeout: float | None = None) -> can.Message | None:
        message = super().recv(timeout)
        if message is not None and message.arbitration_id == 0x18C:
            now = time.monotonic()
            self.answered.append(now)
            self.delays.append(now - self._sent)
        return message


def _control_loop(settings: Settings) -> list[Measurement]:
    """The driver's control process with a hand that only holds."""
    seconds = settings.seconds or SECONDS
    settings.console.print(f'  holding a hand on a bench for {seconds:g} s')
    with tempfile.TemporaryDirectory() as folder:
        channel = str(Path(folder) / 'hand')
        bus = _AnswerTimes(channel)
        hand = SimulatedHand(bus, patience=POSE_PERIOD)
        ending = threading.Event()
        bench = threading.Thread(target=_hold, args=(hand, ending))
        bench.start()
        driver = HandProcess(
            HandSettings('unix', channel, command_timeout=1.0, pose_timeout=1.0), lambda _: None
        )
        try:
            driver.start()
            _wait_until_held(driver)
            before = driver.report
            bus.answered.clear()
            bus.delays.clear()
            begun = time.monotonic()
            while time.monotonic() < begun + seconds:
                driver.send(Alive(0))
                time.sleep(_ALIVE_PERIOD)
            passed, after = time.monotonic() - begun, driver.report
        finally:
            driver.close()
            ending.set()
            bench.join()
            hand.close()
    if after.mode not in POWERED:
        raise BenchmarkError(f'the driver gave up: {after.reason}')
    return _loop_measurements(before, after, passed, np.array(bus.answered), np.array(bus.delays))


def _loop_measurements(
    before: HandReport,
    after: HandReport,
    seconds: float,
    answered: NDArray[np.float64],
    delays: NDArray[np.float64],
) -> list[Measurement]:
    periods = np.diff(answered) * 1e3
    if not periods.size:
        raise BenchmarkError('the driver answered no pose: measure for longer')
    rate = (after.cycles - before.cycles) / seconds
    p50, p99, largest = percentiles('control loop: cycle period', periods, 'ms')
    return [
        Measurement('control loop: cycle rate', rate, 'Hz', _RATE_GOAL),
        p50,
        Measurement(p99.name, p99.value, p99.unit, _PERIOD_GOAL),
        largest,
        *percentiles('control loop: jitter', np.abs(periods - POSE_PERIOD * 1e3), 'ms'),
        *percentiles('control loop: pose to torques', delays * 1e3, 'ms'),
        Measurement('control loop: torn poses', after.torn_poses - before.torn_poses, ''),
        Measurement('control loop: real-time priority', float(after.real_time_priority), ''),
    ]


def _hold(hand: SimulatedHand, ending: threading.Event) -> None:
    """A hand that does not move, by the clock."""
    positions, due = np.full(16, 0.3), time.monotonic()
    while not ending.is_set():
        hand.step(positions, POSE_PERIOD / 3)
        due += POSE_PERIOD / 3
        time.sleep(max(0.0, due - time.monotonic()))


def _wait_until_held(driver: HandProcess) -> None:
    end = time.monotonic() + _START_TIMEOUT
    while driver.report.mode not in POWERED:
        if time.monotonic() > end:
            raise BenchmarkError(f'the driver does not reach the hand: {driver.report.reason}')
        time.sleep(_ALIVE_PERIOD)
