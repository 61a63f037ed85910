"""What nodes have in common that a run is about: they listen, wait, record and end the run."""

from __future__ import annotations

import signal
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import rclpy
from dexwm_msgs.msg import CellState
from numpy.typing import NDArray
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.action.client import ClientGoalHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy, qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from rclpy.time import Time
from sensor_msgs.msg import Image, JointState

from dexwm_franka_bringup.image_conversion import ImageMessageError, image_to_array
from dexwm_sim.frame_recorder import FrameRecorder, FrameRecorderError

IMAGE_TOPIC = '/camera/color/image_raw'
SUMMARY = 'summary.json'

_POLL = 0.05
_CANCEL_TIMEOUT = 2.0

T = TypeVar('T')


class RunError(RuntimeError):
    """Why a run could not be tried or finished."""


@dataclass
class Observed:
    """What has come in so far; under the node's lock."""

    positions: dict[str, float]
    cell: CellState | None = None
    picture: Image | None = None
    frames: int = 0
    first_frame_ns: int = 0
    last_frame_ns: int = 0
    real_time_factor: float = float('inf')

    @property
    def frame_rate(self) -> float:
        """Of the pictures so far (Hz)."""
        elapsed = (self.last_frame_ns - self.first_frame_ns) * 1e-9
        return (self.frames - 1) / elapsed if elapsed > 0 else 0.0


