"""The action interface to the controllers, against action servers with real controllers behind.

Runs where control_msgs is installed; what happens where it is not is tested as well.
"""

import importlib.util
import threading
import time

import numpy as np
import pytest
import rclpy
from rclpy.action import ActionServer, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node

from dexwm.control.joint_trajectory_controller import JointTrajectoryController
from dexwm.control.motion import MotionConfig, MotionStreamer
from dexwm.control.outcome import Outcome
from dexwm.control.timing import time_waypoints
from dexwm.control.trajectory_message import nanoseconds, parse_trajectory
from dexwm.robot.joints import ARM_JOINTS, HAND_JOINTS, HOME, robot_limits
from dexwm_planner.graph.domain import DomainLease
from dexwm_planner.trajectory.follow_joint_trajectory_output import FollowJointTrajectoryOutput
from dexwm_planner.trajectory.trajectory_parameters import TrajectoryConfigError

pytestmark = pytest.mark.realtime

LIMITS = robot_limits()
CONTROLLERS = {'arm': ARM_JOINTS, 'hand': HAND_JOINTS}
HAS_CONTROL_MSGS = importlib.util.find_spec('control_msgs') is not None
needs_control_msgs = pytest.mark.skipif(
    not HAS_CONTROL_MSGS, reason='control_msgs is not installed'
)


class Controller:
    """An action server that follows trajectories to their end, unless told to fail."""

    def __init__(self, node, name, joints, start):
        from control_msgs.action import FollowJointTrajectory

        self.action = FollowJointTrajectory
        self.node = node
        self.controller = JointTrajectoryController(joints, start)
        self.accepting = True
        self.error_code = 0
        self.goals = []
        self.server = ActionServer(
            node,
            FollowJointTrajectory,
            f'/{name}/follow_joint_trajectory',
            self.execute,
            goal_callback=self.consider,
            callback_group=ReentrantCallbackGroup(),
        )

    def now(self):
        return self.node.get_clock().now().nanoseconds

    def consider(self, _):
        return GoalResponse.ACCEPT if self.accepting else GoalResponse.REJECT

    def execute(self, handle):
        message = handle.request.trajectory
        self.goals.append(handle.request)
        count = len(self.goals)
        stamp = nanoseconds(message.header.stamp)
        self.controller.accept(parse_trajectory(message), stamp, self.now())
        while self.controller.is_active(self.now()):
            if len(self.goals) > count:
                handle.abort()
                return self.action.Result(error_code=-1, error_string='preempted')
            time.sleep(0.01)
        if self.error_code:
            handle.abort()
        else:
            handle.succeed()
        return self.action.Result(error_code=self.error_code, error_string='strayed')


class Bench:
    def __init__(self, domain_id):
        self.context = rclpy.Context()
        self.context.init(domain_id=domain_id)
        self.node = Node('bench', context=self.context)
        self.arm = Controller(self.node, 'arm', ARM_JOINTS, HOME[:7])
        self.hand = Controller(self.node, 'hand', HAND_JOINTS, HOME[7:])
        self.output = FollowJointTrajectoryOutput(self.node, CONTROLLERS, {'fr3_joint1': 0.2})
        self.streamer = MotionStreamer(LIMITS, MotionConfig(self.output.horizon))
        self.executor = MultiThreadedExecutor(num_threads=6, context=self.context)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin)
        self.thread.start()

    def until(self, condition):
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def start(self, goal):
        now = self.arm.now()
        splice = self.streamer.splice_point(now, HOME, np.inf, 0.2)
        motion = time_waypoints(splice.state, goal[None], LIMITS, 0.3)
        chunk = self.streamer.start(motion, splice, self.arm.now())
        assert not self.output.send(chunk, lambda: chunk.due_ns + 1)
        assert self.output.send(chunk, lambda: chunk.due_ns)

    def close(self):
        self.executor.shutdown()
        self.thread.join()
        self.arm.server.destroy()
        self.hand.server.destroy()
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def bench():
    with DomainLease() as lease:
        bench = Bench(lease.domain_id)
        bench.until(lambda: not bench.output.missing())
        yield bench
        bench.close()


def goal(distance):
    q = HOME.copy()
    q[[0, 8]] += distance
    return q


@needs_control_msgs
def test_whole_motion_is_one_goal_per_controller(bench):
    bench.start(goal(0.2))
    assert not bench.output.settled()
    bench.until(bench.output.settled)
    assert bench.output.failure() is None
    assert len(bench.arm.goals) == len(bench.hand.goals) == 1
    assert bench.arm.goals[0].trajectory.header == bench.hand.goals[0].trajectory.header
    assert [t.name for t in bench.arm.goals[0].path_tolerance] == ['fr3_joint1']
    np.testing.assert_allclose(
        bench.arm.controller.sample(bench.arm.now()).positions, goal(0.2)[:7], atol=1e-9
    )
    assert bench.streamer.tick(bench.arm.now()) is None


@needs_control_msgs
def test_stop_is_a_newer_goal_and_the_replaced_one_is_no_failure(bench):
    bench.start(goal(0.4))
    bench.until(lambda: len(bench.arm.goals) == 1)
    time.sleep(0.3)
    chunk = bench.streamer.stop(bench.arm.now())
    assert bench.output.send(chunk, lambda: chunk.due_ns)
    bench.until(bench.output.settled)
    assert bench.output.failure() is None
    assert len(bench.arm.goals) == 2
    there = bench.arm.controller.sample(bench.arm.now())
    assert HOME[0] < there.positions[0] < goal(0.4)[0] and not there.velocities.any()


@needs_control_msgs
@pytest.mark.parametrize(
    ('code', 'outcome'), [(-4, Outcome.TRACKING), (-5, Outcome.TRACKING), (-2, Outcome.REFUSED)]
)
def test_controllers_error_codes_are_told(bench, code, outcome):
    bench.hand.error_code = code
    bench.start(goal(0.05))
    bench.until(bench.output.settled)
    assert bench.output.failure() == (outcome, f'hand gave up (error {code}): strayed')


@needs_control_msgs
def test_rejected_goal_is_told(bench):
    bench.arm.accepting = False
    bench.start(goal(0.05))
    bench.until(bench.output.settled)
    assert bench.output.failure() == (Outcome.REFUSED, 'arm rejected the trajectory')


@pytest.mark.skipif(HAS_CONTROL_MSGS, reason='control_msgs is installed')
def test_without_control_msgs_the_error_says_what_to_install():
    with DomainLease() as lease:
        context = rclpy.Context()
        context.init(domain_id=lease.domain_id)
        node = Node('bench', context=context)
        try:
            with pytest.raises(TrajectoryConfigError, match='ros-jazzy-control-msgs'):
                FollowJointTrajectoryOutput(node, CONTROLLERS, {})
        finally:
            node.destroy_node()
            context.try_shutdown()
