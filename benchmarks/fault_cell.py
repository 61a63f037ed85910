"""The cell with its real nodes, and faults put between them one by one.

What the trajectory node hears goes through a relay that can lose, freeze or falsify it. What it
commands is followed, from when it was sent, by the controllers' own class, sampled every
millisecond: a ramp is judged by what a controller would have done with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import rclpy
import yaml
from ament_index_python.packages import get_package_prefix, get_package_share_directory
from dexwm_msgs.action import ExecutePlan
from dexwm_msgs.msg import MotionState
from dexwm_msgs.srv import ConfirmPlan
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, JointState
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from benchmarks.measurement import BenchmarkError
from dexwm.control.joint_trajectory_controller import JointTrajectoryController, TrajectoryRejected
from dexwm.control.motion import MotionConfig
from dexwm.control.trajectory import InvalidTrajectory
from dexwm.control.trajectory_message import nanoseconds, parse_trajectory
from dexwm.robot.joints import ARM_JOINTS, HAND_JOINTS, HOME, JOINTS, robot_limits
from dexwm_franka_bringup.action_client import ThreadedActionClient
from dexwm_planner.graph.domain import DomainLease
from dexwm_planner.graph.orphan_guard import OrphanGuard
from dexwm_planner.runner import run_environment

DRIVER = 'hand: can'
"""Name of the status that stands for a driver's here."""

SIDES = (-0.9, 0.5)
"""Every motion turns the first joint to one side or the other: from home by this much (rad)."""

# With the first joint at +0.3 rad the hand is clear of the box; measured falsely, it is in it.
BOX = {'name': 'keep_out', 'size': [0.10, 0.10, 0.20], 'position': [0.306, 0.315, 0.607]}
FALSE_TURN = 0.55

TICK = 0.05
"""Between two pieces of motion that the trajectory node sends (s)."""

_TIMEOUT = 60.0
_PACKAGES = {
    'cell': 'dexwm_sim',
    'fci': 'dexwm_franka_bringup',
    'camera': 'dexwm_planner',
    'trajectory': 'dexwm_planner',
}
_CAMERA_INFO = '/camera/color/camera_info'
_CONTROLLERS = {'fr3_arm_controller': ARM_JOINTS, 'allegro_hand_controller': HAND_JOINTS}
_LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
_MEASURED_REST = 0.02
# The controllers still go through what was sent last (s).
_LAST_WORDS = 0.5
_MS = 1_000_000
# What the controllers were sent before ends its full pace a horizon after it was sent, and the
# next piece follows after a tick: one that is later than this comes to controllers that slow down.
_LATE_NS = round((MotionConfig.horizon - TICK) * 1e9)


class LateCommandError(BenchmarkError):
    """The machine kept the trajectory node from sending in time: no measurement of a stop."""


@dataclass
class Filters:
    """What the relay does to what it passes on.

    Attributes:
        lost: names of the joints that are left out.
        false_turn: added to the measured position of the first joint (rad).
        frozen: whether the camera's stamps stand still.
        driver: level and message that the driver reports; None: it is silent.
        clock_jump: added to the clock of a trajectory node that takes it from here (s).
    """

    lost: frozenset[str] = frozenset()
    false_turn: float = 0.0
    frozen: bool = False
    driver: tuple[bytes, str] | None = (DiagnosticStatus.OK, 'well')
    clock_jump: float = 0.0


@dataclass(frozen=True)
class Stop:
    """How the robot came to rest after a fault.

    Attributes:
        commanded: from the fault to rest, by what the controllers were told (s).
        measured: by the measured velocities; None if nobody measured (s).
        acceleration: largest part of the joints' acceleration limits that was used after it.
        jerk: the same of the jerk limits.
    """

    commanded: float
    measured: float | None
    acceleration: float
    jerk: float


@dataclass
class _Log:
    commands: list[tuple[int, str, JointTrajectory]] = field(default_factory=list)
    measured: list[tuple[int, float]] = field(default_factory=list)


