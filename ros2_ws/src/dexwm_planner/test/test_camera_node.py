"""The camera node over real topics: pictures, CameraInfo, diagnostics, refusals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image

from dexwm.geometry.camera import CameraIntrinsics
from dexwm_franka_bringup.image_conversion import image_to_array
from dexwm_planner.camera.camera_grabber import GrabberStatus
from dexwm_planner.camera.camera_node import CameraNode, judge
from dexwm_planner.camera.sources.source import CameraConfigError
from dexwm_planner.graph.domain import DomainLease

pytestmark = pytest.mark.realtime

CONFIG = Path(__file__).parents[1] / 'config' / 'camera.yaml'


class Graph:
    """Camera nodes and a listener in a ROS domain of their own."""

    def __init__(self, domain_id, args=()):
        self.context = Context()
        rclpy.init(args=list(args), context=self.context, domain_id=domain_id)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.listener = Node('listener', context=self.context, use_global_arguments=False)
        self.nodes = [self.listener]
        self.images, self.infos, self.statuses = [], [], []
        qos = qos_profile_sensor_data
        subscribe = self.listener.create_subscription
        subscribe(Image, '/camera/color/image_raw', self.images.append, qos)
        subscribe(CameraInfo, '/camera/color/camera_info', self.infos.append, qos)
        subscribe(
            DiagnosticArray, '/diagnostics', lambda msg: self.statuses.extend(msg.status), 10
        )
        self.executor.add_node(self.listener)

    def camera(self, **parameters):
        overrides = [
            Parameter(name.replace('__', '.'), value=value) for name, value in parameters.items()
        ]
        node = CameraNode(context=self.context, parameter_overrides=overrides)
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def spin_until(self, condition):
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, 'waited in vain'
            self.executor.spin_once(timeout_sec=0.1)

    def close(self):
        for node in self.nodes:
            node.destroy_node()
        self.executor.shutdown()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def domain_id():
    with DomainLease() as lease:
        yield lease.domain_id


@pytest.fixture
def graph(domain_id):
    graph = Graph(domain_id)
    yield graph
    graph.close()


@pytest.fixture
def picture(tmp_path):
    """A 640x400 picture, red left and blue right, and its path."""
    rgb = np.zeros((400, 640, 3), np.uint8)
    rgb[:, :320, 0] = 250
    rgb[:, 320:, 2] = 250
    path = tmp_path / 'goal.png'
    cv2.imwrite(str(path), rgb[..., ::-1])
    return path


@pytest.fixture
def calibration(tmp_path):
    """A calibration for 640x400, as ROS's camera_calibration writes it, and its path."""
    path = tmp_path / 'ost.yaml'
    content = {
        'image_width': 640,
        'image_height': 400,
        'camera_name': 'head',
        'distortion_model': 'plumb_bob',
    }
    matrices = {
        'camera_matrix': (3, 3, [400.0, 0, 322.0, 0, 401.0, 198.0, 0, 0, 1]),
        'distortion_coefficients': (1, 5, [0.01, -0.02, 0.001, 0.002, 0.0]),
        'rectification_matrix': (3, 3, [1, 0, 0, 0, 1, 0, 0, 0, 1]),
        'projection_matrix': (3, 4, [398.0, 0, 321.0, 0, 0, 399.0, 197.0, 0, 0, 0, 1, 0]),
    }
    for name, (rows, cols, data) in matrices.items():
        content[name] = {'rows': rows, 'cols': cols, 'data': data}
    path.write_text(yaml.safe_dump(content))
    return path


def test_pictures_and_their_camera_info_belong_together(graph, picture, calibration):
    before = time.time_ns()
    graph.camera(
        source='file', file__path=str(picture), camera_info_url=f'file://{calibration}', rate=30.0
    )
    graph.spin_until(lambda: len(graph.images) >= 4 and len(graph.infos) >= 4)
    infos = {(info.header.stamp.sec, info.header.stamp.nanosec): info for info in graph.infos}
    stamps = [(image.header.stamp.sec, image.header.stamp.nanosec) for image in graph.images]
    assert stamps == sorted(stamps)
    assert before <= stamps[0][0] * 10**9 + stamps[0][1] <= time.time_ns()
    pairs = [
        (image, infos[stamp])
        for image, stamp in zip(graph.images, stamps, strict=True)
        if stamp in infos
    ]
    assert len(pairs) >= 3
    for image, info in pairs:
        assert image.header.frame_id == info.header.frame_id == 'head_camera_optical_frame'
        assert (image.width, image.height) == (info.width, info.height) == (392, 224)
        array = image_to_array(image)
        assert array[:, :190, 0].min() > 200 and array[:, 202:, 2].min() > 200
    # 640x400 to 392x245, then 10 rows from above go and 11 from below.
    expected = CameraIntrinsics(640, 400, 400, 401, 322, 198).resized(392, 245)
    info = pairs[0][1]
    np.testing.assert_allclose(
        np.reshape(info.k, (3, 3)), expected.cropped(0, 10, 392, 224).K, atol=1e-9
    )
    rectified = CameraIntrinsics(640, 400, 398, 399, 321, 197).resized(392, 245)
    np.testing.assert_allclose(
        np.reshape(info.p, (3, 4))[:, :3], rectified.cropped(0, 10, 392, 224).K, atol=1e-9
    )
    assert info.distortion_model == 'plumb_bob'
    assert list(info.d) == [0.01, -0.02, 0.001, 0.002, 0.0]
    graph.spin_until(lambda: any(s.level == DiagnosticStatus.OK for s in graph.statuses))


