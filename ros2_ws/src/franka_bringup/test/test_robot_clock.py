"""The clock of the control loop against late packets and slow robots."""

import numpy as np
import pytest

from dexwm_franka_bringup.robot_clock import RobotClock

MS = 1_000_000


def run(arrivals_ns, passed_ns):
    clock = RobotClock()
    clock.set(0)
    times = [0]
    for arrival, passed in zip(arrivals_ns, passed_ns, strict=True):
        times.append(clock.advance(int(passed), int(arrival)))
    return clock, np.array(times)


def test_jitter_of_arrivals_does_not_reach_the_motion():
    rng = np.random.default_rng(1)
    ideal = np.arange(1, 5001) * MS
    _, times = run(ideal + rng.exponential(0.3 * MS, 5000), np.full(5000, MS))
    steps = np.diff(times) / MS
    # A joint at 1 rad/s would see its velocity change by this much from one cycle to the next.
    assert np.abs(np.diff(steps)).max() < 2e-5
    assert np.abs(times[1:] - ideal).max() < MS


def test_a_robot_slightly_slow_is_followed_within_the_allowed_rate():
    arrivals = np.arange(1, 20001) * 1.01 * MS
    _, times = run(arrivals, np.full(20000, MS))
    steps = np.diff(times) / MS
    assert steps.max() <= 1.0 + RobotClock.MAX_RATE_CHANGE
    assert np.abs(times[-1] - arrivals[-1]) < 10 * MS
    assert np.diff(times)[-1000:].mean() == pytest.approx(1.01 * MS, rel=1e-3)


def test_lost_cycles_are_counted_as_the_robot_says():
    _, times = run([1 * MS, 12 * MS, 13 * MS], [MS, 11 * MS, MS])
    np.testing.assert_allclose(np.diff(times), [MS, 11 * MS, MS], rtol=1e-3)


def test_setting_takes_over_at_once():
    clock, _ = run([500 * MS], [MS])
    clock.set(500 * MS)
    assert clock.now_ns == 500 * MS
    assert clock.advance(MS, 501 * MS) == 501 * MS
