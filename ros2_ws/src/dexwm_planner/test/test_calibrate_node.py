"""The nodes `calibrate` and `overlay`, with a robot that shows them a board it really holds."""

import threading
import time
from datetime import UTC, datetime

import cv2
import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image, JointState

from dexwm.calibration.charuco_board import CharucoBoard
from dexwm.calibration.collector import STILL_SECONDS
from dexwm.calibration.lens import Lens
from dexwm.geometry.camera import CameraIntrinsics
from dexwm.geometry.rotations import inverse_pose
from dexwm.robot.joints import HOME, JOINTS
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.camera_calibration import load_camera_calibration
from dexwm_franka_bringup.cell_config import load_cell_config
from dexwm_franka_bringup.description import robot_description
from dexwm_franka_bringup.image_conversion import array_to_image, image_to_array
from dexwm_planner.camera.calibrate_node import CalibrateNode
from dexwm_planner.camera.overlay_node import OverlayNode, keypoint_pixels
from dexwm_planner.graph.domain import DomainLease
from dexwm_planner.planner.plan_overlay import PREDICTED_COLOUR

TIMEOUT = 60.0
INTRINSICS = CameraIntrinsics(960, 540, 690.0, 686.0, 484.3, 266.8)
LENS = Lens('plumb_bob', (-0.08, 0.02, 0.0008, -0.0005, 0.0))
BOARD = CharucoBoard(square=0.04, marker=0.03)
PATTERN_PIXELS = 60


@pytest.fixture(scope='module')
def model():
    return RobotModel.from_urdf(robot_description(meshes=False))


@pytest.fixture(scope='module')
def T_base_from_camera():
    """Not where the configuration has it."""
    pose = load_cell_config().camera.T_base_from_camera.copy()
    pose[:3, :3] = pose[:3, :3] @ Rotation.from_euler('xyz', [0.05, -0.04, 0.1]).as_matrix()
    pose[:3, 3] += [0.03, -0.02, 0.01]
    return pose


def draw_board(T_camera_from_board):
    """The board through the lens: pinhole by homography, then the distortion of every pixel."""
    K = INTRINSICS.K
    pattern = cv2.copyMakeBorder(
        BOARD.picture(PATTERN_PIXELS), *(4 * [20]), cv2.BORDER_CONSTANT, value=255
    )
    metres = BOARD.square / PATTERN_PIXELS
    # Pixel centres of the pattern, whose corner is the board's origin, in metres.
    to_board = np.array(
        [[metres, 0, (0.5 - 20) * metres], [0, metres, (0.5 - 20) * metres], [0, 0, 1]]
    )
    homography = K @ T_camera_from_board[:3, [0, 1, 3]] @ to_board
    size = (INTRINSICS.width, INTRINSICS.height)
    straight = cv2.warpPerspective(
        pattern, homography, size, flags=cv2.INTER_AREA, borderValue=100
    )
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    at = LENS.undistorted(np.stack([columns.ravel(), rows.ravel()], -1), INTRINSICS)
    at = at.reshape(size[1], size[0], 2).astype(np.float32)
    drawn = cv2.remap(straight, at, None, cv2.INTER_LINEAR, borderValue=100)
    return np.repeat(drawn[..., None], 3, axis=-1)


class Robot(Node):
    """Publishes joints, and what the camera sees of the board in the hand."""

    def __init__(self, context):
        super().__init__('robot', context=context, use_global_arguments=False)
        self.positions = HOME.copy()
        self.image = np.full((INTRINSICS.height, INTRINSICS.width, 3), 100, np.uint8)
        self.publishers_ = [
            self.create_publisher(kind, topic, 5)
            for kind, topic in (
                (Image, '/camera/color/image_raw'),
                (CameraInfo, '/camera/color/camera_info'),
                (JointState, '/joint_states'),
            )
        ]
        self.create_timer(0.1, self.report)

    def report(self):
        image = array_to_image(self.image)
        image.header.stamp = self.get_clock().now().to_msg()
        info = CameraInfo(header=image.header, height=INTRINSICS.height, width=INTRINSICS.width)
        info.k, info.d = INTRINSICS.K.ravel(), list(LENS.coefficients)
        info.distortion_model = LENS.model
        state = JointState(name=list(JOINTS), position=self.positions.tolist())
        state.header = image.header
        for publisher, message in zip(self.publishers_, (image, info, state), strict=True):
            publisher.publish(message)


@pytest.fixture
def world():
    """A robot, and whatever node is under test, spinning."""
    with DomainLease() as lease:
        context = Context()
        rclpy.init(context=context, domain_id=lease.domain_id)
        robot = Robot(context)
        executor = MultiThreadedExecutor(num_threads=4, context=context)
        executor.add_node(robot)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        nodes = [robot]

        def start(kind, **parameters):
            node = kind(
                context=context,
                use_global_arguments=False,
                parameter_overrides=[Parameter(k, value=v) for k, v in parameters.items()],
            )
            nodes.append(node)
            executor.add_node(node)
            return node

        yield robot, start
        executor.shutdown()
        thread.join()
        for node in reversed(nodes):
            node.destroy_node()
        rclpy.shutdown(context=context)


