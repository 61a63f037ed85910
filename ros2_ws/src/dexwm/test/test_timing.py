import numpy as np
import pytest

from dexwm.control.timing import (
    TimingError,
    motion_limits,
    stop_ramp,
    time_waypoints,
)
from dexwm.control.trajectory import JointState
from dexwm.robot.joints import HOME, JOINTS, robot_limits

LIMITS = robot_limits()
INNER = LIMITS.with_margin(0.05)


def fine(trajectory):
    """Positions, velocities, accelerations at 1 kHz."""
    states = [trajectory.sample(t) for t in np.arange(0.0, trajectory.duration + 1e-3, 1e-3)]
    return tuple(
        np.array([getattr(s, field) for s in states])
        for field in ('positions', 'velocities', 'accelerations')
    )


@pytest.mark.parametrize('speed_scale', [0.2, 1.0])
@pytest.mark.parametrize('count', [1, 3, 6])
def test_motion_passes_waypoints_within_limits(speed_scale, count):
    rng = np.random.default_rng(count)
    points = rng.uniform(INNER.lower, INNER.upper, (count, 23))
    motion = time_waypoints(JointState.at_rest(HOME), points, INNER, speed_scale)
    q, v, a = fine(motion.trajectory)
    planned = motion_limits(LIMITS, speed_scale)
    # The splines between the samples exceed ruckig's profile by a little.
    assert (np.abs(v) <= planned.velocity * 1.001 + 1e-6).all()
    assert (np.abs(a) <= planned.acceleration * 1.05).all()
    assert (np.abs(np.diff(a, axis=0)) <= LIMITS.jerk * 1e-3).all()
    assert (q >= INNER.lower - 1e-5).all() and (q <= INNER.upper + 1e-5).all()
    lower, upper = LIMITS.velocity_bounds(q)
    assert (v >= lower - 1e-4).all() and (v <= upper + 1e-4).all()
    for time, point in zip(motion.arrival_times, points, strict=True):
        np.testing.assert_allclose(motion.trajectory.sample(time).positions, point, atol=1e-4)
    np.testing.assert_array_equal(motion.trajectory.end.positions, points[-1])
    np.testing.assert_array_equal(motion.trajectory.sample(0.0).positions, HOME)
    assert not motion.trajectory.velocities[-1].any()
    assert not motion.trajectory.accelerations[-1].any()


def test_duration_of_a_long_single_joint_move():
    goal = HOME.copy()
    goal[0] += 1.5
    motion = time_waypoints(JointState.at_rest(HOME), goal[None], INNER, 0.2)
    planned = motion_limits(LIMITS, 0.2)
    v, a, j = planned.velocity[0], planned.acceleration[0], planned.jerk[0]
    assert motion.arrival_times[0] == pytest.approx(1.5 / v + v / a + a / j, rel=1e-6)
    assert motion.notes == ()


def test_from_rest_to_one_waypoint_the_path_is_straight():
    goal = INNER.clamp(HOME + np.random.default_rng(5).uniform(-1.0, 1.0, 23))
    motion = time_waypoints(JointState.at_rest(HOME), goal[None], INNER, 0.5)
    way = motion.trajectory.positions - HOME
    direction = (goal - HOME) / np.linalg.norm(goal - HOME)
    off = way - np.outer(way @ direction, direction)
    assert np.abs(off).max() < 1e-5


def test_waypoints_on_a_line_are_passed_flying():
    far = INNER.clamp(HOME + 0.4 * np.eye(23)[0] * 3)
    points = np.linspace(HOME, far, 5)[1:]
    split = time_waypoints(JointState.at_rest(HOME), points, INNER, 0.3)
    direct = time_waypoints(JointState.at_rest(HOME), points[-1:], INNER, 0.3)
    speeds = [abs(split.trajectory.sample(t).velocities[0]) for t in split.arrival_times[:-1]]
    assert min(speeds) > 0.2
    assert split.trajectory.duration < 1.25 * direct.trajectory.duration