class FaultCell:
    """Starts the nodes, passes their messages on, and looks on.

    Args:
        directory: where a cell configuration is written.
        nodes: parameters of the nodes to start, by node.
        own_clock: whether /clock comes from here (system time and the jump), for a trajectory
            node that takes it; otherwise the cell may publish it.
    """

    def __init__(
        self,
        directory: Path,
        nodes: Mapping[str, Mapping[str, Any]],
        own_clock: bool = True,
    ) -> None:
        self.filters = Filters()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.state: MotionState | None = None
        self.joints: dict[str, float] = {}
        self._nodes = nodes
        self._own_clock = own_clock
        self._log = _Log()
        self._start: list[float] = []
        self._seen_ns = 0
        self._stamp: Any = None
        self._cell_config = directory / 'cell.yaml'
        source = Path(get_package_share_directory('dexwm_franka_bringup')) / 'config/cell.yaml'
        config = yaml.safe_load(source.read_text())
        config['boxes'].append(BOX)
        self._cell_config.write_text(yaml.safe_dump(config))

    def __enter__(self) -> Self:
        self._lease = DomainLease()
        self._guard = OrphanGuard()
        self._guard.__enter__()
        domain = self._lease.domain_id
        self._environment = run_environment(domain)
        os.environ.update(self._environment)
        self._context = rclpy.Context()
        self._context.init(domain_id=domain)
        self._node = node = Node('fault_cell', context=self._context)
        self._passed = node.create_publisher(JointState, '/seen/joint_states', 10)
        self._beats = node.create_publisher(CameraInfo, '/seen/camera_info', 10)
        if self._own_clock:
            self._clock = node.create_publisher(Clock, '/clock', 10)
        self._diagnostics = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        node.create_subscription(JointState, '/joint_states', self._on_joint_state, 10)
        node.create_subscription(CameraInfo, _CAMERA_INFO, self._on_camera_info, 10)
        node.create_subscription(MotionState, '/trajectory/state', self._on_state, _LATCHED)
        for name in _CONTROLLERS:
            node.create_subscription(
                JointTrajectory,
                f'/{name}/joint_trajectory',
                partial(self._on_command, name),
                10,
            )
        node.create_timer(0.2, self._report_driver)
        self._action = ThreadedActionClient(node, ExecutePlan, '/trajectory/execute_plan')
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()
        for name, parameters in self._nodes.items():
            self.start(name, parameters)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(_TIMEOUT)
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        self._context.try_shutdown()
        self._guard.__exit__(kind, error, trace)
        self._lease.close()

    def start(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Starts a node; the trajectory node behind the relay."""
        package = _PACKAGES[name]
        executable = Path(get_package_prefix(package)) / 'lib' / package / name
        words = [str(executable), '--ros-args']
        if name == 'trajectory':
            parameters = {**parameters, 'cell_config': str(self._cell_config)}
            words += ['-r', f'{_CAMERA_INFO}:=/seen/camera_info']
            words += ['-r', '/joint_states:=/seen/joint_states']
            self.state = None
        for key, value in parameters.items():
            words += ['-p', f'{key}:={value}']
        process = subprocess.Popen(words, env=self._environment, process_group=0)
        self._guard.add(process.pid)
        self.processes[name] = process

    def kill(self, name: str) -> None:
        """Ends a node as if the power went."""
        self.processes[name].kill()
        self.processes[name].wait(_TIMEOUT)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Sends a signal to a node."""
        self.processes[name].send_signal(number)

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Waits for a condition.

        Raises:
            BenchmarkError: If it does not come.
        """
        deadline = time.monotonic() + _TIMEOUT
        while not condition():
            if time.monotonic() > deadline:
                reason = self.state.reason if self.state is not None else 'no state'
                raise BenchmarkError(f'timed out: {what} (trajectory node: {reason})')
            time.sleep(0.01)

    def now_ns(self) -> int:
        """System time (ns)."""
        return time.time_ns()

    def call(self, name: str, kind: type = Trigger, **request: Any) -> Any:
        """Calls a service of the trajectory node and returns its answer."""
        client = self._node.create_client(kind, f'/trajectory/{name}')
        try:
            self.until(client.service_is_ready, f'the service {name}')
            future = client.call_async(kind.Request(**request))
            self.until(future.done, f'an answer of {name}')
            return future.result()
        finally:
            self._node.destroy_client(client)

    def emergency_stop(self, engage: bool) -> Any:
        """Presses or releases the emergency stop."""
        return self.call('emergency_stop', SetBool, data=engage)

    def confirm(self, plan_id: str, accept: bool = True) -> Any:
        """Answers for a person."""
        return self.call('confirm', ConfirmPlan, plan_id=plan_id, accept=accept)

    def is_ready(self) -> bool:
        """Whether the trajectory node would take a plan."""
        state = self.state
        return (
            state is not None
            and state.state == MotionState.RUN
            and not state.reason
            and not state.moving
            and len(self.joints) == len(JOINTS)
        )

    def is_stopped(self) -> bool:
        """Whether the trajectory node waits to be resumed."""
        return self.state is not None and self.state.state == MotionState.STOPPED

    def until_ready(self) -> None:
        """Waits until the trajectory node would take a plan."""
        self.until(self.is_ready, 'a ready trajectory node')

    def send(self) -> Any:
        """Sends the arm to the other side; returns the future of the result."""
        # A busy process may still be at where the arm was some time ago.
        asked_ns = self.now_ns()
        self.until(lambda: self._seen_ns >= asked_ns, 'a joint state from now')
        self._log.commands.clear()
        self._log.measured.clear()
        self._start = [self.joints[name] for name in JOINTS]
        goal = ExecutePlan.Goal()
        goal.plan.task = 'swing'
        goal.plan.joint_names = list(JOINTS)
        q = np.array(HOME)
        q[0] += SIDES[0] if self.turn > np.mean(SIDES) else SIDES[1]
        goal.plan.waypoints = [JointTrajectoryPoint(positions=q.tolist())]
        self.until(self._action.server_is_ready, 'the action')
        sent = self._action.send_goal_async(goal)
        self.until(sent.done, 'an answer to the goal')
        return sent.result().get_result_async()

    @property
    def turn(self) -> float:
        """Of the first joint from its home (rad)."""
        return self.joints[JOINTS[0]] - HOME[0]

    def until_fast(self, result: Any) -> None:
        """Waits until the arm moves at speed; raises BenchmarkError if it will not."""

        def at_speed() -> bool:
            if result.done():
                raise BenchmarkError(f'not moved: {result.result().result.error_string}')
            return abs(self.joints[JOINTS[0]] - self._start[0]) > 0.2

        self.until(at_speed, 'the arm to move')

    def until_turn(self, turn: float, result: Any) -> None:
        """Waits until the first joint is farther than that (rad), or the motion ends."""
        self.until(lambda: self.turn > turn or result.done(), 'the place of the fault')

    def result(self, future: Any) -> Any:
        """Waits for the result of a motion."""
        self.until(future.done, 'the result')
        return future.result().result

    def until_rest(self) -> None:
        """Waits until the trajectory node says that the robot rests."""
        self.until(lambda: self.state is not None and not self.state.moving, 'rest')

    def is_still(self) -> bool:
        """Whether the arm rests, by what is measured in the next moment."""
        before = self.joints[JOINTS[0]]
        time.sleep(0.3)
        return abs(self.joints[JOINTS[0]] - before) < 0.005

    def measure(self, fault_ns: int) -> Stop:
        """How the robot stopped after a fault that began at a time (ns).

        Raises:
            BenchmarkError: If a controller would not have taken what was commanded.
            LateCommandError: If what was commanded left the trajectory node too late.
        """
        time.sleep(_LAST_WORDS)
        limits = robot_limits()
        controllers = {
            name: JointTrajectoryController(
                joints, [self._start[JOINTS.index(joint)] for joint in joints], limits
            )
            for name, joints in _CONTROLLERS.items()
        }
        commands = sorted(self._log.commands, key=lambda command: command[0])
        if not commands:
            raise BenchmarkError('nothing was commanded')
        begin = commands[0][0]
        times = np.arange(begin, max(commands[-1][0], fault_ns) + 1000 * _MS, _MS)
        velocities, accelerations = [], []
        for now in times:
            while commands and commands[0][0] <= now:
                sent_ns, name, message = commands.pop(0)
                late_ns = sent_ns - nanoseconds(message.header.stamp)
                if late_ns > _LATE_NS:
                    raise LateCommandError(f'{name} was commanded {late_ns * 1e-9:.3f} s late')
                try:
                    controllers[name].accept(
                        parse_trajectory(message), nanoseconds(message.header.stamp), int(now)
                    )
                except (InvalidTrajectory, TrajectoryRejected) as error:
                    raise BenchmarkError(f'{name} rejected a trajectory: {error}') from error
            states = [controller.sample(int(now)) for controller in controllers.values()]
            velocities.append(np.concatenate([state.velocities for state in states]))
            accelerations.append(np.concatenate([state.accelerations for state in states]))
        speed = np.abs(np.array(velocities)).max(axis=1)
        a = np.array(accelerations)
        after = times >= fault_ns
        moving = times[after & (speed > 1e-6)]
        jerk = np.abs(np.diff(a, axis=0)) / 1e-3
        measured = [t for t, v in self._log.measured if t >= fault_ns and v > _MEASURED_REST]
        saw = bool(self._log.measured) and self._log.measured[-1][0] > fault_ns + 300 * _MS
        return Stop(
            commanded=(int(moving[-1]) - fault_ns) * 1e-9 if moving.size else 0.0,
            measured=((measured[-1] - fault_ns) * 1e-9 if measured else 0.0) if saw else None,
            acceleration=float((np.abs(a[after]) / limits.acceleration).max()),
            jerk=float((jerk[after[1:]] / limits.jerk).max()),
        )

    # The relay, in the executor's thread.

    def _on_command(self, name: str, message: JointTrajectory, info: Mapping[str, int]) -> None:
        # When it was sent: that this process was busy is no fault of the robot's.
        self._log.commands.append((info['source_timestamp'], name, message))

    def _on_joint_state(self, message: JointState, info: Mapping[str, int]) -> None:
        self.joints.update(zip(message.name, message.position, strict=True))
        now_ns, sent_ns = self.now_ns(), info['source_timestamp']
        if JOINTS[0] in message.name:
            self._seen_ns = sent_ns
            self._log.measured.append((sent_ns, max(abs(v) for v in message.velocity[:7])))
        filters = self.filters
        kept = [i for i, name in enumerate(message.name) if name not in filters.lost]
        if self._own_clock:
            clock = now_ns + round(filters.clock_jump * 1e9)
            self._clock.publish(Clock(clock=Time(nanoseconds=clock).to_msg()))
        if not kept:
            return
        positions = [
            message.position[i] + (filters.false_turn if message.name[i] == JOINTS[0] else 0.0)
            for i in kept
        ]
        seen = JointState(name=[message.name[i] for i in kept], position=positions)
        seen.header.stamp = message.header.stamp
        self._passed.publish(seen)

    def _on_camera_info(self, message: CameraInfo) -> None:
        if not self.filters.frozen:
            self._stamp = message.header.stamp
        message.header.stamp = self._stamp
        self._beats.publish(message)

    def _on_state(self, message: MotionState) -> None:
        self.state = message

    def _report_driver(self) -> None:
        driver = self.filters.driver
        if driver is not None:
            self.report_driver(*driver)

    def report_driver(self, level: bytes, text: str) -> None:
        """Has the driver report at once."""
        status = DiagnosticStatus(name=DRIVER, level=level, message=text)
        self._diagnostics.publish(DiagnosticArray(status=[status]))
