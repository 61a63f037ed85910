"""The node `confirm` at a terminal (a pseudo terminal), and without one."""

import os
import pty
import subprocess
import sys
import threading
import time

import pytest
import rclpy
from dexwm_msgs.msg import MotionState
from dexwm_msgs.srv import ConfirmPlan
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile

from dexwm_planner.graph.domain import DomainLease

pytestmark = pytest.mark.realtime

TIMEOUT = 30.0


class Trajectory:
    """Asks, and keeps the answers."""

    def __init__(self, domain):
        self.context = rclpy.Context()
        self.context.init(domain_id=domain)
        self.node = Node('trajectory', context=self.context)
        self.answers = []
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self.states = self.node.create_publisher(MotionState, '~/state', latched)
        self.node.create_service(ConfirmPlan, '~/confirm', self.take)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin)
        self.thread.start()

    def take(self, request, response):
        self.answers.append((request.plan_id, request.accept))
        response.success = True
        return response

    def ask(self, plan_id):
        state = MotionState(confirm_plan_id=plan_id, confirm_task='grasp', confirm_waypoints=2)
        self.states.publish(state)

    def close(self):
        self.executor.shutdown()
        self.thread.join()
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def trajectory():
    with DomainLease() as lease:
        trajectory = Trajectory(lease.domain_id)
        trajectory.domain = lease.domain_id
        yield trajectory
        trajectory.close()


def start(domain, stdin, log):
    return subprocess.Popen(
        [sys.executable, '-m', 'dexwm_planner.trajectory.confirm_node'],
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain)},
        stdin=stdin,
        stderr=log.open('w'),
        start_new_session=True,
    )


def until(condition, what):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, f'timed out: {what}'
        time.sleep(0.02)


def test_answers_of_a_person_at_the_terminal_belong_to_the_plan_shown(trajectory, tmp_path):
    log = tmp_path / 'log'
    keyboard, terminal = pty.openpty()
    process = start(trajectory.domain, terminal, log)
    try:
        for plan_id, typed, accept in (('aa', b'maybe\nyes\n', True), ('bb', b'n\n', False)):
            trajectory.ask(plan_id)
            until(
                lambda: log.read_text().count('execute it') > len(trajectory.answers), 'question'
            )
            os.write(keyboard, typed)
            until(lambda: (plan_id, accept) in trajectory.answers, 'the answer')  # noqa: B023
        assert trajectory.answers == [('aa', True), ('bb', False)]
        assert 'grasp, 2 waypoints' in log.read_text()
    finally:
        process.terminate()
        process.wait(TIMEOUT)
        os.close(keyboard)
        os.close(terminal)


def test_without_a_terminal_it_tells_the_service(trajectory, tmp_path):
    log = tmp_path / 'log'
    process = start(trajectory.domain, subprocess.DEVNULL, log)
    try:
        trajectory.ask('cc')
        until(lambda: "plan_id: 'cc', accept: true" in log.read_text(), 'the command')
    finally:
        process.terminate()
        process.wait(TIMEOUT)
    assert trajectory.answers == []
