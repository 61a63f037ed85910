import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dexwm.robot.joints import (
    ARM,
    ARM_JOINTS,
    HOME,
    JOINTS,
    JointLimits,
    JointLimitsError,
    robot_limits,
)


@pytest.fixture
def limits():
    return robot_limits()


def test_home_is_well_inside(limits):
    assert limits.with_margin(0.05).violations(HOME) == []


def test_violations_name_joint_value_and_range(limits):
    q = HOME.copy()
    q[3] = 0.5
    q[9] = np.nan
    lines = limits.violations(q)
    assert lines[0] == 'fr3_joint4 at 0.5000 rad leaves [-3.0421, -0.1518]'
    assert lines[1].startswith('joint_2.0 at nan')
    assert len(lines) == 2


def test_wrong_length_is_refused(limits):
    with pytest.raises(JointLimitsError, match='expected 23'):
        limits.violations(np.zeros(7))
    with pytest.raises(JointLimitsError, match='expected 23'):
        limits.clamp(0.0)


def test_subset_follows_the_given_order(limits):
    names = ('joint_12.0', 'fr3_joint6')
    part = limits.subset(names)
    assert part.names == names
    assert part.lower.tolist() == [0.263, 0.5445]
    assert part.velocity_bounds([1.0, 4.51])[1][1] < 1.0 < part.velocity_bounds([1.0, 2.0])[1][1]


def test_unknown_joint_is_named_with_the_known_ones(limits):
    with pytest.raises(JointLimitsError, match=r"\['elbow'\]; known are \['fr3_joint1'"):
        limits.subset(['fr3_joint1', 'elbow'])


def test_margin_larger_than_the_range_is_refused(limits):
    with pytest.raises(JointLimitsError, match=r'joint_0\.0 has no range left'):
        limits.with_margin(0.5)


def test_margin_leaves_the_envelope_of_the_robot(limits):
    q = limits.upper - 0.01
    np.testing.assert_array_equal(
        limits.velocity_bounds(q)[1], limits.with_margin(0.1).velocity_bounds(q)[1]
    )


def test_scaled(limits):
    slow = limits.scaled(0.25)
    np.testing.assert_allclose(slow.velocity * 4, limits.velocity)
    np.testing.assert_allclose(slow.jerk * 4, limits.jerk)
    np.testing.assert_array_equal(slow.upper, limits.upper)
    for bad in (0.0, 1.1, float('nan')):
        with pytest.raises(JointLimitsError, match='speed scale'):
            limits.scaled(bad)


@pytest.mark.parametrize('field', ['velocity', 'acceleration', 'jerk'])
def test_rates_must_be_positive(field):
    rates = {'velocity': [1.0], 'acceleration': [1.0], 'jerk': [1.0]} | {field: [0.0]}
    with pytest.raises(JointLimitsError, match=field):
        JointLimits(('a',), np.array([-1.0]), np.array([1.0]), **rates)


@given(st.integers(0, 6), st.floats(0.0, 1.0))
def test_a_joint_within_its_velocity_bounds_can_still_brake(joint, fraction):
    """Braking from the bound with Franka's deceleration ends inside the firmware's range."""
    limits = robot_limits()
    robot = limits.envelopes[0]
    q = limits.lower + fraction * (limits.upper - limits.lower)
    lower, upper = limits.velocity_bounds(q)
    stop_up = q + upper**2 / (2 * robot.deceleration)
    stop_down = q - lower**2 / (2 * robot.deceleration)
    assert stop_up[joint] <= robot.upper[joint]
    assert stop_down[joint] >= robot.lower[joint]
    assert lower[joint] <= 0.0 <= upper[joint]


def test_velocity_bounds_by_hand(limits):
    q = HOME.copy()
    q[3] = -0.5
    _, upper = limits.velocity_bounds(q)
    expected = min(np.sqrt(8.0 * 0.3542) - 0.30, np.sqrt(8.0 * 0.3831) - 0.3533) - 1e-3
    assert upper[3] == pytest.approx(expected)
    assert upper[0] == pytest.approx(2.619)
    assert upper[8] == 3.0


def test_bounds_broadcast_over_paths(limits):
    path = np.stack([HOME, HOME + 0.01])
    lower, upper = limits.velocity_bounds(path)
    assert lower.shape == upper.shape == (2, 23)
    assert limits.clamp(path).shape == (2, 23)


def test_legal_for_the_robot_that_the_simulated_fci_stands_in_for():
    """Positions, rates and envelopes lie inside franka-sim's tables of libfranka's limits."""
    tables = pytest.importorskip('franka_sim.limits.tables')
    arm = robot_limits().subset(ARM_JOINTS)
    position = np.array(tables.JOINT_POSITION_LIMITS)
    assert (arm.lower >= position[:, 0]).all()
    assert (arm.upper <= position[:, 1]).all()
    assert (arm.acceleration < tables.MAX_JOINT_ACCELERATION).all()
    assert (arm.jerk < tables.MAX_JOINT_JERK).all()
    for q in np.random.default_rng(0).uniform(arm.lower, arm.upper, (1000, 7)):
        lower, upper = arm.velocity_bounds(q)
        assert (upper <= np.array(tables.upper_joint_velocity_limits(q)) + 1e-12).all()
        assert (lower >= np.array(tables.lower_joint_velocity_limits(q)) - 1e-12).all()


def test_canonical_order():
    assert len(JOINTS) == 23
    assert JOINTS[ARM] == ARM_JOINTS
    assert JOINTS[7] == 'joint_0.0'
    assert JOINTS[-1] == 'joint_15.0'
