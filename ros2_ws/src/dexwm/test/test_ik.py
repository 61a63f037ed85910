import numpy as np
import pytest

from dexwm.robot.ik import IkTargetError, solve_ik
from dexwm.robot.joints import ARM, ARM_JOINTS, HAND, HOME, JointLimitsError, robot_limits

LIMITS = robot_limits().with_margin(0.03)


def palm_down_poses(count, seed=0):
    """Poses of the palm over the counter, pitched by 30 degrees as for a grasp."""
    rng = np.random.default_rng(seed)
    pitch = np.deg2rad(30)
    z = np.array([np.cos(pitch), 0.0, -np.sin(pitch)])
    x = np.array([-np.sin(pitch), 0.0, -np.cos(pitch)])
    for _ in range(count):
        pose = np.eye(4)
        pose[:3, :3] = np.stack([x, np.cross(z, x), z], axis=1)
        pose[:3, 3] = rng.uniform([0.42, -0.2, 0.32], [0.6, 0.28, 0.5])
        yaw = np.arctan2(pose[1, 3], pose[0, 3])
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        pose[:3, :3] = turn @ pose[:3, :3]
        yield pose


def test_reaches_the_whole_counter_from_home(model):
    for target in palm_down_poses(50):
        result = solve_ik(model, 'palm_link', target, HOME, LIMITS)
        assert result.converged
        assert LIMITS.violations(np.where(np.arange(23) < 7, result.q, HOME)) == []
        np.testing.assert_array_equal(result.q[HAND], HOME[HAND])
        pose = model.frame_pose(result.q, 'palm_link')
        np.testing.assert_allclose(pose[:3, 3], target[:3, 3], atol=2e-4)
        np.testing.assert_allclose(pose[:3, :3], target[:3, :3], atol=2e-3)


def test_errors_are_those_of_the_pose(model):
    """With too few updates the solver says how far it is, truthfully."""
    target = next(palm_down_poses(1))
    result = solve_ik(model, 'palm_link', target, HOME, LIMITS, max_iterations=2)
    pose = model.frame_pose(result.q, 'palm_link')
    assert not result.converged
    assert result.position_error == pytest.approx(np.linalg.norm(target[:3, 3] - pose[:3, 3]))
    angle = np.arccos((np.trace(target[:3, :3] @ pose[:3, :3].T) - 1) / 2)
    assert result.rotation_error == pytest.approx(angle)


def test_out_of_reach(model):
    target = model.frame_pose(HOME, 'palm_link')
    target[0, 3] = 1.6
    result = solve_ik(model, 'palm_link', target, HOME, LIMITS)
    assert not result.converged
    assert result.position_error > 0.3
    assert LIMITS.subset(ARM_JOINTS).violations(result.q[ARM]) == []


def test_seed_outside_the_limits_ends_inside(model):
    seed = HOME.copy()
    seed[5] = LIMITS.upper[5] + 0.02
    result = solve_ik(model, 'palm_link', model.frame_pose(HOME, 'palm_link'), seed, LIMITS)
    assert result.converged
    assert LIMITS.violations(result.q) == []


def test_rest_posture_decides_where_the_elbow_goes(model):
    target = model.frame_pose(HOME, 'palm_link')
    elbows = []
    for lean in (-1.0, 1.0):
        rest = HOME.copy()
        rest[2] = lean
        seed = HOME + 0.05
        seed[HAND] = HOME[HAND]
        result = solve_ik(model, 'palm_link', target, seed, LIMITS, rest)
        assert result.converged
        elbows.append(result.q[2])
    assert elbows[0] < elbows[1]


def test_fingertip_frame(model):
    goal = HOME.copy()
    goal[ARM] += [0.2, 0.1, -0.1, 0.2, 0.1, -0.2, 0.3]
    result = solve_ik(model, 'link_3.0_tip', model.frame_pose(goal, 'link_3.0_tip'), HOME, LIMITS)
    assert result.converged


@pytest.mark.parametrize(
    'target', [np.eye(3), np.full((4, 4), np.nan), np.diag([1.0, 1.0, -1.0, 1.0]), 2 * np.eye(4)]
)
def test_target_must_be_a_pose(model, target):
    with pytest.raises(IkTargetError):
        solve_ik(model, 'palm_link', target, HOME, LIMITS)


def test_limits_must_name_the_arm(model):
    with pytest.raises(JointLimitsError, match='fr3_joint1'):
        solve_ik(model, 'palm_link', np.eye(4), HOME, LIMITS.subset(['joint_0.0']))
