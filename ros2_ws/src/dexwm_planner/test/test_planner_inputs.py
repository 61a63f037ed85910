"""What a planner is told of its inputs, with ROS time that can stand still and a lens."""

import re
import threading
import time

import cv2
import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState

from dexwm.calibration.lens import Lens
from dexwm.geometry.camera import CameraIntrinsics
from dexwm.robot.joints import HOME, JOINTS
from dexwm_franka_bringup.image_conversion import array_to_image
from dexwm_planner.graph.domain import DomainLease
from dexwm_planner.planner import planner_inputs
from dexwm_planner.planner.planner_inputs import PlannerInputs, StaleInputError

TIMEOUT = 60.0
INTRINSICS = CameraIntrinsics(160, 120, 110.0, 108.0, 79.5, 59.5)
LENS = Lens('plumb_bob', (-0.3, 0.08, 0.001, -0.001, 0.0))


def stripes():
    """What a camera without distortion would see: bent lines would be off by many grey levels."""
    columns, rows = np.meshgrid(np.arange(INTRINSICS.width), np.arange(INTRINSICS.height))
    wave = 127 + 60 * np.sin(columns / 6) + 60 * np.sin(rows / 6)
    return np.repeat(wave[..., None], 3, axis=-1).astype(np.uint8)


def through(lens, image):
    """The same picture as it comes through a lens."""
    columns, rows = np.meshgrid(np.arange(INTRINSICS.width), np.arange(INTRINSICS.height))
    at = lens.undistorted(np.stack([columns.ravel(), rows.ravel()], -1), INTRINSICS)
    at = at.reshape(*image.shape[:2], 2).astype(np.float32)
    return cv2.remap(image, at, None, cv2.INTER_LINEAR)


