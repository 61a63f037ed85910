"""The hand node in ROS, with the simulated hand on its bus."""

import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rclpy
from ament_index_python.packages import get_package_prefix
from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from allegro_driver.postures import POSTURES
from dexwm.robot.joints import HAND_JOINTS

pytestmark = pytest.mark.realtime

TIMEOUT = 30.0
# Limits for a machine that is busy with tests.
PATIENT = ('command_timeout:=3.0', 'pose_timeout:=3.0')


class User:
    """Watches the hand and commands it."""

    def __init__(self, bench, domain):
        self.bench = bench
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node('user', context=self.context)
        self.state, self.status, self.references = None, None, {}
        self.node.create_subscription(JointState, '/joint_states', self._take_state, 10)
        self.node.create_subscription(
            JointState, '/desired_joint_states', self._take_references, 10
        )
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._take_status, 10)
        make = self.node.create_publisher
        self.trajectory = make(JointTrajectory, '/allegro_hand_controller/joint_trajectory', 10)
        self.joint_cmd = make(JointState, '/hand/joint_cmd', 10)
        self.lib_cmd = make(String, '/hand/lib_cmd', 10)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def _take_state(self, message):
        self.state = message

    def _take_references(self, message):
        self.references = dict(zip(message.name, message.position, strict=True))

    def _take_status(self, message):
        self.status = message.status[0]

    def wait(self, condition, what):
        def spun():
            self.executor.spin_once(timeout_sec=0.01)
            return condition()

        self.bench.wait(spun, what, TIMEOUT)

    def publish(self, publisher, message):
        self.wait(publisher.get_subscription_count, 'a subscriber')
        publisher.publish(message)

    def is_at(self, goal):
        return lambda: np.abs(np.array(self.state.position) - goal).max() < 0.02

    def call(self, service):
        client = self.node.create_client(Trigger, service)
        self.wait(client.service_is_ready, service)
        future = client.call_async(Trigger.Request())
        self.wait(future.done, service)
        self.node.destroy_client(client)
        return future.result()

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


