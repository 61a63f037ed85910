"""Commands for each millisecond stay within the limits, also when trajectories are late."""

import numpy as np
import pytest

from dexwm.control.joint_trajectory_controller import TrajectoryRejected
from dexwm.control.trajectory import JointTrajectory
from dexwm.robot.joints import ARM_JOINTS, HOME, robot_limits
from dexwm_franka_bringup.smooth_commands import PERIOD_NS, SmoothCommands

LIMITS = robot_limits().subset(ARM_JOINTS)
START = HOME[:7]
TURN = np.eye(7)[0]
MS = PERIOD_NS
T0 = 10**9


def to_rest(angle, seconds):
    """One quintic from wherever the arm is to rest at an angle of the first joint."""
    return JointTrajectory(
        ARM_JOINTS,
        np.array([seconds]),
        (START + angle * TURN)[None],
        np.zeros((1, 7)),
        np.zeros((1, 7)),
    )


def lasting(start, end, begin, seconds):
    """From angle to angle, both at rest, with an explicit first point."""
    return JointTrajectory(
        ARM_JOINTS,
        np.array([begin, begin + seconds]),
        np.array([START + start * TURN, START + end * TURN]),
        np.zeros((2, 7)),
        np.zeros((2, 7)),
    )


def differences(commands):
    q = np.array(commands)
    velocity = np.diff(q, axis=0) * 1e3
    acceleration = np.diff(velocity, axis=0) * 1e3
    return velocity, acceleration, np.diff(acceleration, axis=0) * 1e3


def assert_legal(commands):
    velocity, acceleration, jerk = differences(commands)
    assert (np.abs(velocity) <= LIMITS.velocity).all()
    assert (np.abs(acceleration) <= LIMITS.acceleration).all()
    assert (np.abs(jerk) <= LIMITS.jerk).all()


@pytest.fixture
def motion():
    motion = SmoothCommands(LIMITS, START)
    motion.command(T0, 0)
    return motion


def run(motion, first, count):
    return [motion.command(T0 + k * MS, 0) for k in range(first, first + count)]


def test_holds_and_goes_and_holds(motion):
    motion.accept(to_rest(0.4, 1.5), 0, T0 + 10 * MS)
    assert motion.is_active(T0)
    commands = run(motion, 1, 1600)
    np.testing.assert_array_equal(commands[8], START)
    np.testing.assert_allclose(commands[-1], START + 0.4 * TURN, atol=1e-12)
    assert not motion.is_active(T0 + 1600 * MS)
    assert_legal([START] * 3 + commands)


@pytest.mark.parametrize('late', [-9, 0, 7, 30, 80])
def test_a_stop_in_mid_motion_may_be_late(motion, late):
    motion.accept(to_rest(0.6, 2.0), 0, T0)
    commands = run(motion, 1, 900)
    now = T0 + 900 * MS
    motion.accept(to_rest(0.45, 0.8), 0, now - late * MS)
    commands += run(motion, 901, 1800)
    np.testing.assert_allclose(commands[-1], START + 0.45 * TURN, atol=1e-9)
    assert_legal([START] * 3 + commands)


@pytest.mark.parametrize('missed', [1, 5, 19])
@pytest.mark.parametrize('at', [50, 400, 900])
def test_after_missed_cycles_it_joins_the_robots_own_extrapolation(motion, missed, at):
    motion.accept(to_rest(0.6, 1.6), 0, T0)
    seen = [START] * 3 + run(motion, 1, at)
    # The robot goes on by itself: acceleration constant, integrated for each missed cycle.
    step = seen[-1] - seen[-2]
    change = step - (seen[-2] - seen[-3])
    for _ in range(missed):
        step = step + change
        seen.append(seen[-1] + step)
    k = at + missed + 1
    seen.append(motion.command(T0 + k * MS, missed))
    seen += run(motion, k + 1, 2500)
    np.testing.assert_allclose(seen[-1], START + 0.6 * TURN, atol=1e-9)
    assert_legal(seen)


def test_what_is_too_far_away_is_refused_and_changes_nothing(motion):
    motion.accept(to_rest(0.6, 2.0), 0, T0)
    run(motion, 1, 800)
    with pytest.raises(TrajectoryRejected, match=r'too far .* fr3_joint1 by 1\.\d+ rad'):
        motion.accept(lasting(-1.0, -1.0, 0.0, 1.0), 0, T0 + 100 * MS)
    commands = run(motion, 801, 1300)
    np.testing.assert_allclose(commands[-1], START + 0.6 * TURN, atol=1e-12)


def test_two_in_a_row_before_the_first_begins(motion):
    motion.accept(to_rest(0.4, 1.5), 0, T0 + 10 * MS)
    motion.accept(to_rest(0.2, 1.5), 0, T0 + 300 * MS)
    commands = run(motion, 1, 2000)
    np.testing.assert_allclose(commands[-1], START + 0.2 * TURN, atol=1e-12)
    assert_legal([START] * 3 + commands)


def test_a_trajectory_from_a_little_beside_is_joined_smoothly(motion):
    motion.accept(to_rest(0.6, 2.0), 0, T0)
    commands = run(motion, 1, 700)
    # The sender thinks that the arm is 0.02 rad further than it is, and slower.
    begin = commands[-1][0] - START[0] + 0.02
    ahead = JointTrajectory(
        ARM_JOINTS,
        np.array([0.0, 1.5]),
        np.array([START + begin * TURN, START + 0.6 * TURN]),
        np.array([0.2 * TURN, np.zeros(7)]),
        np.zeros((2, 7)),
    )
    motion.accept(ahead, T0 + 700 * MS, T0 + 710 * MS)
    commands += run(motion, 701, 2000)
    np.testing.assert_allclose(commands[-1], START + 0.6 * TURN, atol=1e-9)
    assert_legal([START] * 3 + commands)


def test_what_has_ended_is_not_commanded_again_when_time_is_set_back(motion):
    motion.accept(to_rest(0.02, 0.3), T0, T0 + MS)
    now = T0
    while motion.is_active(now):
        now += MS
        last = motion.command(now, 0)
    np.testing.assert_allclose(last, START + 0.02 * TURN)
    motion.finish(now)
    for back in (T0, T0 + 100 * MS, now):
        assert not motion.is_active(back)
        np.testing.assert_array_equal(motion.command(back, 0), last)
    motion.accept(lasting(0.02, 0.0, 0.0, 0.5), T0, T0)
    assert motion.is_active(T0 + 100 * MS)
