"""What the robot would see of a trajectory, checked before it is sent."""

import copy

import numpy as np
import pytest

from dexwm.control.joint_trajectory_controller import (
    JointTrajectoryController,
    TrajectoryRejected,
)
from dexwm.control.trajectory import JointTrajectory
from dexwm.robot.joints import ARM_JOINTS, HOME, robot_limits
from dexwm_franka_bringup.command_check import check_commands
from dexwm_franka_bringup.smooth_commands import PERIOD_NS, Commands

LIMITS = robot_limits().subset(ARM_JOINTS)
START = HOME[:7]
TURN = np.eye(7)[0]
SECOND = 10**9


def check(before, trajectory, now_ns):
    """Check a trajectory that replaces commands without any smoothing."""
    controller = copy.copy(before.controller)
    controller.accept(trajectory, now_ns, now_ns)
    after = Commands(controller)
    check_commands(before, after, now_ns, LIMITS)
    return after


def quintic(*points):
    """Points (seconds, angle of joint 1, its velocity, its acceleration)."""
    times, angles, velocities, accelerations = map(np.array, zip(*points, strict=True))
    return JointTrajectory(
        ARM_JOINTS,
        times,
        START + angles[:, None] * TURN,
        velocities[:, None] * TURN,
        accelerations[:, None] * TURN,
    )


@pytest.fixture
def resting():
    return Commands(JointTrajectoryController(ARM_JOINTS, START))


# A quintic from rest to rest over an angle D in T seconds has the extremes 1.875 D/T,
# 5.7735 D/T^2 and 60 D/T^3 (the last at both ends, where it sets in at once).
@pytest.mark.parametrize('angle', [0.05, 0.4, -0.8])
@pytest.mark.parametrize('factor', [0.97, 1.03])
def test_the_limit_that_binds_first_decides(resting, angle, factor):
    bound = {
        'velocity': 1.875 * abs(angle) / LIMITS.velocity[0],
        'acceleration': (5.7735 * abs(angle) / LIMITS.acceleration[0]) ** (1 / 2),
        'jerk': (60 * abs(angle) / LIMITS.jerk[0]) ** (1 / 3),
    }
    seconds = factor * max(bound.values())
    trajectory = quintic((0.0, 0.0, 0.0, 0.0), (seconds, angle, 0.0, 0.0))
    if factor > 1:
        check(resting, trajectory, SECOND)
    else:
        with pytest.raises(TrajectoryRejected, match=max(bound, key=bound.get)):
            check(resting, trajectory, SECOND)


def test_straight_lines_between_positions_are_refused_for_their_jerk(resting):
    trajectory = JointTrajectory(
        ARM_JOINTS, np.array([0.0, 2.0]), np.array([START, START + 0.2 * TURN])
    )
    with pytest.raises(TrajectoryRejected, match=r'acceleration .* of fr3_joint1'):
        check(resting, trajectory, SECOND)


def test_a_jump_at_the_seam_is_refused_and_a_smooth_seam_is_not(resting):
    first = quintic((0.0, 0.0, 0.0, 0.0), (2.0, 0.5, 0.0, 0.0))
    moving = check(resting, first, SECOND)
    now = 2 * SECOND
    state = moving.sample(now)
    angle, velocity = state.positions[0] - START[0], state.velocities[0]
    goal = (1.5, 0.7, 0.0, 0.0)
    smooth = quintic((0.0, angle, velocity, state.accelerations[0]), goal)
    check(moving, smooth, now)
    for jump in ((0.001, 0.0), (0.0, 0.05)):
        broken = quintic((0.0, angle + jump[0], velocity + jump[1], state.accelerations[0]), goal)
        with pytest.raises(TrajectoryRejected, match=r'in 0\.00[0-3] s'):
            check(moving, broken, now)


def test_trajectories_in_quick_succession_know_what_was_commanded_before_each(resting):
    moving = check(resting, quintic((0.0, 0.0, 0.0, 0.0), (2.0, 0.5, 0.0, 0.0)), SECOND)
    commands, seams = moving, [2 * SECOND + ms * PERIOD_NS for ms in (0, 0, 1, 2, 9)]
    for seam in seams:
        state = commands.sample(seam)
        angle, velocity = state.positions[0] - START[0], state.velocities[0]
        goal = (1.5, 0.4, 0.0, 0.0)
        trajectory = quintic((0.0, angle, velocity, state.accelerations[0]), goal)
        after = commands.followed_by(trajectory, seam, seam, LIMITS)
        check_commands(commands, after, seam, LIMITS)
        commands = after
    # What can no longer matter is not kept.
    assert commands.before.before is None


def test_the_velocity_limit_near_the_end_of_the_range():
    near = START.copy()
    near[0] = LIMITS.upper[0] - 0.02
    _, highest = LIMITS.velocity_bounds(near)
    assert highest[0] < 0.5
    goal = near - 0.3 * TURN
    trajectory = JointTrajectory(
        ARM_JOINTS,
        np.array([0.0, 0.6]),
        np.array([goal, near]),
        np.zeros((2, 7)),
        np.zeros((2, 7)),
    )
    controller = Commands(JointTrajectoryController(ARM_JOINTS, goal))
    with pytest.raises(TrajectoryRejected, match=r'velocity .* of fr3_joint1'):
        check(controller, trajectory, SECOND)
