import numpy as np
import pytest

from dexwm.robot.joints import ARM, HAND_JOINTS, HOME, JOINTS, robot_limits
from dexwm.robot.model import RobotModel, RobotModelError


def random_q(count, seed=0):
    limits = robot_limits()
    return np.random.default_rng(seed).uniform(limits.lower, limits.upper, (count, 23))


def craig_transform(a, alpha, d, theta):
    """Craig's link transform, as in the FCI documentation's table of the FR3."""
    ca, sa, ct, st = np.cos(alpha), np.sin(alpha), np.cos(theta), np.sin(theta)
    return np.array(
        [
            [ct, -st, 0, a],
            [st * ca, ct * ca, -sa, -d * sa],
            [st * sa, ct * sa, ca, d * ca],
            [0, 0, 0, 1],
        ]
    )


def test_flange_follows_frankas_table(model):
    half = np.pi / 2
    for q in random_q(50):
        table = [
            (0, 0, 0.333, q[0]),
            (0, -half, 0, q[1]),
            (0, half, 0.316, q[2]),
            (0.0825, half, 0, q[3]),
            (-0.0825, -half, 0.384, q[4]),
            (0, half, 0, q[5]),
            (0.088, half, 0, q[6]),
            (0, 0, 0.107, 0),
        ]
        expected = np.linalg.multi_dot([craig_transform(*row) for row in table])
        np.testing.assert_allclose(model.frame_pose(q, 'fr3_link8'), expected, atol=1e-12)


@pytest.mark.parametrize('joint', range(23))
def test_each_column_moves_its_own_joint(model, joint):
    """A joint moves its own link and what hangs on it, and nothing else."""
    q = HOME.copy()
    q[joint] += 0.1
    for i, name in enumerate(JOINTS):
        link = name.replace('joint', 'link')
        moved = not np.allclose(model.frame_pose(q, link), model.frame_pose(HOME, link))
        same_finger = i >= 7 and joint >= 7 and (i - 7) // 4 == (joint - 7) // 4
        carried = joint <= i and (joint < 7 or same_finger)
        assert moved == carried, (name, JOINTS[joint])


@pytest.mark.parametrize('frame', ['fr3_link8', 'palm_link', 'link_3.0_tip', 'link_15.0_tip'])
def test_jacobian_equals_finite_differences(model, frame):
    q = random_q(1, seed=3)[0]
    jacobian = model.jacobian(q, frame)
    step = 1e-6
    for i in range(23):
        dq = np.zeros(23)
        dq[i] = step
        before, after = model.frame_pose(q - dq, frame), model.frame_pose(q + dq, frame)
        linear = (after[:3, 3] - before[:3, 3]) / (2 * step)
        turn = (after[:3, :3] - before[:3, :3]) / (2 * step) @ model.frame_pose(q, frame)[:3, :3].T
        angular = np.array([turn[2, 1], turn[0, 2], turn[1, 0]])
        np.testing.assert_allclose(jacobian[:, i], np.r_[linear, angular], atol=1e-8)


def test_hand_does_not_move_the_arm(model):
    q = HOME.copy()
    q[7:] += 0.1
    np.testing.assert_array_equal(
        model.frame_pose(q, 'fr3_link8'), model.frame_pose(HOME, 'fr3_link8')
    )
    assert not model.jacobian(HOME, 'palm_link')[:, 7:].any()
    assert model.jacobian(HOME, 'palm_link')[:, ARM].any(axis=0).all()


def test_unknown_frame_lists_the_known(model):
    with pytest.raises(RobotModelError, match=r"unknown frame 'elbow'.*'fr3_link0'"):
        model.frame_pose(HOME, 'elbow')


@pytest.mark.parametrize('q', [np.zeros(7), np.zeros((2, 23)), np.full(23, np.nan)])
def test_bad_positions_are_refused(model, q):
    with pytest.raises(RobotModelError):
        model.keypoints(q)


def test_not_a_urdf():
    with pytest.raises(RobotModelError, match='cannot read'):
        RobotModel.from_urdf('<robot')


def test_missing_and_surplus_joints_are_named(urdf):
    with pytest.raises(RobotModelError, match=r"lacks the joints \['joint_3\.0'\]"):
        RobotModel.from_urdf(
            urdf.replace('name="joint_3.0" type="revolute"', 'name="j" type="fixed"')
        )
    surplus = (
        '<link name="pan"/><joint name="neck" type="revolute"><parent link="base"/>'
        '<child link="pan"/><axis xyz="0 0 1"/>'
        '<limit lower="-1" upper="1" velocity="1" effort="1"/></joint></robot>'
    )
    with pytest.raises(RobotModelError, match=r"not ours: \['neck'\]"):
        RobotModel.from_urdf(urdf.replace('</robot>', surplus))


def test_order_of_pinocchio_really_differs(model):
    """Guards the conversion by name: Pinocchio puts the thumb before the middle finger."""
    assert model.pinocchio_index.tolist() != list(range(23))
    assert sorted(model.pinocchio_index) == list(range(23))
    names = list(model.pinocchio_model.names)
    assert names.index('joint_12.0') < names.index(HAND_JOINTS[4])
