"""Pacing of the simulation against the clock."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dexwm_sim.realtime import Pacer, RealTimeLoop

pytestmark = pytest.mark.realtime

STEP = 2_000_000
BACKLOG = 200_000_000


@given(st.lists(st.integers(0, 400_000_000), min_size=1, max_size=40))
def test_simulated_and_dropped_time_make_up_the_time_that_passed(gaps):
    pacer = Pacer(STEP, BACKLOG)
    pacer.start(1_000)
    now, taken = 1_000, 0
    for gap in gaps:
        now += gap
        due = pacer.due(now)
        assert due * STEP <= BACKLOG
        for _ in range(due):
            pacer.advance()
        taken += due
        assert 0 <= now - pacer.time_ns < STEP
        assert pacer.time_ns == 1_000 + taken * STEP + pacer.dropped_ns
        assert 0 < pacer.wait_ns(now) <= STEP
        assert 0.0 <= pacer.real_time_factor(now) <= 1.0
    if max(gaps) <= BACKLOG:
        assert pacer.dropped_ns == 0


def test_a_short_hiccup_is_caught_up_with_and_a_long_one_is_dropped():
    pacer = Pacer(STEP, BACKLOG)
    pacer.start(0)
    assert pacer.due(BACKLOG) == BACKLOG // STEP
    for _ in range(BACKLOG // STEP):
        pacer.advance()
    assert pacer.real_time_factor(BACKLOG) == 1.0
    now = BACKLOG + 500_000_000
    assert pacer.due(now) == BACKLOG // STEP
    assert pacer.dropped_ns == 300_000_000
    assert pacer.real_time_factor(now) == pytest.approx(1 - 0.3 / 0.7)


def test_a_second_later_the_hiccup_is_forgotten():
    pacer = Pacer(STEP, STEP)
    pacer.start(0)
    pacer.due(100_000_000)
    now = 100_000_000
    while now < 1_300_000_000:
        now += STEP
        for _ in range(pacer.due(now)):
            pacer.advance()
    assert pacer.real_time_factor(now) == 1.0
    assert pacer.dropped_ns > 0


def test_bad_lengths():
    for step, backlog in ((0, 1), (-1, 1), (2, 1)):
        with pytest.raises(ValueError, match='Need 0 < step'):
            Pacer(step, backlog)


def test_the_loop_stamps_steps_evenly_with_the_system_time():
    stamps = []
    loop = RealTimeLoop(stamps.append, STEP, BACKLOG)
    before = time.time_ns()
    loop.start()
    while len(stamps) < 100:
        time.sleep(0.01)
        loop.check()
    loop.stop()
    assert before <= stamps[0] and stamps[-1] <= time.time_ns()
    # Even stamps however unevenly the steps were taken; only the clocks' offset may wobble.
    gaps = [b - a for a, b in itertools.pairwise(stamps)]
    if not loop.dropped_time:
        assert all(abs(gap - STEP) < 200_000 for gap in gaps)


def test_an_error_in_a_step_ends_the_loop_and_is_told():
    def fail(_):
        raise ArithmeticError('exploded')

    loop = RealTimeLoop(fail, STEP, BACKLOG)
    loop.check()
    loop.start()
    with pytest.raises(RuntimeError, match='physics stopped: exploded'):
        for _ in range(6000):
            time.sleep(0.01)
            loop.check()
    loop.stop()