class World:
    """The clock, a camera and joint states, published as a test says."""

    def __init__(self, domain_id):
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain_id)
        self.robot = Node('robot', context=self.context, use_global_arguments=False)
        self.node = Node(
            'planner',
            context=self.context,
            use_global_arguments=False,
            parameter_overrides=[Parameter('use_sim_time', value=True)],
        )
        self.now_ns = 100 * 10**9
        self.lag = 0.0
        self.image = stripes()
        self.lens_model, self.coefficients = 'plumb_bob', [0.0] * 5
        self.names = list(JOINTS)
        self.out = {
            kind: self.robot.create_publisher(kind, topic, 10)
            for kind, topic in (
                (Clock, '/clock'),
                (Image, '/camera/color/image_raw'),
                (CameraInfo, '/camera/color/camera_info'),
                (JointState, '/joint_states'),
            )
        }
        self.inputs = None
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin)
        self.thread.start()

    def listen(self, **how):
        settings = {'image_timeout': 1.0, 'joint_state_timeout': 1.0, 'max_skew': 0.2}
        self.inputs = PlannerInputs(self.node, **settings | how)

    def look_through(self, lens):
        self.image = through(lens, self.image)
        self.lens_model, self.coefficients = lens.model, list(lens.coefficients)

    def tick(self, seconds=0.05):
        self.now_ns += round(seconds * 1e9)
        stamp = Time(sec=self.now_ns // 10**9, nanosec=self.now_ns % 10**9)
        shot_ns = self.now_ns - round(self.lag * 1e9)
        image = array_to_image(self.image)
        info = CameraInfo(height=INTRINSICS.height, width=INTRINSICS.width)
        info.k = INTRINSICS.K.ravel()
        info.distortion_model, info.d = self.lens_model, self.coefficients
        state = JointState(name=self.names, position=HOME.tolist())
        image.header.stamp = Time(sec=shot_ns // 10**9, nanosec=shot_ns % 10**9)
        info.header.stamp = state.header.stamp = stamp
        for message in (Clock(clock=stamp), info, state, image):
            self.out[type(message)].publish(message)

    def tick_until(self, condition):
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, f'waited in vain: {self.inputs.problem()}'
            self.tick()
            time.sleep(0.02)

    def close(self):
        self.executor.shutdown()
        self.thread.join()
        if self.inputs is not None:
            self.inputs.close()
        self.node.destroy_node()
        self.robot.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def world():
    with DomainLease() as lease:
        world = World(lease.domain_id)
        yield world
        world.close()


def wait_in_thread(world, should_stop):
    """The reason with which waiting for a picture ends."""
    reasons = []

    def wait():
        try:
            world.inputs.wait(world.now_ns + 1, should_stop)
        except StaleInputError as error:
            reasons.append(str(error))

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    assert not thread.is_alive(), 'it waits for ever'
    return reasons[0]


def test_a_picture_of_another_clock_is_told_from_a_camera_that_stopped(world):
    world.listen()
    world.tick_until(lambda: not world.inputs.problem())
    world.lag = 50.0
    world.tick_until(lambda: 'use_sim_time' in world.inputs.problem())
    assert re.search(r'was (49|50)\.\d+ s old when it came', world.inputs.problem())


def test_waiting_ends_when_the_clock_stands_still(world):
    world.listen()
    world.tick_until(lambda: not world.inputs.problem())
    assert 'no newer one comes' in wait_in_thread(world, lambda: False)


def test_waiting_ends_when_it_is_told_to(world):
    world.listen(image_timeout=3000.0)
    world.tick_until(lambda: not world.inputs.problem())
    asked = iter([False, False])
    assert 'no newer one comes' in wait_in_thread(world, lambda: next(asked, True))


def test_nothing_is_fresh_while_the_clock_stands_still(world, monkeypatch):
    monkeypatch.setattr(planner_inputs, '_STANDSTILL', 1.0)
    world.listen()
    world.tick_until(lambda: not world.inputs.problem())
    world.inputs.problem()
    time.sleep(1.5)
    assert 'ROS time has stood still' in world.inputs.problem()
    world.tick_until(lambda: not world.inputs.problem())


def test_a_malformed_joint_state_is_told_until_good_ones_come(world):
    world.listen()
    world.names = list(JOINTS[:-1])
    world.tick_until(lambda: 'a malformed joint state came: 22' in world.inputs.problem())
    world.names = list(JOINTS)
    world.tick_until(lambda: not world.inputs.problem())
    # A fault of another kind is not taken for the old one.
    deadline = time.monotonic() + TIMEOUT
    while 'the joint state of' not in (problem := world.inputs.problem()):
        assert time.monotonic() < deadline, problem
        world.now_ns += 2 * 10**9
        stamp = Time(sec=world.now_ns // 10**9, nanosec=world.now_ns % 10**9)
        image = array_to_image(world.image)
        image.header.stamp = stamp
        world.out[Clock].publish(Clock(clock=stamp))
        world.out[Image].publish(image)
        time.sleep(0.05)
    assert 'malformed' not in problem


@pytest.mark.parametrize('lens', [LENS, Lens('equidistant', (0.02, -0.01, 0.0, 0.0))])
def test_a_planner_sees_straight_lines_through_any_lens(world, lens):
    straight = world.image
    world.look_through(lens)
    inner = np.s_[20:-20, 20:-20]
    assert np.abs(world.image[inner].astype(int) - straight[inner]).mean() > 5
    world.listen(undistort=True)
    world.tick_until(lambda: not world.inputs.problem())
    seen = world.inputs.newest()
    assert np.abs(seen.image[inner].astype(int) - straight[inner]).mean() < 2
    assert seen.intrinsics == INTRINSICS


def test_pictures_come_as_they_are_to_who_takes_out_distortion_itself(world):
    world.look_through(LENS)
    world.listen()
    world.tick_until(lambda: not world.inputs.problem())
    np.testing.assert_array_equal(world.inputs.newest().image, world.image)


def test_a_lens_that_is_not_known_is_refused(world):
    world.listen(undistort=True)
    world.lens_model = 'thin_prism'
    world.tick_until(lambda: "unknown distortion model 'thin_prism'" in world.inputs.problem())
