import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BPoly

from dexwm.control.trajectory import InvalidTrajectory, JointState, JointTrajectory
from dexwm.control.trajectory_message import parse_trajectory

TIMES = np.array([0.0, 0.3, 1.0, 1.2])
NAMES = ('a', 'b')


def random_trajectory(order, seed=0):
    rng = np.random.default_rng(seed)
    q, v, a = rng.normal(size=(3, 4, 2))
    return JointTrajectory(NAMES, TIMES, q, v if order > 1 else None, a if order > 2 else None)


@pytest.mark.parametrize('order', [1, 2, 3])
def test_interpolation_is_the_spline_of_what_the_points_carry(order):
    trajectory = random_trajectory(order)
    given_columns = [
        column
        for column in (trajectory.positions, trajectory.velocities, trajectory.accelerations)
        if column is not None
    ]
    reference = BPoly.from_derivatives(TIMES, np.stack(given_columns, axis=1))
    for t in np.linspace(0.0, 1.2, 97)[:-1]:
        state = trajectory.sample(t)
        np.testing.assert_allclose(state.positions, reference(t), atol=1e-11)
        np.testing.assert_allclose(state.velocities, reference(t, 1), atol=1e-9)
        np.testing.assert_allclose(state.accelerations, reference(t, 2), atol=1e-8)


@given(st.floats(-1.0, 3.0), st.integers(1, 3))
def test_outside_its_times_it_rests(t, order):
    trajectory = random_trajectory(order)
    state = trajectory.sample(t)
    if t < 0.0 or t >= 1.2:
        np.testing.assert_array_equal(state.positions, trajectory.positions[0 if t < 0 else -1])
        assert not state.velocities.any() and not state.accelerations.any()


def test_select_reorders_columns():
    trajectory = random_trajectory(3)
    swapped = trajectory.select(('b', 'a'))
    np.testing.assert_allclose(
        swapped.sample(0.5).accelerations, trajectory.sample(0.5).accelerations[::-1]
    )
    with pytest.raises(InvalidTrajectory, match='no joints c'):
        trajectory.select(('c',))


def test_state_takes_joints():
    state = JointState.at_rest([1.0, 2.0, 3.0]).take([2, 0])
    np.testing.assert_array_equal(state.positions, [3.0, 1.0])


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'names': ('a', 'a')}, 'named more than once: a'),
        ({'times': [0.0, 0.3, 0.3, 1.0]}, 'point 1 is at 0.3 s, point 2 at 0.3 s'),
        ({'times': [-0.1, 0.3, 0.4, 1.0]}, 'negative'),
        ({'times': [0.1, 0.3, 0.4, np.inf]}, 'not finite'),
        ({'times': []}, r'T >= 1'),
        ({'positions': np.zeros((4, 3))}, r'positions must be \(4, 2\)'),
        ({'velocities': np.zeros((3, 2))}, r'velocities must be \(4, 2\)'),
        ({'positions': [[0, 0], [0, 0], [0, np.nan], [0, 0]]}, 'positions of b at point 2 is nan'),
        ({'velocities': np.full((4, 2), np.inf)}, 'velocities of a at point 0 is inf'),
        ({'accelerations': np.zeros((4, 2))}, 'accelerations without velocities'),
    ],
)
def test_malformed_trajectories_are_refused_with_the_reason(change, reason):
    good = {'names': NAMES, 'times': TIMES, 'positions': np.zeros((4, 2))}
    JointTrajectory(**good)
    with pytest.raises(InvalidTrajectory, match=reason):
        JointTrajectory(**{**good, **change})


class Shape:
    """Attributes as a ROS message has them."""

    def __init__(self, **fields):
        self.__dict__.update(fields)


def message(points, names=NAMES):
    return Shape(
        joint_names=list(names),
        points=[
            Shape(
                positions=q,
                velocities=v,
                accelerations=a,
                time_from_start=Shape(sec=i + 1, nanosec=500_000_000),
            )
            for i, (q, v, a) in enumerate(points)
        ],
    )


def test_message_is_read():
    trajectory = parse_trajectory(message([([1, 2], [3, 4], []), ([5, 6], [0, 0], [])]))
    np.testing.assert_allclose(trajectory.times, [1.5, 2.5])
    np.testing.assert_allclose(trajectory.positions, [[1, 2], [5, 6]])
    np.testing.assert_allclose(trajectory.velocities, [[3, 4], [0, 0]])
    assert trajectory.accelerations is None
    assert parse_trajectory(message([])) is None


@pytest.mark.parametrize(
    ('points', 'reason'),
    [
        ([([1, 2], [], []), ([1], [], [])], 'point 1 has 1 positions for 2 joint names'),
        ([([1, 2], [1, 2, 3], [])], 'point 0 has 3 velocities'),
        ([([1, 2], [1, 2], []), ([1, 2], [], [])], 'points 0 and 1 differ in carrying velocities'),
        ([([], [1, 2], [])], 'point 0 has 0 positions'),
    ],
)
def test_ragged_messages_are_refused(points, reason):
    with pytest.raises(InvalidTrajectory, match=reason):
        parse_trajectory(message(points))
