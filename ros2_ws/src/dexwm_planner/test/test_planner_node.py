"""The node `planner` with a tiny model, and a robot that goes where it is sent at once."""

import os
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
import rclpy
import torch
from builtin_interfaces.msg import Time
from dexwm_msgs.action import ExecutePlan, PlanToGoal
from dexwm_msgs.msg import Plan
from dexwm_msgs.srv import CaptureGoal, ListGoals, SetGoal
from rclpy.action import ActionClient, ActionServer
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, JointState

from dexwm.model.checkpoint import save_checkpoint
from dexwm.model.encoders.registry import build_encoder
from dexwm.model.world_model import WorldModel, WorldModelConfig
from dexwm.robot.joints import HOME, JOINTS
from dexwm_planner.domain import DomainLease
from dexwm_planner.image_conversion import array_to_image, image_to_array
from dexwm_planner.planner_node import PlannerNode

TIMEOUT = 60.0
SIZE = (112, 196)
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
Result = PlanToGoal.Result


def picture(seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (7, 12, 3), dtype=np.uint8)
    return cv2.resize(small, SIZE[::-1])


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    encoder = build_encoder('efficientnet_lite0', {'image_size': [64, 96]})
    written = {
        'name': 'tiny',
        'predictor': {'dim': 8, 'depth': 1, 'heads': 2, 'context': 2, 'residual': True},
        'keypoint_head': {'dim': 8, 'depth': 0, 'heads': 2, 'stride': 8},
        'decoder': {'dim': 8, 'depth': 1, 'heads': 2, 'patch': 16},
        'action': {'absolute': True},
        'heatmap_loss': 'cross_entropy',
    }
    model = WorldModel(WorldModelConfig.for_encoder(written, encoder), encoder)
    for parameter in model.predictor.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    folder = tmp_path_factory.mktemp('model')
    save_checkpoint(model, folder)
    return folder


class Robot(Node):
    """Camera, joint states, and a trajectory node whose motions are over at once."""

    def __init__(self, context):
        super().__init__('robot', context=context, use_global_arguments=False)
        self.camera_runs = self.joints_run = True
        self.joints_late = 0.0
        self.refusal = None
        self.positions = HOME.copy()
        self.motions = []
        self.slow = threading.Event()
        self.plans = []
        self.image = self.create_publisher(Image, '/camera/color/image_raw', 1)
        self.info = self.create_publisher(CameraInfo, '/camera/color/camera_info', 1)
        self.states = self.create_publisher(JointState, '/joint_states', 10)
        self.create_subscription(Plan, '/planner/plan', self.plans.append, LATCHED)
        group = ReentrantCallbackGroup()
        self.create_timer(0.05, self.report, callback_group=group)
        self.server = ActionServer(
            self, ExecutePlan, '/trajectory/execute_plan', self.execute, callback_group=group
        )

    def report(self):
        now = self.get_clock().now()
        if self.camera_runs:
            image = array_to_image(picture())
            image.header.stamp = now.to_msg()
            height, width = SIZE
            info = CameraInfo(header=image.header, height=height, width=width)
            info.k = [200.0, 0.0, width / 2, 0.0, 200.0, height / 2, 0.0, 0.0, 1.0]
            self.info.publish(info)
            self.image.publish(image)
        if self.joints_run:
            state = JointState(name=list(JOINTS), position=self.positions.tolist())
            stamp = now.nanoseconds - round(self.joints_late * 1e9)
            state.header.stamp = Time(sec=stamp // 10**9, nanosec=stamp % 10**9)
            self.states.publish(state)

    def execute(self, goal):
        plan = goal.request.plan
        self.motions.append(plan.task)
        if self.refusal is not None:
            goal.abort()
            return ExecutePlan.Result(error_code=self.refusal, error_string='because')
        self.positions = np.array(plan.waypoints[-1].positions)
        goal.succeed()
        return ExecutePlan.Result()


class Scene:
    """A planner and a robot in a domain of their own."""

    def __init__(self, domain_id, folder, **parameters):
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain_id)
        self.robot = Robot(self.context)
        values = {'goals': str(folder / 'goals'), 'preset': 'cpu', 'threads': 1}
        # Far from the largest skew, so that a busy machine does not make the one the other.
        values |= {'joint_state_timeout': 1.0} | parameters
        self.planner = PlannerNode(
            context=self.context,
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
        )
        self.asker = Node('asker', context=self.context, use_global_arguments=False)
        self.client = ActionClient(self.asker, PlanToGoal, '/planner/plan_to_goal')
        self.executor = MultiThreadedExecutor(num_threads=8, context=self.context)
        for node in (self.robot, self.planner, self.asker):
            self.executor.add_node(node)
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.thread.start()
        self.feedback = []

    def wait_until(self, condition):
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, 'waited in vain'
            time.sleep(0.01)

    def wait_ready(self):
        self.wait_until(lambda: not self.planner._inputs.problem())

    def result_of(self, future):
        self.wait_until(future.done)
        return future.result()

    def send(self, task='reach', goal=None, **request):
        assert self.client.wait_for_server(TIMEOUT)
        if goal is None and 'goal_name' not in request:
            goal = picture(1)
        if goal is not None:
            request['goal_image'] = array_to_image(goal)
        goal = PlanToGoal.Goal(task=task, **request)
        return self.result_of(
            self.client.send_goal_async(goal, lambda m: self.feedback.append(m.feedback))
        )

    def ask(self, *arguments, **request):
        handle = self.send(*arguments, **request)
        return self.result_of(handle.get_result_async()).result

    def call(self, kind, service, /, **request):
        client = self.asker.create_client(kind, f'/planner/{service}')
        assert client.wait_for_service(TIMEOUT)
        return self.result_of(client.call_async(kind.Request(**request)))

    def close(self):
        self.planner.end()
        self.executor.shutdown()
        self.thread.join()
        self.planner.destroy_node()
        self.robot.destroy_node()
        self.asker.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def domain_id():
    with DomainLease() as lease:
        yield lease.domain_id


