"""The node `trajectory` as a process of its own, with a robot that follows real controllers."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import rclpy
from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Duration
from dexwm_msgs.action import ExecutePlan
from dexwm_msgs.msg import MotionState, Plan
from dexwm_msgs.srv import ConfirmPlan
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from dexwm.control.joint_trajectory_controller import JointTrajectoryController
from dexwm.control.outcome import Outcome
from dexwm.control.plan_checks import PlanChecker
from dexwm.control.trajectory_message import nanoseconds, parse_trajectory
from dexwm.robot.joints import ARM_JOINTS, HAND_JOINTS, HOME, JOINTS, robot_limits
from dexwm_franka_bringup.action_client import ThreadedActionClient
from dexwm_planner.graph.domain import DomainLease
from dexwm_planner.trajectory.trajectory_node import TrajectoryNode

pytestmark = pytest.mark.realtime

CONFIG = Path(__file__).parents[1] / 'config' / 'trajectory.yaml'
LIMITS = robot_limits()
TIMEOUT = 60.0
ARM_TOPIC = '/fr3_arm_controller/joint_trajectory'
HAND_TOPIC = '/allegro_hand_controller/joint_trajectory'
HEARTBEAT = '/camera/color/camera_info'


class Robot(Node):
    """Arm and hand, each behind a controller; reports its desired positions as measured."""

    def __init__(self, context):
        super().__init__('robot', context=context)
        self.controllers = [
            JointTrajectoryController(ARM_JOINTS, HOME[:7], LIMITS),
            JointTrajectoryController(HAND_JOINTS, HOME[7:], LIMITS),
        ]
        self.offset = np.zeros(23)
        self.silent = False
        self.heartless = False
        self.rejections = []
        self.record = []
        self.attach()
        # Two publishers, as with an arm and a hand that have drivers of their own.
        self.reporters = [self.create_publisher(JointState, '/joint_states', 10) for _ in range(2)]
        self.heart = self.create_publisher(CameraInfo, HEARTBEAT, 1)
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.live)
        self.thread.start()

    def attach(self):
        self.inputs = [
            self.create_subscription(
                JointTrajectory, topic, lambda m, c=controller: self.accept(m, c), 10
            )
            for topic, controller in zip((ARM_TOPIC, HAND_TOPIC), self.controllers, strict=True)
        ]

    def accept(self, message, controller):
        try:
            trajectory = parse_trajectory(message)
            controller.accept(trajectory, nanoseconds(message.header.stamp), self.now())
        except ValueError as error:
            self.rejections.append(str(error))

    def now(self):
        return self.get_clock().now().nanoseconds

    def state(self):
        now = self.now()
        states = [c.sample(now) for c in self.controllers]
        return now, *(
            np.concatenate([getattr(s, field) for s in states])
            for field in ('positions', 'velocities', 'accelerations')
        )

    def live(self):
        count = 0
        while not self.ending.wait(0.008):
            self.record.append(self.state())
            count += 1
            if not self.silent:
                now, q = self.record[-1][0], self.record[-1][1] + self.offset
                stamp = rclpy.time.Time(nanoseconds=now).to_msg()
                for reporter, names, part in zip(
                    self.reporters, (ARM_JOINTS, HAND_JOINTS), (q[:7], q[7:]), strict=True
                ):
                    message = JointState(name=list(names), position=part.tolist())
                    message.header.stamp = stamp
                    reporter.publish(message)
            if count % 5 == 0 and not self.heartless:
                beat = CameraInfo()
                beat.header.stamp = self.get_clock().now().to_msg()
                self.heart.publish(beat)

    def is_moving(self):
        return bool(np.abs(self.state()[2]).max() > 1e-9)

    def assert_smooth(self):
        """Between any two samples nothing changed faster than the limits allow."""
        record = list(self.record)
        t = np.array([r[0] for r in record]) * 1e-9
        q, v, a = (np.array([r[i] for r in record]) for i in (1, 2, 3))
        dt = np.diff(t)[:, None]
        assert (np.abs(np.diff(q, axis=0)) <= LIMITS.velocity * dt + 1e-6).all()
        assert (np.abs(np.diff(v, axis=0)) <= LIMITS.acceleration * dt + 1e-5).all()
        assert (np.abs(np.diff(a, axis=0)) <= LIMITS.jerk * dt + 1e-2).all()
        # A busy machine may deliver a piece after its end; what the robot has ends at rest too.
        assert [r for r in self.rejections if not r.endswith('or with zero')] == []


class Process:
    """The node under test."""

    def __init__(self, domain, **parameters):
        arguments = [f'{key}:={value}' for key, value in parameters.items()]
        flags = ['--params-file', str(CONFIG)]
        flags += [word for argument in arguments for word in ('-p', argument)]
        self.process = subprocess.Popen(
            [
                sys.executable,
                '-m',
                'dexwm_planner.trajectory.trajectory_node',
                '--ros-args',
                *flags,
            ],
            env={**os.environ, 'ROS_DOMAIN_ID': str(domain)},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.log.append(line)

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        code = self.process.wait(TIMEOUT)
        self.reader.join(TIMEOUT)
        self.process.stderr.close()
        return code


class Client:
    """What a user of the node has, and the robot, spun by one thread."""

    def __init__(self, domain):
        self.context = rclpy.Context()
        self.context.init(domain_id=domain)
        self.robot = Robot(self.context)
        self.node = Node('client', context=self.context)
        self.action = ThreadedActionClient(self.node, ExecutePlan, '/trajectory/execute_plan')
        self.services = {
            name: self.node.create_client(Trigger, f'/trajectory/{name}')
            for name in ('stop', 'resume')
        }
        self.diagnoses = []
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self.diagnoses.append, 10)
        self.feedback = []
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.robot)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin)
        self.thread.start()

    def close(self):
        self.robot.ending.set()
        self.robot.thread.join()
        self.executor.shutdown()
        self.thread.join()
        self.node.destroy_node()
        self.robot.destroy_node()
        self.context.try_shutdown()

    def until(self, condition, what):
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, f'timed out: {what}'
            time.sleep(0.01)

    def wait(self, future):
        self.until(future.done, 'an answer of the node')
        return future.result()

    def send(
        self, waypoints, names=JOINTS, times=None, speed_scale=0.0, velocities=(), picture_age=None
    ):
        goal = ExecutePlan.Goal(speed_scale=speed_scale)
        if picture_age is not None:
            taken_ns = self.robot.now() - round(picture_age * 1e9)
            goal.plan.observation_stamp = rclpy.time.Time(nanoseconds=taken_ns).to_msg()
        goal.plan.joint_names = list(names)
        for q, t in zip(waypoints, times or [0] * len(waypoints), strict=True):
            goal.plan.waypoints.append(
                JointTrajectoryPoint(
                    positions=[float(x) for x in q],
                    velocities=list(velocities),
                    time_from_start=Duration(sec=t),
                )
            )
        self.until(self.action.server_is_ready, 'the action')
        handle = self.wait(self.action.send_goal_async(goal, lambda m: self.feedback.append(m)))
        assert handle.accepted
        return handle

    def result(self, handle):
        return self.wait(handle.get_result_async())

    def execute(self, waypoints, **how):
        answer = self.result(self.send(waypoints, **how))
        return answer.status, answer.result

    def until_moving(self):
        self.until(self.robot.is_moving, 'the robot to move')

    def until_still(self):
        self.until(lambda: not self.robot.is_moving(), 'the robot to rest')

    def call(self, name):
        client = self.services[name]
        self.until(client.service_is_ready, name)
        return self.wait(client.call_async(Trigger.Request()))

    def until_ready(self):
        self.diagnoses.clear()
        self.until(
            lambda: any(s.message == 'idle' for d in self.diagnoses for s in d.status),
            'the node to find all that it needs',
        )

    def go_home(self):
        """Retries: joint states that were silent take a moment to be fresh again."""
        self.until(
            lambda: self.execute([HOME], speed_scale=1.0)[0] == GoalStatus.STATUS_SUCCEEDED,
            'the way home',
        )


# The robot is a Python process on a machine that may be busy: messages take their time.
SETTINGS = {
    'joint_state_timeout': 1.5,
    'heartbeat_timeout': 1.5,
    'speed_scale': 0.3,
    'lead': 0.1,
    'chunk_horizon': 0.3,
    # What needs a person after a fault is tested in test_faults.py.
    'hold_after_fault': False,
}


@pytest.fixture(scope='module')
def domain():
    with DomainLease() as lease:
        yield lease.domain_id


@pytest.fixture(scope='module')
def client(domain):
    client = Client(domain)
    yield client
    client.close()


@pytest.fixture(scope='module')
def process(client, domain):
    process = Process(domain, **SETTINGS)
    client.until_ready()
    yield process
    assert process.end() == 0, ''.join(process.log)


@pytest.fixture
def ready(client, process):
    """The robot at home, everything fresh."""
    client.robot.silent = client.robot.heartless = False
    client.robot.offset[:] = 0.0
    client.go_home()
    client.robot.record.clear()
    client.robot.rejections.clear()
    client.feedback.clear()
    return client


def turned(angle):
    q = HOME.copy()
    q[0] += angle
    return q


def test_executes_a_plan(ready):
    names = JOINTS[::-1]
    closed = turned(0.3)
    closed[[8, 9]] += 0.3
    status, result = ready.execute([q[::-1] for q in (turned(0.2), closed)], names=names)
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert result.error_code == ExecutePlan.Result.SUCCESSFUL and result.error_string == ''
    np.testing.assert_allclose(ready.robot.state()[1], closed, atol=1e-9)
    assert 1.0 < result.duration < 5.0
    assert result.max_tracking_error < 0.02
    fractions = [m.feedback.progress for m in ready.feedback]
    assert len(fractions) > 5 and fractions == sorted(fractions)
    assert {m.feedback.waypoint for m in ready.feedback} == {0, 1}
    assert len(ready.feedback[0].feedback.tracking_error) == 23
    ready.robot.assert_smooth()


def beyond(joint, excess):
    q = HOME.copy()
    q[joint] = LIMITS.upper[joint] + excess
    return q


# The flange goes down through the counter.
INTO_COUNTER = np.concatenate([[0.0, 0.9, 0.0, -1.2, 0.0, 2.1, 0.785], HOME[7:]])


@pytest.mark.parametrize(
    ('waypoints', 'how', 'code', 'reason'),
    [
        ([HOME], {'names': [*JOINTS[:-1], 'wrist']}, 'INVALID_PLAN', 'unknown joints wrist'),
        ([HOME[:7]], {'names': ARM_JOINTS}, 'INVALID_PLAN', 'joints missing: joint_0.0'),
        ([HOME, HOME[:5]], {}, 'INVALID_PLAN', 'waypoint 1 has 5 positions'),
        ([HOME * np.nan], {}, 'INVALID_PLAN', 'fr3_joint1 is nan'),
        ([], {}, 'INVALID_PLAN', 'no waypoints'),
        ([HOME], {'velocities': [0.0] * 23}, 'INVALID_PLAN', 'waypoint 0 has velocities'),
        ([HOME, HOME], {'times': [2, 1]}, 'INVALID_PLAN', 'do not increase'),
        ([HOME], {'speed_scale': 1.5}, 'INVALID_PLAN', 'speed scale must be in (0, 1]'),
        ([beyond(3, 0.01)], {}, 'LIMITS', 'fr3_joint4'),
        ([INTO_COUNTER], {}, 'COLLISION', 'counter'),
        ([turned(2.3)], {}, 'REFUSED', 'the first waypoint is 2.300 rad from where fr3_joint1'),
        ([turned(0.1)], {'picture_age': 200}, 'REFUSED', 'made from a picture that is 200.'),
    ],
)
def test_refuses_with_the_reason_and_does_not_move(ready, waypoints, how, code, reason):
    status, result = ready.execute(waypoints, **how)
    assert status == GoalStatus.STATUS_ABORTED
    assert result.error_code == getattr(ExecutePlan.Result, code)
    assert reason in result.error_string
    np.testing.assert_allclose(ready.robot.state()[1], HOME, atol=1e-9)


def test_a_plan_whose_picture_is_a_minute_old_is_executed(ready):
    status, _ = ready.execute([turned(0.1)], picture_age=60)
    assert status == GoalStatus.STATUS_SUCCEEDED


def test_refused_plan_leaves_the_running_one_alone(ready):
    running = ready.send([turned(0.5)])
    ready.until_moving()
    _, refused = ready.execute([INTO_COUNTER])
    assert refused.error_code == ExecutePlan.Result.COLLISION
    assert ready.result(running).status == GoalStatus.STATUS_SUCCEEDED
    np.testing.assert_allclose(ready.robot.state()[1], turned(0.5), atol=1e-9)


def test_newer_plans_take_over_in_mid_motion(ready):
    handles = []
    for angle in (0.6, -0.4, 0.5):
        handles.append(ready.send([turned(angle)]))
        time.sleep(0.7)
    answers = [ready.result(handle) for handle in handles]
    codes = [answer.result.error_code for answer in answers]
    assert codes == [Outcome.PREEMPTED, Outcome.PREEMPTED, Outcome.SUCCESSFUL]
    np.testing.assert_allclose(ready.robot.state()[1], turned(0.5), atol=1e-9)
    ready.robot.assert_smooth()


def test_two_plans_at_once_are_never_both_executed(ready):
    handles = [ready.send([turned(angle)]) for angle in (0.4, -0.4)]
    codes = [ready.result(handle).result.error_code for handle in handles]
    assert sorted(codes) == [Outcome.PREEMPTED, Outcome.SUCCESSFUL]
    winner = turned(0.4 if codes[0] == 0 else -0.4)
    np.testing.assert_allclose(ready.robot.state()[1], winner, atol=1e-9)
    ready.robot.assert_smooth()


def test_cancel_ramps_down(ready):
    handle = ready.send([turned(0.8)])
    ready.until_moving()
    ready.wait(handle.cancel_goal_async())
    answer = ready.result(handle)
    assert answer.status == GoalStatus.STATUS_CANCELED
    assert answer.result.error_code == ExecutePlan.Result.STOPPED
    ready.until_still()
    assert 0.0 < ready.robot.state()[1][0] - HOME[0] < 0.7
    ready.robot.assert_smooth()


def test_a_node_that_is_held_up_again_and_again_moves_the_robot_smoothly(ready, process):
    handle = ready.send([turned(1.2), turned(-1.2), HOME])
    ready.until_moving()
    for k in range(8):
        process.process.send_signal(signal.SIGSTOP)
        time.sleep(0.3 + 0.01 * k)
        process.process.send_signal(signal.SIGCONT)
        time.sleep(0.2)
    assert ready.result(handle).status == GoalStatus.STATUS_SUCCEEDED
    ready.robot.assert_smooth()


def test_stop_holds_and_resume_accepts_plans_again(ready):
    handle = ready.send([turned(0.8)])
    ready.until_moving()
    assert ready.call('stop').success
    answer = ready.result(handle)
    assert answer.result.error_code == ExecutePlan.Result.STOPPED
    assert 'resume' in answer.result.error_string
    ready.until_still()
    held = ready.robot.state()[1]
    _, refused = ready.execute([turned(0.1)])
    assert refused.error_code == ExecutePlan.Result.STOPPED
    ready.until(
        lambda: any('resume' in s.message for d in ready.diagnoses[-1:] for s in d.status),
        'a diagnosis that tells of the stop',
    )
    assert ready.call('resume').success
    np.testing.assert_array_equal(ready.robot.state()[1], held)
    status, _ = ready.execute([turned(0.1)])
    assert status == GoalStatus.STATUS_SUCCEEDED
    ready.robot.assert_smooth()


def test_joint_states_that_stop_stop_the_motion(ready):
    handle = ready.send([turned(0.8)], speed_scale=0.05)
    ready.until_moving()
    ready.robot.silent = True
    result = ready.result(handle).result
    assert result.error_code == ExecutePlan.Result.STALE_STATE
    assert 'joint state of' in result.error_string
    ready.until_still()
    assert ready.robot.state()[1][0] - HOME[0] < 0.7
    _, refused = ready.execute([HOME])
    assert refused.error_code == ExecutePlan.Result.STALE_STATE
    ready.robot.assert_smooth()


def test_heartbeat_that_stops_stops_the_motion(ready):
    handle = ready.send([turned(0.8)], speed_scale=0.05)
    ready.until_moving()
    ready.robot.heartless = True
    result = ready.result(handle).result
    assert result.error_code == ExecutePlan.Result.STALE_STATE
    assert f'{HEARTBEAT} was silent' in result.error_string
    ready.until_still()
    ready.robot.assert_smooth()


def test_robot_that_does_not_follow_is_stopped(ready):
    handle = ready.send([turned(0.8)])
    ready.until_moving()
    ready.robot.offset[1] = 0.3
    result = ready.result(handle).result
    assert result.error_code == ExecutePlan.Result.TRACKING
    assert 'fr3_joint2 is 0.3' in result.error_string
    ready.until_still()
    ready.robot.assert_smooth()


def test_controllers_that_are_absent_are_named(ready):
    robot = ready.robot
    for subscription in robot.inputs:
        robot.destroy_subscription(subscription)

    def refused():
        _, result = ready.execute([turned(0.1)])
        return result if result.error_code == ExecutePlan.Result.NO_CONTROLLER else None

    try:
        # It takes the middleware a moment to tell.
        ready.until(refused, 'a refusal for want of controllers')
        reason = refused().error_string
        assert ARM_TOPIC in reason and HAND_TOPIC in reason
    finally:
        robot.attach()
    ready.until(
        lambda: ready.execute([HOME])[1].error_code == ExecutePlan.Result.SUCCESSFUL,
        'the controllers to be found again',
    )


def test_a_node_that_has_just_begun_waits_for_what_a_plan_needs():
    with DomainLease() as lease:
        client = Client(lease.domain_id)
        robot = client.robot
        robot.silent = True
        for subscription in robot.inputs:
            robot.destroy_subscription(subscription)
        process = Process(lease.domain_id, **SETTINGS)
        try:
            handle = client.send([turned(0.1)])
            time.sleep(0.3)
            robot.attach()
            robot.silent = False
            result = client.result(handle).result
        finally:
            process.end()
            client.close()
    assert result.error_code == ExecutePlan.Result.SUCCESSFUL, result.error_string


def test_the_plan_that_waits_for_a_person_is_told_until_he_answers():
    latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    plans, states = [], []
    with DomainLease() as lease:
        client = Client(lease.domain_id)
        process = Process(lease.domain_id, **SETTINGS, confirm=True)
        try:
            node = client.node
            node.create_subscription(Plan, '/trajectory/waiting_plan', plans.append, latched)
            node.create_subscription(MotionState, '/trajectory/state', states.append, latched)
            confirm = node.create_client(ConfirmPlan, '/trajectory/confirm')
            client.until_ready()
            client.until(lambda: plans, 'the first word')
            assert not plans[-1].waypoints
            for accept in (False, True):
                names = list(reversed(JOINTS))
                handle = client.send([turned(0.1)[::-1]], names=names)
                client.until(lambda: states[-1].confirm_plan_id, 'the question')
                client.until(lambda: plans[-1].waypoints, 'the plan')
                assert list(plans[-1].joint_names) == names
                assert list(plans[-1].waypoints[0].positions) == list(turned(0.1)[::-1])
                np.testing.assert_allclose(plans[-1].observed_positions, HOME[::-1], atol=1e-6)
                question = states[-1].confirm_plan_id
                request = ConfirmPlan.Request(plan_id=question, accept=accept)
                assert client.wait(confirm.call_async(request)).success
                client.until(lambda: not plans[-1].waypoints, 'the end of the question')
                done = GoalStatus.STATUS_SUCCEEDED if accept else GoalStatus.STATUS_ABORTED
                assert client.result(handle).status == done
        finally:
            client.close()
            process.end()


def test_what_nobody_foresaw_holds_the_robot_and_is_no_success(monkeypatch):
    with DomainLease() as lease:
        client, context = Client(lease.domain_id), rclpy.Context()
        context.init(domain_id=lease.domain_id)
        node = TrajectoryNode(
            context=context,
            cli_args=['--ros-args', '--params-file', str(CONFIG)],
            parameter_overrides=[Parameter(name, value=SETTINGS[name]) for name in SETTINGS],
        )
        executor = MultiThreadedExecutor(num_threads=4, context=context)
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin)
        thread.start()
        try:
            client.until_ready()
            with monkeypatch.context() as patch:
                patch.setattr(PlanChecker, 'motion', lambda *_: {}['a bug'])
                status, result = client.execute([turned(0.1)])
            assert status == GoalStatus.STATUS_ABORTED
            assert result.error_code == ExecutePlan.Result.STOPPED
            assert "KeyError('a bug')" in result.error_string
            status, result = client.execute([turned(0.1)])
            assert result.error_code == ExecutePlan.Result.STOPPED
            assert 'a bug' in result.error_string and 'call ~/resume' in result.error_string
            assert client.call('resume').success
            status, _ = client.execute([turned(0.1)])
            assert status == GoalStatus.STATUS_SUCCEEDED
        finally:
            executor.shutdown()
            thread.join()
            node.destroy_node()
            context.try_shutdown()
            client.close()


def test_malformed_joint_states_are_survived(ready):
    broken = ready.node.create_publisher(JointState, '/joint_states', 10)
    ready.until(lambda: broken.get_subscription_count() > 0, 'the subscription')
    broken.publish(JointState(name=['fr3_joint1'], position=[]))
    broken.publish(JointState(name=['fr3_joint1'], position=[float('nan')]))
    status, _ = ready.execute([turned(0.1)])
    assert status == GoalStatus.STATUS_SUCCEEDED
    ready.node.destroy_publisher(broken)


def test_outcomes_are_those_of_the_action():
    for outcome in Outcome:
        assert getattr(ExecutePlan.Result, outcome.name) == outcome


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_death_of_the_node_in_mid_motion_leaves_a_robot_at_rest(number):
    with DomainLease() as lease:
        client, process = Client(lease.domain_id), Process(lease.domain_id, **SETTINGS)
        try:
            client.until_ready()
            answer = client.send([turned(0.8)]).get_result_async()
            client.until_moving()
            time.sleep(0.5)
            code = process.end(number)
            assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0)
            client.until_still()
            assert 0.0 < client.robot.state()[1][0] - HOME[0] < 0.75
            if number == signal.SIGTERM:
                assert client.wait(answer).result.error_code == ExecutePlan.Result.STOPPED
            client.robot.assert_smooth()
        finally:
            client.close()
            if process.process.poll() is None:
                process.end(signal.SIGKILL)


@pytest.mark.parametrize(
    ('parameters', 'reason'),
    [
        ({'command_interface': 'telepathy'}, 'command_interface is streaming or'),
        ({'chunk_horizon': 0.06}, 'must be at least chunk_period + lead'),
        ({'cell_config': '/nowhere.yaml'}, '/nowhere.yaml'),
        ({'speed_scale': 2.0}, 'speed_scale'),
    ],
)
def test_parameters_that_cannot_work_end_the_node_with_the_reason(domain, parameters, reason):
    process = Process(domain, **parameters)
    assert process.process.wait(TIMEOUT) == 1
    process.reader.join(TIMEOUT)
    process.process.stderr.close()
    assert reason in ''.join(process.log)
