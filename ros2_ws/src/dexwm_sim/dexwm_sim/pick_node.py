"""The node `pick`: a scripted grasp through the whole ROS graph, judged and recorded.

It asks the trajectory node to do what the expert wants with an object that it knows from
`/cell/state`, and ends with exit code 0 only if the object was lifted by 5 cm for a second.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import rclpy
from builtin_interfaces.msg import Duration
from dexwm_msgs.action import ExecutePlan
from dexwm_msgs.msg import CellState
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy, qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from rclpy.time import Time
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectoryPoint

from dexwm.robot.joints import JOINTS
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.description import robot_description
from dexwm_sim.expert import Expert, UnreachableError
from dexwm_sim.frame_recorder import FrameRecorder, FrameRecorderError
from dexwm_sim.pick_run import ArmTracking, PickMonitor, PickSummary, Stage, stages

IMAGE_TOPIC = '/camera/color/image_raw'
ACTION = '/trajectory/execute_plan'
VIDEO = 'pick.mp4'
SUMMARY = 'summary.json'

_HOLD = 1.3
_POLL = 0.05
_CANCEL_TIMEOUT = 2.0
_RETRY_PAUSE = 1.0
_CHANNELS = {'rgb8': slice(None), 'bgr8': slice(None, None, -1)}

T = TypeVar('T')


class PickError(RuntimeError):
    """Why the grasp could not be tried or finished."""


@dataclass
class _Observed:
    """What has come in so far; under the node's lock."""

    positions: dict[str, float]
    cell: CellState | None = None
    frames: int = 0
    first_frame_ns: int = 0
    last_frame_ns: int = 0
    real_time_factor: float = float('inf')