@pytest.fixture
def scene(domain_id, checkpoint, tmp_path):
    scene = Scene(domain_id, tmp_path, model=str(checkpoint))
    assert scene.planner.autostart()
    yield scene
    scene.close()


def test_a_goal_picture_becomes_a_plan_and_the_same_seed_the_same_plan(scene):
    scene.wait_ready()
    first = scene.ask(seed=3)
    assert (first.error_code, first.error_string) == (Result.SUCCESSFUL, '')
    plan = first.plan
    assert list(plan.joint_names) == list(JOINTS) and len(plan.waypoints) == 1
    assert len(plan.costs) == 10 and all(np.diff(plan.costs) <= 0)
    assert plan.seed == 3 and len(plan.goal_digest) == len(plan.checkpoint_digest) == 64
    scene.wait_until(lambda: len(scene.feedback) == 10)
    assert [f.iteration for f in scene.feedback] == list(range(10))
    assert scene.feedback[-1].best_cost == plan.costs[-1]
    scene.wait_until(lambda: scene.robot.plans)
    assert scene.robot.plans[0] == plan
    again, other = scene.ask(seed=3).plan, scene.ask(seed=4).plan
    assert again.waypoints == plan.waypoints and again.costs == plan.costs
    assert other.waypoints != plan.waypoints
    assert scene.robot.motions == []


def test_executed_plans_follow_one_another_from_where_the_robot_got(scene):
    scene.wait_ready()
    result = scene.ask(execute=True, preset='random')
    assert result.error_code == Result.SUCCESSFUL
    assert scene.robot.motions == [f'reach, plan {n} of 3' for n in (1, 2, 3)]
    np.testing.assert_allclose(scene.robot.positions, result.plan.waypoints[-1].positions)


def test_a_motion_that_is_refused_ends_the_task_and_says_why(scene):
    scene.wait_ready()
    scene.robot.refusal = ExecutePlan.Result.COLLISION
    result = scene.ask(execute=True, preset='random')
    assert result.error_code == Result.EXECUTION_FAILED
    assert 'code -3, because' in result.error_string
    assert len(scene.robot.motions) == 1


def test_without_fresh_inputs_nothing_is_planned(scene):
    scene.robot.camera_runs = scene.robot.joints_run = False
    time.sleep(1.2)
    result = scene.ask()
    assert result.error_code == Result.STALE_IMAGE and 'camera running' in result.error_string
    scene.robot.camera_runs = True
    scene.wait_until(lambda: 'picture' not in scene.planner._inputs.problem())
    result = scene.ask()
    assert result.error_code == Result.STALE_STATE and 'joint state' in result.error_string
    scene.robot.joints_run, scene.robot.joints_late = True, 0.6
    scene.wait_until(lambda: 'nearest to the picture' in scene.planner._inputs.problem())
    result = scene.ask()
    assert result.error_code == Result.STALE_STATE and 'synchronise' in result.error_string
    scene.robot.joints_late = 0.0
    scene.wait_ready()
    assert scene.ask(preset='random').error_code == Result.SUCCESSFUL


