"""What the real nodes do when one of them dies or hangs in mid-motion of the simulated robot."""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import rclpy
from ament_index_python.packages import get_package_prefix
from dexwm_msgs.action import ExecutePlan
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectoryPoint

from dexwm.robot.joints import ARM_JOINTS, HOME, JOINTS
from dexwm_planner.graph.domain import DomainLease

pytestmark = pytest.mark.realtime

TIMEOUT = 60.0
TURN = 1.0
AT_REST = 0.01

PARAMETERS = {
    'cell': {'objects': '[can]', 'quality': 'fast'},
    'camera': {'source': 'sim', 'width': 392, 'height': 224, 'rate': 10.0},
    # A test machine may be busy; what counts here is that silence is noticed at all.
    'trajectory': {
        'joint_state_timeout': 1.0,
        'heartbeat_timeout': 1.0,
        'heartbeats': '[/camera/color/camera_info]',
        'speed_scale': 0.1,
    },
}
PACKAGES = {'cell': 'dexwm_sim', 'camera': 'dexwm_planner', 'trajectory': 'dexwm_planner'}


class Cell:
    """The three nodes as processes, and a client that watches them."""

    def __init__(self, domain_id):
        environment = {**os.environ, 'ROS_DOMAIN_ID': str(domain_id)}
        self.processes = {}
        for name, package in PACKAGES.items():
            executable = Path(get_package_prefix(package)) / 'lib' / package / name
            flags = [f'{key}:={value}' for key, value in PARAMETERS[name].items()]
            words = [word for flag in flags for word in ('-p', flag)]
            self.processes[name] = subprocess.Popen(
                [executable, '--ros-args', *words], env=environment
            )
        self.context = rclpy.Context()
        self.context.init(domain_id=domain_id)
        self.node = Node('watcher', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.state = None
        self.messages = {}
        self.node.create_subscription(JointState, '/joint_states', self._keep, 10)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._diagnose, 10)
        self.action = ActionClient(self.node, ExecutePlan, '/trajectory/execute_plan')

    def close(self):
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(TIMEOUT)
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    def _keep(self, message):
        self.state = message

    def _diagnose(self, message):
        for status in message.status:
            self.messages[status.name] = status.message

    def until(self, condition, what):
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, f'timed out: {what}'
            self.executor.spin_once(timeout_sec=0.05)

    def angle(self):
        """Of the first joint from its start (rad)."""
        return self.state.position[self.state.name.index(ARM_JOINTS[0])] - HOME[0]

    def is_moving(self):
        return max(abs(v) for v in self.state.velocity[:7]) > AT_REST

    def start_motion(self):
        """Sends the arm on a long way; returns the future of the result once it moves."""
        self.until(lambda: self.state is not None, 'joint states')
        self.until(lambda: self.messages.get('trajectory: motion') == 'idle', 'a ready node')
        goal = ExecutePlan.Goal()
        goal.plan.joint_names = list(JOINTS)
        q = np.array(HOME)
        q[0] += TURN
        goal.plan.waypoints = [JointTrajectoryPoint(positions=q.tolist())]
        sent = self.action.send_goal_async(goal)
        self.until(sent.done, 'an answer to the goal')
        assert sent.result().accepted
        result = sent.result().get_result_async()
        self.until(lambda: self.angle() > 0.05 or result.done(), 'the arm to move')
        assert not result.done(), result.result().result.error_string
        return result

    def until_at_rest(self):
        self.until(lambda: not self.is_moving(), 'the arm to rest')
        rested_at = self.angle()
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            self.executor.spin_once(timeout_sec=0.05)
        assert abs(self.angle() - rested_at) < 0.01, 'the arm moves again'
        assert 0.05 < rested_at < TURN - 0.1


@pytest.fixture
def cell():
    with DomainLease() as lease:
        cell = Cell(lease.domain_id)
        try:
            yield cell
        finally:
            cell.close()


def test_killed_camera_stops_the_robot_and_is_named(cell):
    result = cell.start_motion()
    cell.processes['camera'].kill()
    cell.until(result.done, 'the result')
    cell.until_at_rest()
    outcome = result.result().result
    assert outcome.error_code == ExecutePlan.Result.STALE_STATE
    assert '/camera/color/camera_info' in outcome.error_string


def test_killed_trajectory_node_leaves_a_robot_that_stops(cell):
    cell.start_motion()
    cell.processes['trajectory'].kill()
    cell.until_at_rest()


def test_hanging_trajectory_node_leaves_a_robot_that_stops(cell):
    cell.start_motion()
    cell.processes['trajectory'].send_signal(signal.SIGSTOP)
    cell.until_at_rest()


def test_killed_cell_is_reported_by_the_others(cell):
    result = cell.start_motion()
    cell.processes['cell'].kill()
    cell.until(result.done, 'the result')
    assert result.result().result.error_code == ExecutePlan.Result.STALE_STATE
    # Both go stale at the same time, and both come from the cell.
    reason = result.result().result.error_string
    assert 'joint state' in reason or '/camera/color/camera_info' in reason
    cell.until(
        lambda: 'cell' in cell.messages.get('camera: frames', ''), 'the camera to report the cell'
    )
