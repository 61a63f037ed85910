"""A node that keeps the robot moving and notes when what arrives."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
from dexwm_msgs.action import ExecutePlan
from dexwm_msgs.msg import CellState
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.task import Future
from sensor_msgs.msg import Image
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from benchmarks.measurement import BenchmarkError
from dexwm.robot.joints import ARM, HAND, HOME, JOINTS
from dexwm_sim.simulated_robot import ARM_CONTROLLER, HAND_CONTROLLER

_READY_TIMEOUT = 60.0
_MOTION_TIMEOUT = 60.0
_POLL = 0.1


def postures() -> tuple[np.ndarray, np.ndarray]:
    """Two postures (23,), rad, between which the robot moves: arm and fingers, in free space."""
    away = HOME.copy()
    away[ARM] += [0.6, 0.15, 0.2, 0.2, 0.2, 0.2, -0.5]
    away[HAND] += np.array([0.0, 0.6, 0.6, 0.4] * 3 + [-0.3, 0.2, 0.3, 0.3])
    return HOME, away


@dataclass(frozen=True)
class Motion:
    """One executed plan; times on the system clock (ns).

    Attributes:
        sent_ns: When the goal was sent.
        ended_ns: When the result came.
        max_tracking_error: As the result says (rad).
    """

    sent_ns: int
    ended_ns: int
    max_tracking_error: float


@dataclass
class Recording:
    """What was seen since it was begun.

    Attributes:
        frames: Capture stamp and time of the callback of each picture (system time, ns).
        states: Time of arrival (monotonic, s), simulated time (s) and reported real-time factor
            of each /cell/state.
        commands: By controller, when its trajectories were published (system time, ns).
        statuses: Time of arrival (monotonic, ns) and status of all diagnostics, by name.
        motions: Plans executed, one after the other.
        failures: Code and reason of each plan that failed.
    """

    frames: list[tuple[int, int]] = field(default_factory=list)
    states: list[tuple[float, float, float]] = field(default_factory=list)
    commands: dict[str, list[int]] = field(default_factory=dict)
    statuses: dict[str, list[tuple[int, DiagnosticStatus]]] = field(default_factory=dict)
    motions: list[Motion] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Probe:
    """Drives the robot back and forth between two postures, and records.

    Attributes:
        recording: The present recording.
    """

    def __init__(self, domain_id: int, check: Callable[[], None]) -> None:
        """Joins a ROS domain.

        Args:
            domain_id: The domain.
            check: Raises if there is nothing left to wait for.
        """
        self._check = check
        self._context = Context()
        self._context.init(domain_id=domain_id)
        self._node = node = Node('benchmark_probe', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
        self._targets = postures()
        self._plans = 0
        self.recording = Recording()
        node.create_subscription(
            Image, '/camera/color/image_raw', self._on_image, qos_profile_sensor_data
        )
        node.create_subscription(CellState, '/cell/state', self._on_state, 10)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 100)
        for controller in (ARM_CONTROLLER, HAND_CONTROLLER):
            node.create_subscription(
                JointTrajectory,
                f'/{controller}/joint_trajectory',
                lambda message, info, name=controller: self._on_command(name, info),
                100,
            )
        self._client = ActionClient(node, ExecutePlan, '/trajectory/execute_plan')

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._node.destroy_node()
        self._executor.shutdown()
        self._context.try_shutdown()

    def wait_until_ready(self) -> None:
        """Waits until pictures and states come, and plans can be sent.

        Raises:
            BenchmarkError: If that takes too long.
        """
        missing: dict[str, Callable[[], bool]] = {
            'pictures': lambda: bool(self.recording.frames),
            'states of the cell': lambda: bool(self.recording.states),
            'the trajectory node': self._client.server_is_ready,
        }
        deadline = time.monotonic() + _READY_TIMEOUT
        while True:
            absent = [name for name, there in missing.items() if not there()]
            if not absent:
                return
            if time.monotonic() > deadline:
                raise BenchmarkError(f'no {", ".join(absent)} after {_READY_TIMEOUT:g} s')
            self._spin()

    def drive(self, seconds: float) -> None:
        """Moves back and forth until the time is over and the motion at that time has ended.

        A plan that fails is noted, and the next one sent.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._plans += 1
            sent_ns = time.time_ns()
            result = self._execute(self._targets[self._plans % 2])
            if result.error_code == ExecutePlan.Result.SUCCESSFUL:
                motion = Motion(sent_ns, time.time_ns(), result.max_tracking_error)
                self.recording.motions.append(motion)
            else:
                self.recording.failures.append(f'{result.error_code}: {result.error_string}')
                self._spin()

    def _execute(self, target: np.ndarray) -> Any:
        goal = ExecutePlan.Goal()
        goal.plan.task = 'benchmark'
        goal.plan.joint_names = list(JOINTS)
        goal.plan.waypoints = [JointTrajectoryPoint(positions=target.tolist())]
        handle = self._wait(self._client.send_goal_async(goal), 'an answer to the goal')
        if not handle.accepted:
            raise BenchmarkError('the trajectory node does not take goals')
        return self._wait(handle.get_result_async(), 'the result of the motion').result

    def _wait(self, future: Future, what: str) -> Any:
        deadline = time.monotonic() + _MOTION_TIMEOUT
        while not future.done():
            if time.monotonic() > deadline:
                raise BenchmarkError(f'{what} did not come in {_MOTION_TIMEOUT:g} s')
            self._spin()
        return future.result()

    def _spin(self) -> None:
        self._executor.spin_once(timeout_sec=_POLL)
        self._check()

    def _on_image(self, message: Image) -> None:
        now_ns = time.time_ns()
        self.recording.frames.append((_nanoseconds(message.header.stamp), now_ns))

    def _on_state(self, message: CellState) -> None:
        now = time.monotonic()
        self.recording.states.append((now, message.sim_time, message.real_time_factor))

    def _on_command(self, controller: str, info: dict[str, int]) -> None:
        self.recording.commands.setdefault(controller, []).append(info['source_timestamp'])

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        now_ns = time.monotonic_ns()
        for status in message.status:
            self.recording.statuses.setdefault(status.name, []).append((now_ns, status))


def _nanoseconds(stamp: Any) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec
