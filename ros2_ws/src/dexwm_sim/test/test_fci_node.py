"""The FCI node and the cell behind libfranka's protocol, as processes of their own."""

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from ament_index_python.packages import get_package_prefix
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from dexwm.robot.joints import ARM_JOINTS, HAND_JOINTS
from dexwm_franka_bringup.arm_config import load_arm_config

pytestmark = pytest.mark.realtime

pytest.importorskip('pylibfranka', reason='the FCI node needs pylibfranka')
pytest.importorskip('franka_sim', reason='the robot of these tests needs franka-sim')

TIMEOUT = 60.0
CONTROLLER = 'fr3_arm_controller'
ADDRESS = f'127.1.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}'


def start(package, executable, *parameters):
    path = f'{get_package_prefix(package)}/lib/{package}/{executable}'
    arguments = [word for p in parameters for word in ('-p', p)]
    return subprocess.Popen([path, '--ros-args', *arguments], start_new_session=True)


def start_fci(*parameters):
    settings = (f'robot_ip:={ADDRESS}', 'realtime:=ignore', 'use_sim_time:=true')
    return start('dexwm_franka_bringup', 'fci', *settings, *parameters)


def stop(process):
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == 0


def worker(node):
    """The id of the process that a node has started for what cannot wait."""
    children = Path(f'/proc/{node.pid}/task/{node.pid}/children').read_text().split()
    for child in children:
        if b'spawn_main' in Path(f'/proc/{child}/cmdline').read_bytes():
            return int(child)
    raise AssertionError(f'no such process among {children}')


def listening(address):
    """Whether something listens where libfranka would connect."""
    try:
        socket.create_connection((address, 1337), timeout=1.0).close()
    except OSError:
        return False
    return True


def health(user):
    return user.diagnostics.get('fci: arm', (None, {}))[1]


def fresh_health(user):
    """A report that comes from now on; the node sends one a second."""
    user.diagnostics.clear()
    user.wait(lambda: health(user), 'diagnostics of the FCI node')
    return health(user)


@pytest.fixture(scope='module')
def cell(domain):
    process = start('dexwm_sim', 'cell', 'arm:=fci', f'fci_address:={ADDRESS}', "objects:=['can']")
    yield process
    stop(process)


@pytest.fixture(scope='module')
def fci(cell):
    processes = [start_fci()]
    yield processes
    stop(processes[-1])


@pytest.fixture
def user(fci, ros_user):
    ros_user.wait(
        lambda: set(ARM_JOINTS + HAND_JOINTS) <= set(ros_user.joints), 'all joint states'
    )
    in_control(ros_user)
    return ros_user


def in_control(user):
    """Wait until the arm is held; a machine too busy for 1 kHz may have lost it before."""
    fresh_health(user)
    user.wait(lambda: health(user)['mode'] != 'connecting', 'a connection')
    if health(user)['mode'] == 'fault':
        response = user.call('/fci/recover')
        assert response.success, response.message
    user.wait(lambda: health(user)['mode'] == 'holding', 'control')


def move(user, goal, seconds=1.5):
    """Go there; only a machine too busy for 1 kHz is an excuse to try again."""
    rejected = health(user)['rejected']
    for _ in range(3):
        user.send(CONTROLLER, ARM_JOINTS, [(seconds, goal, np.zeros(7))])
        user.wait(
            lambda rejected=rejected: (
                np.abs(user.q(ARM_JOINTS) - goal).max() < 0.01
                or health(user)['mode'] == 'fault'
                or health(user)['rejected'] != rejected
            ),
            'arrival',
        )
        report = health(user)
        if report['mode'] != 'fault':
            assert report['rejected'] == rejected, report['last_rejection']
            return
        assert 'communication_constraints_violation' in report['reason']
        in_control(user)
        # What was sent into the fault was refused.
        rejected = health(user)['rejected']
    pytest.fail('the machine is too busy: the 1 kHz loop was lost three times')


def test_a_robot_that_is_not_there_is_reported(domain, ros_user):
    nobody = ADDRESS.replace('127.1.', '127.2.')
    process = start(
        'dexwm_franka_bringup',
        'fci',
        f'robot_ip:={nobody}',
        'realtime:=ignore',
        'connect_timeout:=1.0',
    )
    try:
        ros_user.diagnostics.clear()
        ros_user.wait(
            lambda: (
                f'no connection to the robot at {nobody}' in health(ros_user).get('reason', '')
            ),
            'the report',
        )
    finally:
        stop(process)


def test_a_joint_moves_and_comes_back(user):
    home = user.q(ARM_JOINTS)
    accepted = int(health(user)['accepted'])
    move(user, home + [0.2, 0, 0, 0, 0, 0, 0])
    move(user, home)
    assert int(fresh_health(user)['accepted']) >= accepted + 2


def test_the_hand_follows_beside_it(user):
    goal = user.q(HAND_JOINTS)
    goal[[1, 5, 9]] += 0.3
    user.send('allegro_hand_controller', HAND_JOINTS, [(0.5, goal, np.zeros(16))])
    user.wait(lambda: np.abs(user.q(HAND_JOINTS) - goal).max() < 0.03, 'the fingers')


@pytest.mark.parametrize(
    ('points', 'reason'),
    [
        ([(0.1, 0.5)], r'velocity \(rad/s\) of fr3_joint1 would be'),
        ([(0.02, 0.02)], r'acceleration \(rad/s\^2\) of fr3_joint1 would be'),
        ([(0.5, 9.0)], 'out of limits: fr3_joint1'),
    ],
)
def test_what_would_trip_the_robot_is_refused(user, points, reason):
    before = user.q(ARM_JOINTS)
    rejected = int(health(user)['rejected'])
    turn = np.array([1.0, 0, 0, 0, 0, 0, 0])
    user.send(
        CONTROLLER, ARM_JOINTS, [(t, before + angle * turn, np.zeros(7)) for t, angle in points]
    )
    user.wait(lambda: int(health(user)['rejected']) > rejected, 'rejection')
    assert re.search(reason, health(user)['last_rejection'])
    np.testing.assert_allclose(user.q(ARM_JOINTS), before, atol=0.01)


def test_an_empty_trajectory_brakes(user):
    home = user.q(ARM_JOINTS)
    user.send(CONTROLLER, ARM_JOINTS, [(4.0, home + [0.8, 0, 0, 0, 0, 0, 0], np.zeros(7))])
    user.wait(lambda: user.q(ARM_JOINTS)[0] > home[0] + 0.1, 'motion')
    user.wait(lambda: health(user)['mode'] == 'moving', 'the report of it')
    user.publishers[CONTROLLER].publish(JointTrajectory())
    user.wait(lambda: health(user)['mode'] != 'moving', 'rest')
    assert user.q(ARM_JOINTS)[0] < home[0] + 0.6
    in_control(user)
    move(user, home)


def test_the_cell_is_not_reset_under_control(user):
    response = user.call('/cell/reset')
    assert not response.success
    assert 'client controls the arm' in response.message


def test_a_fault_is_told_and_only_recovered_on_request(user, fci):
    loop = worker(fci[-1])
    os.kill(loop, signal.SIGSTOP)
    time.sleep(0.3)
    os.kill(loop, signal.SIGCONT)
    user.wait(lambda: health(user)['mode'] == 'fault', 'the fault')
    assert 'communication_constraints_violation' in health(user)['reason']
    before = user.q(ARM_JOINTS)
    rejected = int(health(user)['rejected'])
    goal = before + [0.1, 0, 0, 0, 0, 0, 0]
    user.send(CONTROLLER, ARM_JOINTS, [(1.0, goal, np.zeros(7))])
    user.wait(lambda: int(health(user)['rejected']) > rejected, 'rejection')
    assert 'call ~/recover' in health(user)['last_rejection']
    time.sleep(1.0)
    assert fresh_health(user)['mode'] == 'fault'
    np.testing.assert_allclose(user.q(ARM_JOINTS), before, atol=0.01)
    in_control(user)
    move(user, goal)
    move(user, before)


def test_the_user_stop_stops_the_arm_until_it_is_released_and_recovered(user):
    home = user.q(ARM_JOINTS)
    user.send(CONTROLLER, ARM_JOINTS, [(1.5, home + [0.3, 0, 0, 0, 0, 0, 0], np.zeros(7))])
    user.wait(lambda: user.q(ARM_JOINTS)[0] > home[0] + 0.05, 'motion')
    try:
        assert user.call('/cell/user_stop', SetBool, data=True).success
        user.wait(lambda: health(user)['mode'] == 'fault', 'the fault')
        report = fresh_health(user)
        assert report['robot_mode'] == 'UserStopped'
        assert 'User Stop pressed' in report['reason'] and 'release it' in report['reason']
        stopped = user.q(ARM_JOINTS)
        assert stopped[0] < home[0] + 0.25
        # Pressed, nothing brings it back; released, only a person's call does.
        refusal = user.call('/fci/recover').message
        assert 'safety function' in refusal and 'release it' in refusal
    finally:
        released = user.call('/cell/user_stop', SetBool, data=False).success
    assert released
    assert fresh_health(user)['mode'] == 'fault'
    np.testing.assert_allclose(user.q(ARM_JOINTS), stopped, atol=0.01)
    in_control(user)
    move(user, home)


def test_the_arm_rests_when_the_node_is_killed(user, fci):
    home = user.q(ARM_JOINTS)
    user.send(CONTROLLER, ARM_JOINTS, [(1.0, home + [0.15, 0, 0, 0, 0, 0, 0], np.zeros(7))])
    user.wait(lambda: user.q(ARM_JOINTS)[0] > home[0] + 0.02, 'motion')
    loop = worker(fci[-1])
    fci[-1].kill()
    fci[-1].wait()
    # The control process notices, lets the motion end at rest, and goes.
    user.wait(lambda: not Path(f'/proc/{loop}').exists(), 'the end of the control process')
    user.joints.clear()
    fci.append(start_fci())
    user.wait(lambda: set(ARM_JOINTS) <= set(user.joints), 'joint states of the new node')
    in_control(user)
    np.testing.assert_allclose(user.q(ARM_JOINTS)[1:], home[1:], atol=0.02)
    move(user, home)


def test_the_arm_is_told_what_hangs_on_it(user):
    # As the robot says it itself.
    assert float(health(user)['load_kg']) == pytest.approx(load_arm_config().mass, abs=1e-3)


def test_the_protocol_ends_with_a_killed_cell(domain):
    address = ADDRESS.replace('127.1.', '127.3.')
    cell = start(
        'dexwm_sim', 'cell', 'arm:=fci', f'fci_address:={address}', 'shared_state:=to-be-killed'
    )
    try:
        end = time.monotonic() + TIMEOUT
        while not listening(address):
            assert time.monotonic() < end and cell.poll() is None
            time.sleep(0.1)
        server = worker(cell)
    finally:
        cell.kill()
        cell.wait()
    while Path(f'/proc/{server}').exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    assert not listening(address)


@pytest.mark.parametrize(
    'parameter', ['realtime:=maybe', 'joint_stiffness:=[1.0]', 'arm_config:=/no/such.yaml']
)
def test_bad_parameters_end_the_node(domain, parameter):
    process = start('dexwm_franka_bringup', 'fci', parameter)
    assert process.wait(TIMEOUT) == 1