def test_earliest_arrival_is_kept():
    goal = HOME.copy()
    goal[0] += 0.2
    back = HOME.copy()
    motion = time_waypoints(
        JointState.at_rest(HOME), np.stack([goal, back]), INNER, 0.5, np.array([2.0, 5.0])
    )
    np.testing.assert_allclose(motion.arrival_times, [2.0, 5.0], atol=1e-6)


def test_repeated_waypoints_are_no_trouble():
    points = np.stack([HOME, HOME, HOME])
    motion = time_waypoints(JointState.at_rest(HOME), points, INNER, 0.5)
    np.testing.assert_allclose(motion.trajectory.positions, HOME[None].repeat(2, axis=0))


def test_slows_down_near_the_end_of_the_range_and_says_so():
    start, goal = HOME.copy(), HOME.copy()
    start[1], goal[1] = -1.0, INNER.upper[1]
    motion = time_waypoints(JointState.at_rest(start), goal[None], INNER, 1.0)
    assert motion.speed_scale < 1.0
    assert 'slowed down' in motion.notes[0]
    _, v, _ = fine(motion.trajectory)
    assert np.abs(v).max() <= motion.speed_scale * LIMITS.velocity[1] * 1.001


def moving_towards_limit():
    q, v = HOME.copy(), np.zeros(23)
    q[0], v[0] = INNER.upper[0] - 0.05, 0.6
    return JointState(q, v, np.zeros(23))


def test_moving_start_is_continued_and_stays_inside():
    start = moving_towards_limit()
    goal = HOME.copy()
    goal[1] += 0.3
    motion = time_waypoints(start, goal[None], INNER, 0.5)
    first = motion.trajectory.sample(0.0)
    np.testing.assert_allclose(first.velocities, start.velocities)
    assert motion.trajectory.positions[:, 0].max() <= INNER.upper[0] + 1e-6


def test_start_outside_may_come_in_but_not_go_out():
    q = HOME.copy()
    q[3] = INNER.upper[3] + 0.02
    start = JointState.at_rest(q)
    motion = time_waypoints(start, HOME[None], INNER, 0.5)
    assert motion.trajectory.positions[:, 3].max() <= q[3] + 1e-9
    farther = q.copy()
    farther[3] += 0.02
    with pytest.raises(TimingError, match='fr3_joint4 comes to'):
        time_waypoints(start, farther[None], INNER, 0.5)


@pytest.mark.parametrize(
    ('points', 'scale', 'times', 'reason'),
    [
        (np.zeros((0, 23)), 0.5, None, r'must be \(K, 23\)'),
        (np.zeros((2, 7)), 0.5, None, r'must be \(K, 23\)'),
        (HOME[None], 1.5, None, r'must be in \(0, 1\]'),
        (HOME[None], 0.5, np.zeros(2), '1 waypoints but times'),
    ],
)
def test_bad_arguments_are_named(points, scale, times, reason):
    with pytest.raises(TimingError, match=reason):
        time_waypoints(JointState.at_rest(HOME), points, INNER, scale, times)


def test_stop_ramp_rests_within_limits():
    rng = np.random.default_rng(0)
    for _ in range(20):
        velocity = rng.uniform(-0.3, 0.3, 23) * LIMITS.velocity
        acceleration = rng.uniform(-0.3, 0.3, 23) * LIMITS.acceleration
        ramp = stop_ramp(JointState(HOME, velocity, acceleration), motion_limits(LIMITS, 1.0))
        assert ramp.names == JOINTS
        q, v, a = fine(ramp)
        np.testing.assert_allclose(v[0], velocity)
        assert not v[-1].any()
        assert (np.abs(a) <= 0.32 * LIMITS.acceleration).all()
        assert (np.abs(np.diff(a, axis=0)) <= LIMITS.jerk * 1e-3).all()
        # Nobody travels farther than braking with half the deceleration would take.
        braking = 0.25 * LIMITS.acceleration
        farthest = velocity**2 / braking + np.abs(velocity) * 0.2 + 0.05
        assert (np.abs(q - HOME) <= farthest).all()
