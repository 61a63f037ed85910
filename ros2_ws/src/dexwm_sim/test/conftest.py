"""A ROS user for the tests of nodes, and a ROS domain of their own."""

import os
import threading
import time

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Duration
from dexwm_msgs.msg import CellState
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

TIMEOUT = 60.0


class RosUser:
    """A node that watches the robot and commands it."""

    def __init__(self, domain):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node('user', context=self.context)
        self.joints = {}
        self.cell = None
        self.stamps = []
        self.diagnostics = {}
        self.node.create_subscription(JointState, '/joint_states', self._take_joints, 50)
        self.node.create_subscription(CellState, '/cell/state', self._take_cell, 10)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._take_health, 10)
        self.publishers = {
            controller: self.node.create_publisher(
                JointTrajectory, f'/{controller}/joint_trajectory', 10
            )
            for controller in ('fr3_arm_controller', 'allegro_hand_controller')
        }
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def _take_joints(self, message):
        assert len(message.name) == len(message.velocity) == len(message.effort)
        self.joints.update(zip(message.name, message.position, strict=True))
        self.stamps.append(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)

    def _take_cell(self, message):
        self.cell = message

    def _take_health(self, message):
        for status in message.status:
            self.diagnostics[status.name] = (status, {v.key: v.value for v in status.values})

    def q(self, names):
        """The latest positions of these joints."""
        return np.array([self.joints[name] for name in names])

    def call(self, service, kind=Trigger, **request):
        """Call a service, by default a std_srvs/Trigger."""
        client = self.node.create_client(kind, service)
        assert client.wait_for_service(TIMEOUT), service
        response = client.call(kind.Request(**request))
        self.node.destroy_client(client)
        return response

    def wait(self, condition, what):
        end = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < end, f'{what} did not happen within {TIMEOUT} s'
            time.sleep(0.01)

    def send(self, controller, names, points, stamp_ns=0):
        """Send points (seconds, positions, velocities or none)."""
        message = JointTrajectory(joint_names=list(names))
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        for seconds, positions, *velocities in points:
            point = JointTrajectoryPoint(positions=list(map(float, positions)))
            point.velocities = list(map(float, velocities[0])) if velocities else []
            nanoseconds = round(seconds * 1e9)
            point.time_from_start = Duration(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
            message.points.append(point)
        self.publishers[controller].publish(message)

    def close(self):
        self._executor.shutdown()
        rclpy.shutdown(context=self.context)
        self._thread.join()


@pytest.fixture(scope='module')
def domain():
    """A ROS domain for the nodes that the tests of one module start."""
    saved = os.environ.get('ROS_DOMAIN_ID')
    value = 60 + os.getpid() % 40
    os.environ['ROS_DOMAIN_ID'] = str(value)
    yield value
    os.environ.pop('ROS_DOMAIN_ID')
    if saved is not None:
        os.environ['ROS_DOMAIN_ID'] = saved


@pytest.fixture(scope='module')
def ros_user(domain):
    user = RosUser(domain)
    yield user
    user.close()
