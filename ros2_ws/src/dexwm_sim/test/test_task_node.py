"""What the node `task` leaves, whatever pictures came."""

import json

import cv2
import numpy as np
import pytest
import rclpy
from sensor_msgs.msg import Image

from dexwm_sim.task_node import TaskNode


@pytest.fixture
def task(domain, tmp_path):
    rclpy.init(args=['--ros-args', '-p', f'output_dir:={tmp_path}'], domain_id=domain)
    task = TaskNode()
    yield task
    task.destroy_node()
    rclpy.shutdown()


def picture(encoding, channels):
    data = np.zeros((48, 64, channels), np.uint8)
    data[..., :3] = 200
    return Image(height=48, width=64, encoding=encoding, step=64 * channels, data=data.tobytes())


@pytest.mark.parametrize(
    ('encoding', 'channels'), [('rgb8', 3), ('bgr8', 3), ('rgba8', 4), ('bgra8', 4), ('mono8', 1)]
)
def test_pictures_that_the_planner_takes_are_recorded_and_shown(task, encoding, channels):
    for name in ('start', 'predicted'):
        task._pictures[name] = picture(encoding, channels)
    for second in (1, 2):
        message = picture(encoding, channels)
        message.header.stamp.sec = second
        task._on_image(message)
    task._finish()
    summary = json.loads((task.directory / 'summary.json').read_text())
    assert (summary['reason'], summary['video']) == ('', 'task.mp4')
    strip = cv2.imread(str(task.directory / 'strip.png'))
    assert strip.shape == (48, 2 * 64, 3) and (strip[-1] == 200).all()


def test_a_picture_that_cannot_be_shown_does_not_lose_the_summary(task):
    task._pictures |= {'start': picture('rgb8', 3), 'overlay': picture('yuv422', 2)}
    task._on_image(picture('yuv422', 2))
    task._finish()
    summary = json.loads((task.directory / 'summary.json').read_text())
    assert "the recording broke off: unknown encoding 'yuv422'" in summary['reason']
    assert cv2.imread(str(task.directory / 'strip.png')).shape == (48, 64, 3)