def test_uncalibrated_full_size_pictures_say_so(graph, picture):
    graph.camera(source='file', file__path=str(picture), width=0, height=0)
    graph.spin_until(lambda: graph.images and graph.infos and graph.statuses)
    assert (graph.images[0].width, graph.images[0].height) == (640, 400)
    assert (graph.infos[0].width, graph.infos[0].height) == (640, 400)
    assert not np.any(graph.infos[0].k)
    graph.spin_until(lambda: 'not calibrated' in graph.statuses[-1].message)
    assert graph.statuses[-1].level == DiagnosticStatus.WARN


def test_quality_of_service_is_configurable(graph, picture):
    graph.camera(
        source='file', file__path=str(picture), qos__reliability='best_effort', qos__depth=3
    )
    found = []

    def publishers():
        found[:] = graph.listener.get_publishers_info_by_topic('/camera/color/image_raw')
        return found

    graph.spin_until(publishers)
    (publisher,) = found
    assert publisher.qos_profile.reliability == QoSReliabilityPolicy.BEST_EFFORT


def test_the_example_configuration_works_and_an_absent_device_is_reported(domain_id):
    if Path('/dev/video0').exists():
        pytest.skip('there is a camera here')
    graph = Graph(domain_id, ['--ros-args', '--params-file', str(CONFIG)])
    try:
        graph.camera()
        graph.spin_until(lambda: len(graph.statuses) >= 2)
    finally:
        graph.close()
    status = graph.statuses[-1]
    assert status.level == DiagnosticStatus.ERROR
    assert 'there is no device /dev/video0' in status.message
    assert status.hardware_id == 'device'
    values = {value.key: value.value for value in status.values}
    assert values['frames'] == '0' and values['age of last frame (s)'] == 'none'
    assert int(values['failures']) >= 1


@pytest.mark.parametrize(
    ('parameters', 'reason'),
    [
        ({}, 'parameter source is not set .*sim, device, file'),
        ({'source': 'webcam'}, "unknown source 'webcam': it is one of sim, device, file"),
        ({'source': 'file'}, 'parameter file.path is not set'),
        ({'source': 'file', 'file__path': '/absent.mp4'}, 'there is no file /absent.mp4'),
        ({'source': 'device'}, 'parameter device.path is not set'),
        ({'source': 'sim', 'camera_info_url': '/a.yaml'}, 'does not go with source sim'),
        ({'source': 'sim', 'sim__cell_config': '/a.yaml'}, 'cannot read .* /a.yaml'),
        ({'source': 'sim', 'width': 0}, 'either both are 0 or none'),
        ({'source': 'sim', 'qos__reliability': 'some'}, "not 'some'"),
        (
            {'source': 'device', 'device__path': '0', 'camera_info_url': '/absent.yaml'},
            'cannot read the calibration /absent.yaml',
        ),
        (
            {'source': 'device', 'device__path': '0', 'camera_info_url': 'package://absent/a'},
            'there is no package absent',
        ),
        (
            {'source': 'device', 'device__path': '0', 'camera_info_url': 'http://host/a.yaml'},
            'give a path',
        ),
    ],
)
def test_parameters_that_cannot_work_are_refused_with_the_reason(graph, parameters, reason):
    with pytest.raises(CameraConfigError, match=reason):
        graph.camera(**parameters)


def status_of(**changes):
    good = {
        'frames': 100,
        'malformed': 0,
        'failures': 0,
        'rate': 10.0,
        'age': 0.05,
        'problem': None,
        'last_malformed': None,
    }
    return GrabberStatus(**(good | changes))


@pytest.mark.parametrize(
    ('changes', 'calibrated', 'level', 'words'),
    [
        ({}, True, DiagnosticStatus.OK, '10.0 Hz'),
        ({'problem': 'unplugged'}, True, DiagnosticStatus.ERROR, 'unplugged'),
        ({'age': 2.5}, True, DiagnosticStatus.ERROR, 'no frame for 2.5 s'),
        (
            {'age': 2.5, 'malformed': 9, 'last_malformed': 'torn'},
            True,
            DiagnosticStatus.ERROR,
            'torn',
        ),
        ({'malformed': 5, 'last_malformed': 'torn'}, True, DiagnosticStatus.WARN, '2 malformed'),
        ({}, False, DiagnosticStatus.WARN, 'not calibrated'),
        ({'rate': 5.0}, True, DiagnosticStatus.WARN, '5.0 Hz, 10 Hz were asked for'),
    ],
)
def test_diagnostics_say_what_is_wrong(changes, calibrated, level, words):
    found, message = judge(status_of(**changes), 10.0, calibrated, malformed_before=3)
    assert found == level
    assert words in message


def start_executable(domain_id, *parameters):
    arguments = ['--ros-args']
    for parameter in parameters:
        arguments += ['-p', parameter]
    return subprocess.Popen(
        [sys.executable, '-m', 'dexwm_planner.camera.camera_node', *arguments],
        env=os.environ | {'ROS_DOMAIN_ID': str(domain_id)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_executable_publishes_and_ends_on_sigterm(graph, domain_id, picture):
    process = start_executable(domain_id, 'source:=file', f'file.path:={picture}')
    try:
        graph.spin_until(lambda: graph.images and graph.infos)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert 'Traceback' not in output


@pytest.mark.parametrize(
    ('parameters', 'reason'),
    [
        (['source:=file', 'file.path:=/absent.png'], 'there is no file /absent.png'),
        (['source:=file', 'rate:=500.0'], 'rate out of range Min: 0.1, Max: 120.0'),
        (['source:=file', 'rate:=ten'], "'rate' to 'ten' of type 'STRING'"),
    ],
)
def test_executable_ends_with_the_reason(domain_id, parameters, reason):
    process = start_executable(domain_id, *parameters)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert reason in output
    assert 'Traceback' not in output