class PickNode(Node):
    """Listens, and sends plans; ``run`` is the grasp, in a thread that does not spin."""

    def __init__(self) -> None:
        super().__init__('pick')
        self._directory = Path(self._declare('output_dir', '.', 'Where video and summary go.'))
        record = self._declare('record', True, 'Whether to record the pictures.')
        self._target = self._declare('target', '', "Object to lift; empty: the scene's first.")
        self._wait_timeout = self._seconds('wait_timeout', 60.0, 'Longest wait for an input.')
        self._motion_timeout = self._seconds('motion_timeout', 60.0, 'Longest time of a plan.')
        self._lock = threading.Lock()
        self._observed = _Observed({})
        self._recorder = FrameRecorder(self._directory / VIDEO) if record else None
        self._recording_problem = ''
        self._monitor: PickMonitor | None = None
        self._tracking = ArmTracking()
        self._stop = threading.Event()
        self._stop_reason = ''
        self.summary = PickSummary()
        self.create_subscription(
            JointState, '/joint_states', self._on_joint_state, qos_profile_sensor_data
        )
        self.create_subscription(CellState, '/cell/state', self._on_cell_state, 10)
        # Deep, for the recording shall miss none; best effort, for cameras may offer no more.
        image_qos = QoSProfile(depth=60, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(Image, IMAGE_TOPIC, self._on_image, image_qos)
        self._client = ActionClient(self, ExecutePlan, ACTION)

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
            observed = self._observed
            observed.cell = message
            if self._monitor is None:
                return
            if message.real_time_factor > 0:
                observed.real_time_factor = min(
                    observed.real_time_factor, message.real_time_factor
                )
            self._monitor.observe(
                Time.from_msg(message.header.stamp).nanoseconds,
                [observed.positions[name] for name in JOINTS],
                _object_positions(message),
                frozenset(
                    name
                    for name, touched in zip(
                        message.object_names, message.object_touched, strict=True
                    )
                    if touched
                ),
            )

    def _on_image(self, message: Image) -> None:
        stamp_ns = Time.from_msg(message.header.stamp).nanoseconds
        with self._lock:
            observed = self._observed
            observed.first_frame_ns = observed.first_frame_ns or stamp_ns
            observed.last_frame_ns = stamp_ns
            observed.frames += 1
            if self._recorder is None or self._recording_problem:
                return
            try:
                self._recorder.add(_rgb(message), stamp_ns)
            except FrameRecorderError as error:
                self._recording_problem = f'the recording broke off: {error}'
                self.get_logger().error(self._recording_problem)

    # The grasp

    def stop(self, reason: str) -> None:
        """Ends ``run`` early."""
        self._stop_reason = self._stop_reason or reason
        self._stop.set()

    def run(self) -> None:
        """Tries the grasp; the result is in ``summary``."""
        begun = time.monotonic()
        try:
            self._pick()
        except (PickError, UnreachableError) as error:
            self.summary.reason = str(error)
        self.summary.duration = self.summary.duration or time.monotonic() - begun
        self._finish()

    def _pick(self) -> None:
        self._wait_for_inputs()
        model = RobotModel.from_urdf(robot_description())
        with self._lock:
            cell = self._observed.cell
            start = np.array([self._observed.positions[name] for name in JOINTS])
        positions = _object_positions(cell)
        target = self._target or next(iter(positions), '')
        if target not in positions:
            raise PickError(f'no object {target!r} in the cell; there are {list(positions)}')
        self.summary.target, self.summary.scene_seed = target, cell.scene_seed
        plans = stages(Expert(model).pick(positions[target], start))
        with self._lock:
            self._monitor = PickMonitor(model, target, float(positions[target][2]))
        self.get_logger().info(f'Lifting {target} at {positions[target].round(3).tolist()}.')
        begun = time.monotonic()
        for plan in plans:
            self._execute(plan)
            self._pause(plan.dwell)
        self._pause(_HOLD)
        self.summary.duration = time.monotonic() - begun
        with self._lock:
            self.summary.conclude(self._monitor.verdict(), self._monitor.highest)

    def _wait_for_inputs(self) -> None:
        inputs: tuple[tuple[str, Callable[[], bool]], ...] = (
            (
                '/joint_states of all 23 joints',
                lambda: self._observed.positions.keys() >= set(JOINTS),
            ),
            ('/cell/state', lambda: self._observed.cell is not None),
            (IMAGE_TOPIC, lambda: self._observed.frames > 0),
            (f'the action server {ACTION}', self._client.server_is_ready),
        )
        deadline = time.monotonic() + self._wait_timeout
        for name, has_come in inputs:
            while not has_come():
                if time.monotonic() > deadline:
                    raise PickError(f'{name} did not come within {self._wait_timeout:g} s')
                self._pause(_POLL)

    def _execute(self, stage: Stage, attempts: int = 3) -> None:
        """Has the trajectory node execute a plan, and waits for its end.

        A stop because states came too late, as they do on a busy machine, is no reason to give
        up: the plan is sent again.
        """
        begun = time.monotonic()
        goal = ExecutePlan.Goal()
        goal.plan.header.stamp = self.get_clock().now().to_msg()
        goal.plan.task = f'pick: {stage.name}'
        goal.plan.joint_names = list(JOINTS)
        goal.plan.waypoints = [
            JointTrajectoryPoint(positions=q.tolist(), time_from_start=Duration())
            for q in stage.waypoints
        ]
        handle = self._result_of(
            self._client.send_goal_async(goal, self._on_feedback),
            f'an answer to the plan {stage.name!r}',
        )
        if not handle.accepted:
            raise PickError(f'{ACTION} rejected the plan {stage.name!r}')
        try:
            result = self._result_of(
                handle.get_result_async(), f'the end of the plan {stage.name!r}'
            ).result
        except PickError:
            self._cancel(handle)
            raise
        if result.error_code != ExecutePlan.Result.SUCCESSFUL:
            reason = f'code {result.error_code}: {result.error_string}'
            if result.error_code == ExecutePlan.Result.STALE_STATE and attempts > 1:
                # The robot stands; the rest of the way starts from there.
                self.get_logger().warning(f'Plan {stage.name!r} again after {reason}')
                self._pause(_RETRY_PAUSE)
                self._execute(stage, attempts - 1)
                return
            raise PickError(f'plan {stage.name!r} failed with {reason}')
        self.summary.stages.append(
            {
                'name': stage.name,
                'motion_s': result.duration,
                'until_result_s': time.monotonic() - begun,
            }
        )

    def _on_feedback(self, message: Any) -> None:
        with self._lock:
            self._tracking.observe(message.feedback.tracking_error)

    def _result_of(self, future: Future, what: str) -> Any:
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        deadline = time.monotonic() + self._motion_timeout
        while not done.wait(_POLL):
            if self._stop.is_set():
                raise PickError(self._stop_reason)
            if time.monotonic() > deadline:
                raise PickError(f'{what} did not come within {self._motion_timeout:g} s')
        return future.result()

    def _cancel(self, handle: ClientGoalHandle) -> None:
        done = threading.Event()
        handle.cancel_goal_async().add_done_callback(lambda _: done.set())
        done.wait(_CANCEL_TIMEOUT)

    def _pause(self, duration: float) -> None:
        if self._stop.wait(duration):
            raise PickError(self._stop_reason)

    def _finish(self) -> None:
        """Closes the video and writes the summary."""
        with self._lock:
            observed, summary = self._observed, self.summary
            summary.frames_received = observed.frames
            elapsed = (observed.last_frame_ns - observed.first_frame_ns) * 1e-9
            summary.frame_rate = (observed.frames - 1) / elapsed if elapsed > 0 else 0.0
            summary.max_tracking_error_arm = self._tracking.largest
            if np.isfinite(observed.real_time_factor):
                summary.real_time_factor = observed.real_time_factor
            if self._recorder is not None:
                self._close_recording(self._recorder)
                self._recorder = None
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / SUMMARY).write_text(summary.to_json())

    def _close_recording(self, recorder: FrameRecorder) -> None:
        try:
            recorder.close()
        except FrameRecorderError as error:
            self._recording_problem = self._recording_problem or str(error)
        self.summary.frames_recorded = recorder.frames
        self.summary.video = VIDEO if recorder.frames else ''
        if self._recording_problem and self.summary.lifted:
            self.summary.verdict, self.summary.reason = 'failed', self._recording_problem


