"""A planner node with a tiny model, and a robot that goes where it is sent at once."""

import threading
import time

import cv2
import numpy as np
import rclpy
import torch
from builtin_interfaces.msg import Time
from dexwm_msgs.action import ExecutePlan, PlanToGoal
from dexwm_msgs.msg import MotionState, Plan
from rclpy.action import ActionClient, ActionServer, CancelResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, JointState

from dexwm.model.checkpoint import save_checkpoint
from dexwm.model.encoders.registry import build_encoder
from dexwm.model.world_model import WorldModel, WorldModelConfig
from dexwm.robot.joints import HOME, JOINTS
from dexwm_franka_bringup.image_conversion import array_to_image
from dexwm_planner.planner.planner_node import PlannerNode

TIMEOUT = 60.0
SIZE = (112, 196)
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


def picture(seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (7, 12, 3), dtype=np.uint8)
    return cv2.resize(small, SIZE[::-1])


def save_tiny_checkpoint(folder):
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
    save_checkpoint(model, folder)
    return folder


class Robot(Node):
    """Camera, joint states, and a trajectory node whose motions are over at once."""

    def __init__(self, context, takes_motions):
        super().__init__('robot', context=context, use_global_arguments=False)
        self.camera_runs = self.joints_run = True
        self.joints_late = 0.0
        self.refusal = None
        self.positions = HOME.copy()
        self.motions = []
        self.sent = []
        self.endless = False
        self.called_off = []
        self.stale = {}
        self.distortion = []
        self.plans = []
        self.image = self.create_publisher(Image, '/camera/color/image_raw', 1)
        self.info = self.create_publisher(CameraInfo, '/camera/color/camera_info', 1)
        self.states = self.create_publisher(JointState, '/joint_states', 10)
        self.state = self.create_publisher(MotionState, '/trajectory/state', LATCHED)
        self.create_subscription(Plan, '/planner/plan', self.plans.append, LATCHED)
        group = ReentrantCallbackGroup()
        self.create_timer(0.05, self.report, callback_group=group)
        if takes_motions:
            self.server = ActionServer(
                self,
                ExecutePlan,
                '/trajectory/execute_plan',
                self.execute,
                cancel_callback=lambda _: CancelResponse.ACCEPT,
                callback_group=group,
            )

    def report(self):
        now = self.get_clock().now()
        if self.camera_runs:
            image = array_to_image(picture())
            image.header.stamp = now.to_msg()
            height, width = SIZE
            info = CameraInfo(header=image.header, height=height, width=width)
            info.k = [200.0, 0.0, width / 2, 0.0, 200.0, height / 2, 0.0, 0.0, 1.0]
            info.distortion_model, info.d = 'plumb_bob', self.distortion
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
        self.sent.append(plan)
        self.state.publish(MotionState(state=MotionState.RUN, moving=True))
        if self.endless:
            while not goal.is_cancel_requested:
                time.sleep(0.01)
            goal.canceled()
            self.called_off.append(plan.task)
            return ExecutePlan.Result(
                error_code=ExecutePlan.Result.STOPPED, error_string='cancelled', duration=1.0
            )
        if plan.task in self.stale:
            # It got so far when its joint states came too late.
            for waypoint in self.stale.pop(plan.task):
                goal.publish_feedback(ExecutePlan.Feedback(waypoint=waypoint))
            goal.abort()
            return ExecutePlan.Result(
                error_code=ExecutePlan.Result.STALE_STATE, error_string='late', duration=1.0
            )
        if self.refusal is not None:
            goal.abort()
            return ExecutePlan.Result(error_code=self.refusal, error_string='because')
        self.positions = np.array(plan.waypoints[-1].positions)
        goal.succeed()
        return ExecutePlan.Result()


class Scene:
    """A planner and a robot in a domain of their own."""

    def __init__(self, domain_id, folder, takes_motions=True, **parameters):
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain_id)
        self.robot = Robot(self.context, takes_motions)
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
        if goal is None and not {'goal_name', 'goal_keypoints'} & set(request):
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
