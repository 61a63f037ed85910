import numpy as np
import pytest
from scipy.interpolate import BPoly

from dexwm.control.joint_trajectory_controller import (
    JointTrajectoryController,
    TrajectoryRejected,
)
from dexwm.control.trajectory import JointTrajectory
from dexwm.robot.joints import ARM_JOINTS, HOME, robot_limits

NAMES = ('a', 'b')
SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND


def seconds(t):
    return NOW + round(t * SECOND)


def line(end, start_time=1.0, end_time=2.0, names=NAMES):
    """Two points at rest: at `start_time` half way, at `end_time` at `end`."""
    end = np.asarray(end, float)
    zeros = np.zeros((2, len(end)))
    return JointTrajectory(names, [start_time, end_time], np.stack([end / 2, end]), zeros, zeros)


@pytest.fixture
def controller():
    return JointTrajectoryController(NAMES, [0.0, 1.0])


def test_holds_until_told(controller):
    np.testing.assert_array_equal(controller.sample(NOW).positions, [0.0, 1.0])
    assert not controller.is_active(NOW)


def test_stamp_zero_means_now(controller):
    controller.accept(line([4.0, 6.0]), 0, NOW)
    assert controller.end_time_ns == seconds(2.0)
    assert controller.is_active(seconds(1.9)) and not controller.is_active(seconds(2.0))
    np.testing.assert_allclose(controller.sample(seconds(1.0)).positions, [2.0, 3.0])
    np.testing.assert_allclose(controller.sample(seconds(5.0)).positions, [4.0, 6.0])


def test_way_to_first_point_starts_at_desired_state(controller):
    controller.accept(line([4.0, 6.0]), 0, NOW)
    before = controller.sample(seconds(0.5))
    assert (before.velocities > 0.5).all()
    controller.accept(line([0.0, 0.0], 0.5, 1.0), 0, seconds(0.5))
    after = controller.sample(seconds(0.5))
    for field in ('positions', 'velocities', 'accelerations'):
        np.testing.assert_allclose(getattr(after, field), getattr(before, field), atol=1e-9)
    way = BPoly.from_derivatives(
        [0.0, 0.5],
        [[before.positions, before.velocities, before.accelerations], np.zeros((3, 2))],
    )
    np.testing.assert_allclose(controller.sample(seconds(0.7)).positions, way(0.2), atol=1e-9)


def test_past_stamp_begins_in_the_midst(controller):
    controller.accept(line([4.0, 6.0]), seconds(-1.0), NOW)
    np.testing.assert_allclose(controller.sample(NOW).positions, [2.0, 3.0])
    assert controller.end_time_ns == seconds(1.0)


def test_future_stamp_waits_along_the_way(controller):
    controller.accept(line([4.0, 6.0]), seconds(3.0), NOW)
    np.testing.assert_allclose(controller.sample(seconds(4.0)).positions, [2.0, 3.0])
    assert controller.end_time_ns == seconds(5.0)


def test_new_replaces_old_at_once(controller):
    controller.accept(line([4.0, 6.0]), 0, NOW)
    controller.accept(line([-1.0, -1.0], 0.1, 0.2), 0, seconds(0.5))
    np.testing.assert_allclose(controller.sample(seconds(3.0)).positions, [-1.0, -1.0])


def test_empty_cancels_and_holds(controller):
    controller.accept(line([4.0, 6.0]), 0, NOW)
    there = controller.sample(seconds(0.7)).positions
    controller.accept(None, 0, seconds(0.7))
    np.testing.assert_array_equal(controller.sample(seconds(9.0)).positions, there)
    assert not controller.sample(seconds(9.0)).velocities.any()


def test_joints_come_in_any_order(controller):
    controller.accept(line([6.0, 4.0], names=('b', 'a')), 0, NOW)
    np.testing.assert_allclose(controller.sample(seconds(2.0)).positions, [4.0, 6.0])


def test_positions_only_are_joined_by_lines(controller):
    controller.accept(JointTrajectory(NAMES, [2.0], [[4.0, 5.0]]), 0, NOW)
    state = controller.sample(seconds(0.5))
    np.testing.assert_allclose(state.positions, [1.0, 2.0])
    np.testing.assert_allclose(state.velocities, [2.0, 2.0])


MOVING_END = JointTrajectory(NAMES, [1.0], [[1.0, 1.0]], [[0.0, 0.1]])


@pytest.mark.parametrize(
    ('trajectory', 'stamp', 'reason'),
    [
        (line([1.0], names=('a',)), 0, 'joints missing: b'),
        (line([1.0, 1.0, 1.0], names=('a', 'b', 'c')), 0, 'unknown joints c'),
        (line([1.0, 1.0]), -2.5, 'ended 0.500 s ago'),
        (MOVING_END, 0, 'b still moves at 0.1 rad/s'),
    ],
)
def test_rejection_names_the_reason_and_leaves_the_old_running(
    controller, trajectory, stamp, reason
):
    controller.accept(line([4.0, 6.0]), 0, NOW)
    with pytest.raises(TrajectoryRejected, match=reason):
        controller.accept(trajectory, seconds(stamp) if stamp else 0, NOW)
    np.testing.assert_allclose(controller.sample(seconds(2.0)).positions, [4.0, 6.0])


def test_points_outside_hard_limits_are_rejected_except_on_the_way_in():
    limits = robot_limits()
    home = HOME[:7].copy()
    too_far = home.copy()
    too_far[3] = limits.upper[3] + 0.01
    controller = JointTrajectoryController(ARM_JOINTS, home, limits)
    with pytest.raises(TrajectoryRejected, match='point 0 is out of limits: fr3_joint4'):
        controller.accept(JointTrajectory(ARM_JOINTS, [1.0], [too_far]), 0, NOW)
    controller.hold(too_far)
    controller.accept(JointTrajectory(ARM_JOINTS, [1.0, 2.0], [too_far, home]), 0, NOW)
    np.testing.assert_allclose(controller.sample(seconds(2.0)).positions, home)


def test_hold_needs_finite_positions(controller):
    with pytest.raises(ValueError, match='2 finite positions'):
        controller.hold([0.0, np.nan])


@pytest.mark.parametrize('carries', ['p', 'pv', 'pva'])
@pytest.mark.parametrize('points', [1, 2, 5])
def test_positions_at_many_times_are_those_of_sample(carries, points):
    rng = np.random.default_rng(points)
    rows = {c: rng.normal(size=(points, 2)) for c in carries}
    if 'v' in rows:
        rows['v'][-1] = 0.0
    trajectory = JointTrajectory(
        ('a', 'b'),
        np.cumsum(rng.uniform(0.1, 1.0, points)),
        rows['p'],
        rows.get('v'),
        rows.get('a'),
    )
    controller = JointTrajectoryController(('a', 'b'), [0.5, -0.5])
    controller.accept(trajectory, 10**9, 10**9)
    times = np.linspace(0, 7 * 10**9, 2001).astype(np.int64)
    expected = [controller.sample(int(t)).positions for t in times]
    np.testing.assert_allclose(controller.positions_at(times), expected, atol=1e-12)