def _object_positions(message: CellState) -> dict[str, np.ndarray]:
    return {
        name: np.array([pose.position.x, pose.position.y, pose.position.z])
        for name, pose in zip(message.object_names, message.object_poses, strict=True)
    }


def _rgb(message: Image) -> np.ndarray:
    """Returns the picture (height, width, 3), RGB.

    Raises:
        FrameRecorderError: If the message is not an rgb8 or bgr8 picture.
    """
    row = 3 * message.width
    size_fits = message.step >= row and len(message.data) == message.step * message.height
    if message.encoding not in _CHANNELS or not size_fits:
        raise FrameRecorderError(
            f'{IMAGE_TOPIC} has {len(message.data)} bytes for {message.width} x {message.height} '
            f'pixels of {message.encoding!r}; expected rgb8 or bgr8'
        )
    pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    pixels = pixels[:, :row].reshape(message.height, message.width, 3)
    return np.ascontiguousarray(pixels[..., _CHANNELS[message.encoding]])


def main() -> int:
    """Runs the grasp; 0 only if the object was lifted."""
    # The wait of the main thread must end on a signal, with plans cancelled and files closed.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = PickNode()
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
        node.run()
        summary = node.summary
        log = node.get_logger()
        if summary.lifted:
            log.info(f'Lifted {summary.target} by {summary.height * 100:.0f} cm.')
        else:
            log.error(f'{summary.verdict}: {summary.reason or summary.target}')
    finally:
        executor.shutdown(timeout_sec=1.0)
        spinner.join(timeout=1.0)
        node.destroy_node()
        rclpy.try_shutdown()
    return 0 if summary.lifted else 1


if __name__ == '__main__':
    sys.exit(main())