def test_a_camera_that_stops_while_the_task_runs_ends_it(scene):
    scene.wait_ready()
    handle = scene.send(execute=True)
    scene.wait_until(lambda: scene.feedback)
    scene.robot.camera_runs = False
    result = scene.result_of(handle.get_result_async()).result
    assert result.error_code == Result.STALE_IMAGE
    assert len(scene.robot.motions) <= 1


def test_one_goal_at_a_time_and_cancel_ends_it_within_an_iteration(scene):
    scene.wait_ready()
    handle = scene.send(preset='paper-sim')
    scene.wait_until(lambda: scene.feedback)
    second = scene.ask()
    assert second.error_code == Result.BUSY and 'another goal' in second.error_string
    scene.result_of(handle.cancel_goal_async())
    before = len(scene.feedback)
    result = scene.result_of(handle.get_result_async()).result
    assert result.error_code == Result.CANCELLED
    assert len(scene.feedback) <= before + 2 < 10
    assert scene.robot.motions == []
    assert scene.ask(preset='random').error_code == Result.SUCCESSFUL


@pytest.mark.parametrize(
    ('request_fields', 'message'),
    [
        ({'task': 'juggle'}, "unknown task 'juggle'"),
        ({'preset': 'quick'}, "no preset 'quick'"),
        ({'goal_name': 'nothing'}, "no goal 'nothing'"),
        ({'goal': np.zeros((*SIZE, 3), np.uint8)}, 'shows nothing'),
        ({'goal': picture()[:, :80].copy()}, 'picture'),
        ({'goal_name': ''}, 'neither a name nor a picture'),
    ],
)
def test_goals_that_cannot_be_are_refused(request_fields, message, scene):
    scene.wait_ready()
    result = scene.ask(**request_fields)
    assert result.error_code == Result.INVALID_GOAL and message in result.error_string
    assert scene.robot.plans == []


def test_an_inactive_planner_says_so(domain_id, checkpoint, tmp_path):
    scene = Scene(domain_id, tmp_path, model=str(checkpoint), autostart=False)
    try:
        assert scene.planner.autostart()
        assert scene.ask().error_code == Result.NOT_ACTIVE
        assert not scene.call(CaptureGoal, 'capture_goal', name='a').success
        assert scene.planner.trigger_configure() is TransitionCallbackReturn.SUCCESS
        assert scene.planner.trigger_activate() is TransitionCallbackReturn.SUCCESS
        scene.wait_ready()
        assert scene.ask(preset='random').error_code == Result.SUCCESSFUL
        assert scene.planner.trigger_deactivate() is TransitionCallbackReturn.SUCCESS
        assert scene.ask().error_code == Result.NOT_ACTIVE
    finally:
        scene.close()


def test_the_goal_library_over_services(scene, tmp_path):
    scene.wait_ready()
    path = tmp_path / 'goal.png'
    cv2.imwrite(str(path), cv2.cvtColor(picture(5), cv2.COLOR_RGB2BGR))
    stored = scene.call(SetGoal, 'set_goal', name='file', path=str(path))
    assert stored.success and stored.goal.name == 'file' and len(stored.goal.digest) == 64
    captured = scene.call(CaptureGoal, 'capture_goal', name='seen')
    assert captured.success
    assert [goal.name for goal in scene.call(ListGoals, 'list_goals').goals] == ['seen', 'file']
    # The thumbnail has the model's aspect ratio.
    thumbnail = image_to_array(captured.goal.thumbnail)
    assert thumbnail.shape == (128, 192, 3)
    missing = scene.call(SetGoal, 'set_goal', name='a', path=str(tmp_path / 'nothing.png'))
    assert not missing.success and 'no goal picture' in missing.message
    wrong = scene.call(SetGoal, 'set_goal', name='../a', path=str(path))
    assert not wrong.success and 'not a possible name' in wrong.message
    result = scene.ask(goal_name='file', preset='random')
    assert result.error_code == Result.SUCCESSFUL and result.plan.goal_name == 'file'
    assert result.plan.goal_digest == stored.goal.digest


@pytest.mark.parametrize('model', ['', '/nowhere'])
def test_without_a_model_the_node_ends_and_says_why(model, domain_id, tmp_path):
    ended = subprocess.run(
        [
            sys.executable, '-m', 'dexwm_planner.planner_node',
            '--ros-args', '-p', f'model:="{model}"', '-p', f'goals:={tmp_path}',
        ],
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain_id)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT * 2,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert 'not configured' in ended.stderr
