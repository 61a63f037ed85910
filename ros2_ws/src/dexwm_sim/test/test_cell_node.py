"""The cell node as users meet it: its process, its topics."""

import signal
import subprocess
import time

import numpy as np
import pytest
from ament_index_python.packages import get_package_prefix
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from dexwm.robot.joints import ARM_JOINTS, HAND_JOINTS, HOME, JOINTS
from dexwm_sim.scene_config import SceneConfig
from dexwm_sim.shared_state import SharedState, default_name

pytestmark = pytest.mark.realtime

TIMEOUT = 60.0


def turned(angle):
    """The arm's resting posture with its first joint turned."""
    q = HOME[:7].copy()
    q[0] += angle
    return q


def start_cell(*parameters):
    executable = f'{get_package_prefix("dexwm_sim")}/lib/dexwm_sim/cell'
    arguments = [word for p in parameters for word in ('-p', p)]
    return subprocess.Popen(
        [executable, '--ros-args', *arguments], stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope='module')
def cell(domain):
    process = start_cell('scene_seed:=5', "objects:=['can','box']", 'quality:=fast')
    yield process
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0


@pytest.fixture
def user(cell, ros_user):
    user = ros_user
    response = user.call('/cell/reset')
    assert response.success, response.message
    user.wait(
        lambda: all(p.get_subscription_count() for p in user.publishers.values()),
        'connection to the controllers',
    )
    seen = len(user.stamps)
    user.wait(lambda: len(user.stamps) > seen + 20 and user.cell, 'more states')
    return user


def test_an_arm_without_fci_has_no_user_stop(user):
    response = user.call('/cell/user_stop', SetBool, data=True)
    assert not response.success and 'arm: fci' in response.message


def rejections(user, controller):
    user.wait(lambda: f'cell: {controller}' in user.diagnostics, 'diagnostics')
    return int(user.diagnostics[f'cell: {controller}'][1]['rejected'])


def posture_at_rest(user):
    """Where the joints are when they have been there for half a second."""
    end = time.monotonic() + TIMEOUT
    while True:
        before, seen = user.q(JOINTS), len(user.stamps)
        user.wait(lambda seen=seen: len(user.stamps) > seen + 50, '50 joint states')
        if np.abs(user.q(JOINTS) - before).max() < 0.005:
            return before
        assert time.monotonic() < end, 'it does not come to rest'


def test_state_at_rest(user):
    np.testing.assert_allclose(user.q(JOINTS), HOME, atol=0.02)
    start = len(user.stamps)
    user.wait(lambda: len(user.stamps) > start + 100, '100 joint states')
    assert np.median(np.diff(user.stamps[start:])) == pytest.approx(10e6, rel=0.01)
    assert user.cell.header.frame_id == 'base'
    assert list(user.cell.object_names) == ['can', 'box']
    assert list(user.cell.object_touched) == [False, False]
    assert user.cell.scene_seed == 5
    config = SceneConfig.sample(5, ['can', 'box'])
    for placement, pose in zip(config.objects, user.cell.object_poses, strict=True):
        assert abs(pose.position.x - placement.x) < 0.01
        assert abs(pose.position.y - placement.y) < 0.01
        assert 0.22 < pose.position.z < 0.35
    user.wait(lambda: 'cell: physics' in user.diagnostics, 'diagnostics')
    assert float(user.diagnostics['cell: physics'][1]['real_time_factor']) > 0.0


def test_arm_and_hand_follow(user):
    arm, hand = turned(0.2), HOME[7:].copy()
    hand[[1, 5]] += 0.4
    user.send('fr3_arm_controller', ARM_JOINTS[::-1], [(0.8, arm[::-1], np.zeros(7))])
    user.send('allegro_hand_controller', HAND_JOINTS, [(0.8, hand, np.zeros(16))])
    goal = np.concatenate([arm, hand])
    user.wait(lambda: np.abs(user.q(JOINTS) - goal).max() < 0.03, 'arrival')


def test_an_empty_trajectory_holds_where_it_is(user):
    far = turned(0.8)
    user.send('fr3_arm_controller', ARM_JOINTS, [(8.0, far, np.zeros(7))])
    user.wait(lambda: user.q(ARM_JOINTS)[0] > 0.1, 'motion')
    user.publishers['fr3_arm_controller'].publish(JointTrajectory())
    assert posture_at_rest(user)[0] < 0.7


def test_bad_trajectories_are_counted_and_change_nothing(user):
    name, names = 'fr3_arm_controller', ARM_JOINTS
    goal = turned(0.3)
    long_ago = time.time_ns() - 10 * 10**9
    bad = {
        'unknown joints': (['elbow', *names[1:]], [(1.0, goal)], 0),
        'joints missing': (names[:6], [(1.0, goal[:6])], 0),
        '6 positions': (names, [(1.0, goal[:6])], 0),
        'nan': (names, [(1.0, np.full(7, np.nan))], 0),
        'increase strictly': (names, [(1.0, goal), (0.5, goal)], 0),
        'still moves': (names, [(1.0, goal, np.ones(7))], 0),
        'ended': (names, [(1.0, goal)], long_ago),
        'limits': (names, [(1.0, goal + 5.0)], 0),
    }
    for i, (reason, (joints, points, stamp)) in enumerate(bad.items()):
        before = rejections(user, name)
        user.send(name, joints, points, stamp)
        user.wait(lambda before=before: rejections(user, name) > before, f'rejection {i}')
        assert reason in user.diagnostics[f'cell: {name}'][1]['last_rejection'], reason
    np.testing.assert_allclose(user.q(JOINTS), HOME, atol=0.02)


def test_a_rejected_trajectory_leaves_the_running_one(user):
    goal, before = turned(0.3), rejections(user, 'fr3_arm_controller')
    user.send('fr3_arm_controller', ARM_JOINTS, [(1.5, goal, np.zeros(7))])
    user.wait(lambda: user.q(ARM_JOINTS)[0] > 0.05, 'motion')
    user.send('fr3_arm_controller', ARM_JOINTS, [(1.0, np.full(7, np.nan))])
    user.wait(lambda: rejections(user, 'fr3_arm_controller') > before, 'rejection')
    user.wait(lambda: abs(user.q(ARM_JOINTS)[0] - goal[0]) < 0.02, 'arrival')


def test_the_state_is_shared_with_cameras(user):
    with SharedState.attach(default_name()) as state:
        config = SceneConfig.from_json(state.scene_json)
        assert (config.seed, config.target, config.quality) == (5, 'can', 'fast')
        first = state.read()
        user.wait(lambda: state.read().sim_time > first.sim_time, 'a later state')
        second = state.read()
    assert abs(second.stamp_ns - time.time_ns()) < 5e9


def test_a_second_cell_is_refused(user):
    process = start_cell()
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert 'Another cell already runs' in log


@pytest.mark.parametrize(
    ('parameter', 'message'),
    [
        ('arm:=left', 'arm is left'),
        ('hand:=left', 'hand is left'),
        ('hand:=can', 'hand: can needs hand_channel'),
        ("objects:=['unicorn']", 'unicorn'),
        ('quality:=best', 'best'),
    ],
)
def test_bad_parameters_end_the_node_with_a_reason(domain, parameter, message):
    process = start_cell(parameter, 'shared_state:=refused')
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert message in log.replace("'", '')