def wait_until(condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, 'waited in vain'
        time.sleep(0.02)


def poses_with_board_in_view(model, T_base_from_camera, T_hand_from_board, n):
    rng = np.random.default_rng(0)
    poses, tries = [], 0
    while len(poses) < n:
        tries += 1
        assert tries < 20_000
        q = HOME.copy()
        q[:7] += rng.uniform(-0.6, 0.6, 7) * [0.5, 0.5, 0.5, 0.5, 1, 1, 1.5]
        board = (
            inverse_pose(T_base_from_camera) @ model.frame_pose(q, 'palm_link') @ T_hand_from_board
        )
        points = BOARD.corners @ board[:3, :3].T + board[:3, 3]
        pixels = INTRINSICS.project(points)
        inside = np.isfinite(pixels).all() and (pixels > 20).all()
        inside = inside and (pixels < (INTRINSICS.width - 20, INTRINSICS.height - 20)).all()
        # Its printed side towards the camera, and not seen from too low.
        towards = board[:3, 2] @ (board[:3, 3] / np.linalg.norm(board[:3, 3]))
        if inside and towards > 0.75:
            poses.append((q, board))
    return poses


def test_the_camera_is_found_from_what_comes_over_ros(world, model, T_base_from_camera, tmp_path):
    robot, start = world
    # Held so that at HOME its printed side faces the camera.
    facing = inverse_pose(model.frame_pose(HOME, 'palm_link')) @ T_base_from_camera
    T_hand_from_board = np.eye(4)
    T_hand_from_board[:3, :3] = facing[:3, :3]
    T_hand_from_board[:3, 3] = facing[:3, :3] @ [-0.14, -0.10, -0.08]
    poses = poses_with_board_in_view(model, T_base_from_camera, T_hand_from_board, 10)
    path = tmp_path / 'made' / 'camera.yaml'
    node = start(
        CalibrateNode,
        **{'views': 10, 'output': str(path), 'board.square': 0.04, 'board.marker': 0.03},
    )
    for i, (q, board) in enumerate(poses):
        robot.image, robot.positions = draw_board(board), q
        wait_until(lambda i=i: len(node._collector.views) > i or node.found is not None)
    wait_until(lambda: node.found is not None)
    calibration = load_camera_calibration(path)
    error = inverse_pose(T_base_from_camera) @ calibration.T_base_from_camera
    assert np.linalg.norm(error[:3, 3]) <= 2e-3
    assert np.degrees(Rotation.from_matrix(error[:3, :3]).magnitude()) <= 0.2
    assert calibration.stale(datetime.now(UTC)) == ''


def test_nothing_is_taken_without_a_board_or_while_moving(world, caplog):
    robot, start = world
    node = start(CalibrateNode)
    wait_until(lambda: 'no board is seen' in node._told)
    robot.image = draw_board(
        np.array([[1, 0, 0, -0.14], [0, 1, 0, -0.10], [0, 0, 1, 0.6], [0, 0, 0, 1.0]])
    )
    end = time.monotonic() + 2 * STILL_SECONDS
    robot.positions = HOME.copy()
    # Already at rest: this one pose is taken, and once only.
    wait_until(lambda: len(node._collector.views) == 1)
    while time.monotonic() < end:
        robot.positions = robot.positions + 0.004
        time.sleep(0.05)
    assert len(node._collector.views) == 1


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        ({'views': 3}, 'take at least 8'),
        ({'held_by': 'tool0'}, "no link 'tool0'"),
        ({'board.square': 30.0}, 'given in metres'),
        ({'cell_config': '/nowhere.yaml'}, 'cannot read'),
    ],
)
def test_parameters_that_cannot_work(world, parameters, message):
    _, start = world
    with pytest.raises(ValueError, match=message):
        start(CalibrateNode, **parameters)


def test_the_board_to_print(world, tmp_path):
    _, start = world
    path = tmp_path / 'board.png'
    assert start(CalibrateNode, print_board=str(path)).print_board()
    assert (
        len(
            CharucoBoard()
            .find(
                cv2.copyMakeBorder(
                    cv2.imread(str(path), 0), *(4 * [100]), cv2.BORDER_CONSTANT, value=255
                )
            )
            .ids
        )
        == 24
    )


def test_keypoints_are_drawn_where_the_hand_is(world, model):
    robot, start = world
    cell = load_cell_config()
    pictures = []
    start(OverlayNode)
    robot.create_subscription(Image, '/overlay/image', pictures.append, 1)
    wait_until(lambda: pictures)
    drawn = image_to_array(pictures[0])
    points = model.keypoints(robot.positions)
    chain = inverse_pose(cell.camera.T_base_from_camera)
    pixels = keypoint_pixels(points, chain, INTRINSICS, LENS)
    inside = pixels[((pixels > 2) & (pixels < (957, 537))).all(axis=1)]
    assert len(inside) > 10
    for column, row in np.rint(inside).astype(int):
        assert tuple(drawn[row, column]) == PREDICTED_COLOUR
    # The lens matters where the hand is, so that leaving it out would be seen.
    assert np.abs(pixels - INTRINSICS.project(points @ chain[:3, :3].T + chain[:3, 3])).max() > 1
