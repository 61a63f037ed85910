"""A hand whose servo is off: nothing moves, and /trajectory/recover brings it back.

Trajectory node and hand node are real; the hand is the simulated one on its bus, with fingers that
stand still.
"""

import os
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import rclpy
from ament_index_python.packages import get_package_prefix
from dexwm_msgs.msg import MotionState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from allegro_driver.simulated_hand import SimulatedHand
from allegro_driver.unix_bus import UnixBus
from dexwm.robot.joints import ARM, ARM_JOINTS, HOME
from dexwm_planner.graph.domain import DomainLease
from dexwm_planner.trajectory.recovery import RecoveryError, RobotRecovery

TIMEOUT = 60.0
STEP = 0.0015
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


class Fingers:
    """A simulated hand that nothing moves."""

    def __init__(self, channel):
        self.hand = SimulatedHand(UnixBus(channel, listen=True))
        # Until it is wanted.
        self.hand.condition.silent = True
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def _live(self):
        while not self._ending.wait(STEP):
            self.hand.step(np.full(16, 0.3), STEP)

    def close(self):
        self._ending.set()
        self._thread.join()
        self.hand.close()


class Cell:
    """Both nodes as processes, and a person."""

    def __init__(self, domain, channel):
        self.fingers = Fingers(channel)
        environment = {**os.environ, 'ROS_DOMAIN_ID': str(domain)}
        commands = {
            ('allegro_driver', 'hand'): {
                'interface': 'unix',
                'channel': channel,
                'connect_timeout': TIMEOUT,
                'command_timeout': 5.0,
                'pose_timeout': 5.0,
            },
            ('dexwm_planner', 'trajectory'): {
                'drivers': "['hand: can']",
                'hand_recovery': '/hand/recover',
                'driver_timeout': TIMEOUT,
                'joint_state_timeout': 5.0,
                'heartbeats': "['']",
            },
        }
        self.processes = []
        for (package, name), parameters in commands.items():
            executable = Path(get_package_prefix(package)) / 'lib' / package / name
            words = [w for key, value in parameters.items() for w in ('-p', f'{key}:={value}')]
            self.processes.append(
                subprocess.Popen([executable, '--ros-args', *words], env=environment)
            )
        self.context = rclpy.Context()
        self.context.init(domain_id=domain)
        self.node = Node('person', context=self.context)
        self.states = []
        self.node.create_subscription(
            MotionState, '/trajectory/state', self.states.append, LATCHED
        )
        # The trajectory node looks whether anybody would follow it.
        for name in ('fr3_arm_controller', 'allegro_hand_controller'):
            self.node.create_subscription(
                JointTrajectory, f'/{name}/joint_trajectory', lambda _: None, 10
            )
        self.arm = self.node.create_publisher(JointState, '/joint_states', 10)
        self.node.create_timer(0.05, self._report_arm)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def _report_arm(self):
        state = JointState(name=list(ARM_JOINTS), position=HOME[ARM].tolist())
        state.header.stamp = self.node.get_clock().now().to_msg()
        self.arm.publish(state)

    def until(self, condition, what):
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, f'timed out: {what}; {self.states[-1:]}'
            self.executor.spin_once(timeout_sec=0.05)

    def until_state(self, state, reason):
        self.states.clear()
        self.until(
            lambda: any(s.state == state and reason in s.reason for s in self.states),
            reason,
        )

    def call(self, name):
        client = self.node.create_client(Trigger, name)
        self.until(client.service_is_ready, name)
        future = client.call_async(Trigger.Request())
        self.until(future.done, name)
        self.node.destroy_client(client)
        return future.result()

    def close(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(TIMEOUT)
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()
        self.fingers.close()


@pytest.fixture
def cell(tmp_path):
    with DomainLease() as lease:
        cell = Cell(lease.domain_id, str(tmp_path / 'hand'))
        yield cell
        cell.close()


@pytest.mark.realtime
def test_nothing_moves_with_limp_fingers_and_recover_brings_them_back(cell):
    hand = cell.fingers.hand
    # A hand that is still looked for keeps plans off, and needs nobody when it is there.
    cell.until_state(MotionState.RUN, 'hand: can: the hand does not answer')
    hand.condition.silent = False
    cell.until(lambda: hand.servo_on, 'the servo')
    cell.until(lambda: cell.states[-1].reason == '', 'a robot that may move')
    assert {state.state for state in cell.states} == {MotionState.RUN}

    assert cell.call('/hand/off').success
    cell.until_state(MotionState.STOPPED, 'hand: can: the servo is off: switched off by ~/off')
    assert '~/recover' in cell.states[-1].reason
    refused = cell.call('/trajectory/resume')
    assert not refused.success and 'the servo is off' in refused.message

    assert cell.call('/trajectory/recover').success
    assert hand.servo_on
    # At once, as the panel does it.
    resumed = cell.call('/trajectory/resume')
    assert resumed.success, resumed.message

    hand.condition.too_hot = True
    cell.until_state(MotionState.STOPPED, 'too hot')
    failed = cell.call('/trajectory/recover')
    assert not failed.success and 'hand: ' in failed.message and 'too hot' in failed.message
    assert not hand.servo_on


class Part:
    """Recovers, or says why not."""

    def __init__(self, problem=''):
        self.problem, self.calls = problem, 0

    def recover(self):
        self.calls += 1
        if self.problem:
            raise RecoveryError(self.problem)


def test_a_part_that_cannot_be_recovered_does_not_keep_the_other_back():
    arm, hand = Part('the user stop is pressed'), Part()
    with pytest.raises(RecoveryError, match=r'^arm: the user stop is pressed$'):
        RobotRecovery({'arm': arm, 'hand': hand}).recover()
    assert hand.calls == 1
    with pytest.raises(RecoveryError, match='arm: the user stop is pressed; hand: too hot'):
        RobotRecovery({'arm': arm, 'hand': Part('too hot')}).recover()
    RobotRecovery({'hand': hand}).recover()
    assert hand.calls == 2
