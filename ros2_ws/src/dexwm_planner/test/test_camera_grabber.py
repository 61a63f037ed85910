"""The grabber's thread: delivers, counts, opens again, and never hides an error."""

import threading
import time

import cv2
import numpy as np
import pytest

from dexwm_planner.camera.camera_grabber import CameraGrabber
from dexwm_planner.camera.sources.device import DeviceSettings, DeviceSource
from dexwm_planner.camera.sources.source import (
    CameraSourceError,
    Frame,
    MalformedFrameError,
)

pytestmark = pytest.mark.realtime

IMAGE = np.full((4, 6, 3), 7, np.uint8)


class ScriptedSource:
    """Plays a list: what is an exception is raised, all else is a frame; then it blocks."""

    def __init__(self, reads, opens=()):
        self._reads = iter(reads)
        self._opens = iter(opens)
        self.unblock = threading.Event()
        self.closed = 0

    def open(self):
        error = next(self._opens, None)
        if error is not None:
            raise error

    def read(self):
        try:
            item = next(self._reads)
        except StopIteration:
            self.unblock.wait(60)
            raise CameraSourceError('unblocked') from None
        if isinstance(item, Exception):
            raise item
        return Frame(IMAGE, item, None)

    def close(self):
        self.closed += 1


class Run:
    """A grabber over a scripted source, started."""

    def __init__(self, reads, opens=(), deliver=None):
        self.stamps, self.problems, self.recoveries = [], [], []
        self.source = ScriptedSource(reads, opens)
        self.grabber = CameraGrabber(
            self.source,
            deliver or (lambda frame: self.stamps.append(frame.stamp_ns)),
            self.problems.append,
            self.recoveries.append,
            retry_period=0.01,
        )
        self.grabber.start()

    def until(self, condition):
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, self.grabber.status()
            time.sleep(0.005)

    def end(self):
        self.source.unblock.set()
        assert self.grabber.stop(60)


def test_frames_arrive_in_order_and_are_counted():
    now = time.time_ns()
    run = Run([now, now + 1, now + 2])
    run.until(lambda: len(run.stamps) == 3)
    run.until(lambda: run.grabber.status().frames == 3)
    status = run.grabber.status()
    assert run.stamps == [now, now + 1, now + 2]
    assert status.problem is None and status.failures == status.malformed == 0
    assert 0 <= status.age < 60
    run.end()
    assert run.source.closed >= 1


def test_a_source_that_fails_is_opened_again():
    run = Run(
        [1, CameraSourceError('unplugged'), 2],
        opens=[CameraSourceError('not there'), CameraSourceError('not there'), None, None],
    )
    run.until(lambda: run.stamps == [1, 2] and run.grabber.status().problem is None)
    status = run.grabber.status()
    assert (status.frames, status.failures) == (2, 3)
    assert run.problems == ['not there', 'unplugged']  # A problem that stays is told once.
    assert len(run.recoveries) == 2
    run.end()


def test_malformed_frames_are_counted_and_do_not_close_the_source():
    run = Run([1, MalformedFrameError('empty'), MalformedFrameError('torn'), 2])
    run.until(lambda: run.stamps == [1, 2])
    status = run.grabber.status()
    assert (status.malformed, status.last_malformed, status.failures) == (2, 'torn', 0)
    assert run.source.closed == 0
    run.end()


def test_a_source_that_blocks_blocks_nobody_else():
    run = Run([1])
    run.until(lambda: run.stamps == [1])
    assert run.grabber.status().frames <= 1  # Answers although the source hangs.
    assert run.grabber.stop(0.05) is False  # And stopping does not wait for it.
    run.end()


def test_an_error_that_is_no_failure_of_the_source_comes_out():
    def deliver(frame):
        raise ZeroDivisionError('a bug')

    run = Run([1], deliver=deliver)
    with pytest.raises(ZeroDivisionError, match='a bug'):
        run.until(lambda: run.grabber.status() is None)
    run.end()
    assert run.source.closed == 1


def test_before_the_first_frame_there_is_a_problem_and_no_age():
    run = Run([])
    status = run.grabber.status()
    assert status.problem == 'no frame yet' and status.age is None and status.rate == 0
    run.end()


def test_a_device_that_is_unplugged_and_plugged_in_again(tmp_path):
    # A video file, opened by the device's own code, stands in for /dev/video0.
    video, device = tmp_path / 'video.avi', tmp_path / 'video0'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*'MJPG'), 30.0, (64, 48))
    for _ in range(5):
        writer.write(np.full((48, 64, 3), 99, np.uint8))
    writer.release()
    device.symlink_to(video)
    source = DeviceSource(
        DeviceSettings(str(device), 64, 48, rate=30.0, mjpg=False),
        1e6,
        None,
        lambda settings: cv2.VideoCapture(str(settings.file)),
    )
    frames, problems, recoveries = [], [], []

    def deliver(frame):
        frames.append(frame)
        if len(frames) == 5:
            device.unlink()

    grabber = CameraGrabber(source, deliver, problems.append, recoveries.append, 0.01)
    grabber.start()
    deadline = time.monotonic() + 60
    while len(problems) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(frames) == 5 and not recoveries
    assert 'stopped: was it unplugged?' in problems[0]
    assert f'there is no device {device}' in problems[1]
    assert f'there is no device {device}' in grabber.status().problem
    device.symlink_to(video)
    while not recoveries and time.monotonic() < deadline:
        time.sleep(0.005)
    assert grabber.stop(60)
    assert recoveries and len(frames) > 5