def start(domain, *parameters):
    command = [str(Path(get_package_prefix('allegro_driver')) / 'lib/allegro_driver/hand')]
    command += ['--ros-args', '--disable-external-lib-logs']
    for parameter in parameters:
        command += ['-p', parameter]
    environment = {**os.environ, 'ROS_DOMAIN_ID': str(domain)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture
def domain():
    return 60 + os.getpid() % 40


@pytest.fixture
def user(bench, domain):
    parameters = ('interface:=unix', f'channel:={bench.channel}')
    process = start(domain, *parameters, *PATIENT)
    user = User(bench, domain)
    try:
        user.wait(lambda: user.state is not None and bench.hand.servo_on, 'a hand that is held')
        user.process = process
        yield user
    finally:
        user.close()
        process.kill()
        process.communicate()


def test_a_session(user):
    bench = user.bench
    assert user.state.name == list(HAND_JOINTS)
    assert len(user.state.velocity) == len(user.state.effort) == 16
    assert user.is_at(0.3)()

    point = JointTrajectoryPoint(positions=[0.45] * 16, velocities=[0.0] * 16)
    point.time_from_start = Duration(nanosec=300_000_000)
    user.publish(
        user.trajectory, JointTrajectory(joint_names=list(HAND_JOINTS[::-1]), points=[point])
    )
    user.wait(user.is_at(0.45), 'the end of the trajectory')
    wanted = dict.fromkeys(HAND_JOINTS, pytest.approx(0.45))
    user.wait(lambda: user.references == wanted, 'where the fingers are held')

    user.publish(user.joint_cmd, JointState(position=[0.35] * 16))
    user.wait(user.is_at(0.35), 'the joint command')
    user.publish(user.lib_cmd, String(data='home'))
    user.wait(user.is_at(POSTURES['home']), 'the posture')

    user.publish(user.lib_cmd, String(data='dance'))
    user.publish(user.joint_cmd, JointState(position=[0.4] * 3))
    user.wait(lambda: user.status is not None, 'diagnostics')
    values = lambda: {item.key: item.value for item in user.status.values}  # noqa: E731
    user.wait(lambda: values()['rejected'] == '2', 'two refusals')
    assert user.status.name == 'hand: can' and user.status.hardware_id == 'SIM00001'

    assert user.call('/hand/off').success
    bench.wait_off()
    user.wait(lambda: 'switched off' in user.status.message, 'the report')
    # Nothing holds the fingers now.
    user.references = {}
    stamp = lambda: Time.from_msg(user.state.header.stamp).nanoseconds  # noqa: E731
    seen = stamp()
    user.wait(lambda: stamp() > seen + 300_000_000, 'more joint states')
    assert user.references == {}
    # Whoever moves the arm may not go on with limp fingers.
    assert user.status.level == DiagnosticStatus.ERROR and '~/recover' in user.status.message
    assert user.call('/hand/recover').success
    bench.wait_on()

    user.process.send_signal(signal.SIGTERM)
    output, _ = user.process.communicate(timeout=TIMEOUT)
    assert user.process.returncode == 0
    assert "there is no 'dance'; known: open, home, half_closed, off" in output
    bench.wait_off()


def test_a_fault_is_reported_and_only_recover_clears_it(user):
    user.bench.hand.condition.too_hot = True
    user.wait(lambda: user.status is not None and user.status.level == b'\x02', 'an error')
    assert 'too hot' in user.status.message
    user.bench.wait_off()
    response = user.call('/hand/recover')
    assert not response.success and 'too hot' in response.message
    user.bench.hand.condition.too_hot = False
    assert user.call('/hand/recover').success
    user.bench.wait_on()


def test_a_hand_that_is_still_looked_for_is_no_error(domain, bench):
    bench.hand.condition.silent = True
    parameters = ('interface:=unix', f'channel:={bench.channel}', 'connect_timeout:=60.0')
    process = start(domain, *parameters, *PATIENT)
    user = User(bench, domain)
    try:
        user.wait(lambda: user.status is not None, 'diagnostics')
        assert user.status.level == DiagnosticStatus.STALE
        bench.hand.condition.silent = False
        user.wait(lambda: user.status.level == DiagnosticStatus.OK, 'a hand that is held')
    finally:
        user.close()
        process.terminate()
        process.communicate()


def control_process(node):
    for child in Path(f'/proc/{node}/task/{node}/children').read_text().split():
        if b'spawn_main' in Path(f'/proc/{child}/cmdline').read_bytes():
            return int(child)
    raise AssertionError('the node has no control process')


def test_a_control_process_that_hangs_leaves_a_node_that_switches_off_and_answers(user):
    bench, process = user.bench, control_process(user.process.pid)
    message = JointTrajectory(joint_names=list(HAND_JOINTS))
    for k in range(100):
        point = JointTrajectoryPoint(positions=[0.4] * 16, velocities=[0.0] * 16)
        point.time_from_start = Duration(sec=1 + k)
        message.points.append(point)
    os.kill(process, signal.SIGSTOP)
    try:

        def is_noticed():
            # More in a second than the pipe to the process takes.
            user.trajectory.publish(message)
            return user.status is not None and 'no word from' in user.status.message

        user.wait(is_noticed, 'the report')
        assert user.status.level == DiagnosticStatus.ERROR
        assert 'switched off from the node. Start the driver again' in user.status.message
        bench.wait_off()
        assert user.call('/hand/off').success
        refused = user.call('/hand/recover')
        assert not refused.success and 'no word from' in refused.message
    finally:
        os.kill(process, signal.SIGCONT)
    user.wait(lambda: 'the servo is off' in user.status.message, 'a process that goes on')
    assert not bench.hand.servo_on
    assert user.call('/hand/recover').success
    bench.wait_on()
    user.wait(lambda: user.status.level == DiagnosticStatus.OK, 'the report')


@pytest.mark.parametrize(
    ('parameter', 'reason'),
    [
        ('torque_limits:=[1.0]', 'torque_limits needs 16 numbers'),
        ('stiffness:=[-1.0]', 'stiffness needs 16 numbers'),
    ],
)
def test_bad_parameters_end_the_node_with_a_reason(domain, parameter, reason):
    process = start(domain, parameter)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1 and reason in output


def test_a_missing_interface_is_explained(domain, bench):
    process = start(domain, 'channel:=can9', 'connect_timeout:=0.2')
    user = User(bench, domain)
    try:
        user.wait(lambda: user.status is not None and user.status.level == b'\x02', 'an error')
        assert 'ip link set can9 up type can bitrate 1000000' in user.status.message
    finally:
        user.close()
        process.terminate()
        process.communicate()
