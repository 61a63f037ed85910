import numpy as np
import pytest

from dexwm.control.outcome import Outcome, PlanRefused
from dexwm.control.plan_checks import PlanChecker
from dexwm.control.trajectory import JointState
from dexwm.robot.joints import HOME, JOINTS, robot_limits

LIMITS = robot_limits()


class Wall:
    """Collides where joint 1 passes an angle."""

    segment = 0

    def __init__(self, angle):
        self.angle = angle

    def check_path(self, q_path):
        beyond = np.flatnonzero(q_path[:, 0] > self.angle)
        if not beyond.size:
            return None
        self.segment = max(int(beyond[0]) - 1, 0)
        return self

    def __str__(self):
        return 'elbow and wall overlap'


def checker(wall=np.inf):
    return PlanChecker(LIMITS, margin=0.05, max_first_step=1.0, collisions=Wall(wall))


def refusal(function, *args):
    with pytest.raises(PlanRefused) as caught:
        function(*args)
    assert caught.value.reason
    return caught.value.code, caught.value.reason


def test_well_formed_plan_is_reordered():
    names = JOINTS[::-1]
    waypoints = checker().waypoints(names, [HOME[::-1]], [0.0])
    np.testing.assert_array_equal(waypoints.positions, HOME[None])
    assert waypoints.notes == ()


@pytest.mark.parametrize(
    ('names', 'positions', 'times', 'reason'),
    [
        ([*JOINTS[:-1], 'elbow'], [HOME], [0.0], 'unknown joints elbow'),
        (JOINTS[:-1], [HOME[:-1]], [0.0], 'joints missing: joint_15.0'),
        ([*JOINTS, JOINTS[0]], [HOME], [0.0], 'more than once: fr3_joint1'),
        (JOINTS, [], [], 'no waypoints'),
        (JOINTS, [HOME, HOME[:5]], [0.0, 0.0], 'waypoint 1 has 5 positions'),
        (JOINTS, [np.where(np.arange(23) == 4, np.nan, HOME)], [0.0], 'fr3_joint5 is nan'),
        (JOINTS, [HOME], [-1.0], 'not possible'),
        (JOINTS, [HOME], [np.inf], 'not possible'),
        (JOINTS, [HOME, HOME], [2.0, 1.0], 'do not increase'),
        (JOINTS, [HOME, HOME], [2.0], '2 waypoints but 1'),
    ],
)
def test_malformed_plans(names, positions, times, reason):
    code, text = refusal(checker().waypoints, names, positions, times)
    assert code is Outcome.INVALID_PLAN
    assert reason in text


def test_beyond_the_limit_is_refused_and_within_the_margin_is_moved():
    q = HOME.copy()
    q[3] = LIMITS.upper[3] + 0.001
    code, text = refusal(checker().waypoints, JOINTS, [HOME, q], [0.0, 0.0])
    assert code is Outcome.LIMITS
    assert 'waypoint 1' in text and 'fr3_joint4' in text
    q[3] = LIMITS.upper[3] - 0.01
    waypoints = checker().waypoints(JOINTS, [HOME, q], [0.0, 0.0])
    assert waypoints.positions[1, 3] == pytest.approx(LIMITS.upper[3] - 0.05)
    assert waypoints.notes[0].startswith('fr3_joint4: waypoints moved by up to 0.0400 rad')


def plan_to(joint, distance, check=None):
    check = check or checker()
    q = HOME.copy()
    q[joint] += distance
    return check.waypoints(JOINTS, [q], [0.0])


def test_motion_of_a_good_plan():
    check = checker()
    motion = check.motion(JointState.at_rest(HOME), plan_to(0, 0.5), 0.5)
    assert motion.trajectory.end.positions[0] == pytest.approx(HOME[0] + 0.5)
    assert motion.notes == ()


def test_first_step_is_bounded():
    code, text = refusal(checker().motion, JointState.at_rest(HOME), plan_to(0, 1.2), 0.5)
    assert code is Outcome.REFUSED
    assert '1.200 rad' in text and 'fr3_joint1' in text


def test_collision_on_the_way_is_refused_with_place_and_time():
    there_and_back = checker().waypoints(
        JOINTS, [HOME, HOME + 0.5 * np.eye(23)[0], HOME], [0.0, 0.0, 0.0]
    )
    start = JointState.at_rest(HOME)
    code, text = refusal(checker(wall=HOME[0] + 0.4).motion, start, there_and_back, 0.5)
    assert code is Outcome.COLLISION
    assert 'waypoint 1' in text and 'elbow and wall overlap' in text
    checker(wall=HOME[0] + 0.51).motion(start, there_and_back, 0.5)


def test_start_within_the_margin_may_go_inward():
    q = HOME.copy()
    q[3] = LIMITS.upper[3] - 0.01
    start = JointState.at_rest(q)
    inward = plan_to(3, -0.01)
    check = PlanChecker(LIMITS, margin=0.05, max_first_step=3.0, collisions=Wall(np.inf))
    motion = check.motion(start, inward, 0.5)
    assert 'starting within the margin' in motion.notes[0]
    assert motion.trajectory.positions[:, 3].max() <= q[3] + 1e-9


@pytest.mark.parametrize('scale', [-0.1, 0.0, 1.1, np.nan])
def test_speed_scale_is_checked(scale):
    code, _ = refusal(checker().motion, JointState.at_rest(HOME), plan_to(0, 0.1), scale)
    assert code is Outcome.INVALID_PLAN