class RunNode(Node):
    """Listens and records; ``run`` is for a thread that does not spin.

    Attributes:
        directory: Where the run leaves its files.
        recording_problem: Why the video is not whole; empty if it is.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.directory = Path(self._declare('output_dir', '.', 'Where video and summary go.'))
        record = self._declare('record', True, 'Whether to record the pictures.')
        self._wait_timeout = self._seconds('wait_timeout', 60.0, 'Longest wait for an input.')
        self._lock = threading.Lock()
        self._observed = Observed({})
        self._recorder = FrameRecorder(self.directory / f'{name}.mp4') if record else None
        self._video = f'{name}.mp4'
        self.recording_problem = ''
        self._stop = threading.Event()
        self._stop_reason = ''
        self.create_subscription(
            JointState, '/joint_states', self._on_joint_state, qos_profile_sensor_data
        )
        self.create_subscription(CellState, '/cell/state', self._on_cell_state, 10)
        # Deep, for the recording shall miss none; best effort, for cameras may offer no more.
        image_qos = QoSProfile(depth=60, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(Image, IMAGE_TOPIC, self._on_image, image_qos)

    @abstractmethod
    def run(self) -> bool:
        """Does what the run is about; whether it succeeded."""

    def stop(self, reason: str) -> None:
        """Ends ``run`` early."""
        self._stop_reason = self._stop_reason or reason
        self._stop.set()

    def _declare(self, name: str, default: T, description: str, **ranges: Any) -> T:
        descriptor = ParameterDescriptor(description=description, read_only=True, **ranges)
        return self.declare_parameter(name, default, descriptor).value

    def _seconds(self, name: str, default: float, description: str) -> float:
        span = FloatingPointRange(from_value=0.1, to_value=3600.0)
        return self._declare(name, default, f'{description} (s)', floating_point_range=[span])

    # Inputs

    def _on_joint_state(self, message: JointState) -> None:
        # The arm's and the hand's states may come in messages of their own.
        with self._lock:
            self._observed.positions.update(zip(message.name, message.position, strict=False))

    def _on_cell_state(self, message: CellState) -> None:
        with self._lock:
            self._observed.cell = message
            self._judge(message)

    def _judge(self, message: CellState) -> None:
        """Looks at the cell's true state, under the lock."""

    def _note_pace(self, message: CellState) -> None:
        """Keeps the slowest pace of the simulation."""
        observed = self._observed
        if message.real_time_factor > 0:
            observed.real_time_factor = min(observed.real_time_factor, message.real_time_factor)

    def _on_image(self, message: Image) -> None:
        stamp_ns = Time.from_msg(message.header.stamp).nanoseconds
        with self._lock:
            observed = self._observed
            observed.picture = message
            observed.first_frame_ns = observed.first_frame_ns or stamp_ns
            observed.last_frame_ns = stamp_ns
            observed.frames += 1
            if self._recorder is None or self.recording_problem:
                return
            try:
                self._recorder.add(image_to_array(message), stamp_ns)
            except (FrameRecorderError, ImageMessageError) as error:
                self.recording_problem = f'the recording broke off: {error}'
                self.get_logger().error(self.recording_problem)

    # For `run`

    def _wait_for(self, inputs: Sequence[tuple[str, Callable[[], bool]]]) -> None:
        """Waits until all of these have come.

        Raises:
            RunError: If one does not come in time, or the run is stopped.
        """
        deadline = time.monotonic() + self._wait_timeout
        for name, has_come in inputs:
            while not has_come():
                if time.monotonic() > deadline:
                    raise RunError(f'{name} did not come within {self._wait_timeout:g} s')
                self._pause(_POLL)

    def _result_of(self, future: Future, what: str, timeout: float) -> Any:
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        deadline = time.monotonic() + timeout
        while not done.wait(_POLL):
            if self._stop.is_set():
                raise RunError(self._stop_reason)
            if time.monotonic() > deadline:
                raise RunError(f'{what} did not come within {timeout:g} s')
        return future.result()

    def _cancel(self, handle: ClientGoalHandle) -> None:
        done = threading.Event()
        handle.cancel_goal_async().add_done_callback(lambda _: done.set())
        done.wait(_CANCEL_TIMEOUT)

    def _pause(self, duration: float) -> None:
        if self._stop.wait(duration):
            raise RunError(self._stop_reason)

    def _dwell(self, duration: float, timeout: float) -> None:
        """Waits in ROS time: the seconds of a simulated robot may be long."""
        clock, deadline = self.get_clock(), time.monotonic() + timeout
        begun_ns = clock.now().nanoseconds
        while (clock.now().nanoseconds - begun_ns) * 1e-9 < duration:
            if time.monotonic() > deadline:
                raise RunError(f'{duration:g} s of ROS time did not pass within {timeout:g} s')
            self._pause(_POLL)

    def _close_video(self) -> tuple[str, int]:
        """Closes the video, under the lock; returns its name ('' for none) and its frames."""
        if self._recorder is None:
            return '', 0
        recorder, self._recorder = self._recorder, None
        try:
            recorder.close()
        except FrameRecorderError as error:
            self.recording_problem = self.recording_problem or str(error)
        return (self._video if recorder.frames else ''), recorder.frames

    def _write_summary(self, text: str) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / SUMMARY).write_text(text)


def object_positions(message: CellState) -> dict[str, NDArray[np.float64]]:
    """Positions (3,) of the objects by name, in the base frame (m)."""
    return {
        name: np.array([pose.position.x, pose.position.y, pose.position.z])
        for name, pose in zip(message.object_names, message.object_poses, strict=True)
    }


def objects_touched(message: CellState) -> frozenset[str]:
    """Names of the objects that the hand touches."""
    pairs = zip(message.object_names, message.object_touched, strict=True)
    return frozenset(name for name, touched in pairs if touched)


def run_node(make: Callable[[], RunNode]) -> int:
    """Makes a node and runs it; 0 only if the run succeeded."""
    # The wait of the main thread must end on a signal, with goals cancelled and files closed.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = make()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: node.stop('interrupted'))
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            return
        except BaseException as error:
            node.stop(f'{type(error).__name__}: {error}')
            raise

    spinner = threading.Thread(target=spin, name='spin', daemon=True)
    spinner.start()
    try:
        succeeded = node.run()
    finally:
        executor.shutdown(timeout_sec=1.0)
        spinner.join(timeout=1.0)
        node.destroy_node()
        rclpy.try_shutdown()
    return 0 if succeeded else 1
