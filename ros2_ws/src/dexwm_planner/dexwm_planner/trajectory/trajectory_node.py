"""The node `trajectory`: takes plans, checks and times them, and drives the controllers."""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable

import numpy as np
import rclpy
from dexwm_msgs.action import ExecutePlan
from dexwm_msgs.msg import MotionState, Plan
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, JointState

from dexwm.control.clock_watch import ClockWatch
from dexwm.control.confirmation import Answer, Confirmation
from dexwm.control.driver_watch import DriverWatch
from dexwm.control.heartbeat_watch import HeartbeatWatch
from dexwm.control.keep_out_watch import KeepOutWatch
from dexwm.control.motion import Chunk, MotionConfig, Phase, SpliceMissed
from dexwm.control.motion_gate import Fault
from dexwm.control.outcome import Outcome, PlanRefused
from dexwm.control.plan_checks import PlanChecker, Waypoints
from dexwm.control.supervision import Execution, MotionSupervisor
from dexwm.control.trajectory_message import nanoseconds
from dexwm.robot.collision import CollisionChecker, CollisionModelError
from dexwm.robot.joints import ARM, ARM_JOINTS, HAND, HAND_JOINTS, JOINTS, robot_limits
from dexwm.robot.model import RobotModelError
from dexwm_franka_bringup.cell_config import CellConfigError, load_cell_config
from dexwm_franka_bringup.description import MeshesNotFoundError, robot_description
from dexwm_planner.spin_thread import SpinThread
from dexwm_planner.trajectory.command_output import CommandOutput, TopicOutput
from dexwm_planner.trajectory.follow_joint_trajectory_output import FollowJointTrajectoryOutput
from dexwm_planner.trajectory.franka_ros2_arm import STATUS, FrankaRos2Arm
from dexwm_planner.trajectory.motion_state import in_words, motion_diagnosis, motion_state
from dexwm_planner.trajectory.operator_services import OperatorServices
from dexwm_planner.trajectory.recovery import DriverRecovery, Recovery, RobotRecovery
from dexwm_planner.trajectory.trajectory_inputs import TrajectoryInputs
from dexwm_planner.trajectory.trajectory_parameters import (
    FOLLOW_JOINT_TRAJECTORY,
    RECOVERY_BY_FCI_NODE,
    RECOVERY_BY_FRANKA_ROS2,
    TrajectoryConfigError,
    TrajectoryParameters,
)

_FCI_RECOVERY = '/fci/recover'
_FEEDBACK_PERIOD = 0.1
_GOAL_POLL = 0.02
# As long a node is new: it has not discovered yet what is there (s).
_DISCOVERY = 5.0
_DIAGNOSTICS_PERIOD = 1.0
_SPLICE_ATTEMPTS = 5
_SPLICE_RESERVE = 0.02
_SEND_ATTEMPTS = 5
_SETTLE_TIMEOUT = 3.0
_SHUTDOWN_TIMEOUT = 3.0
# Every goal that waits or is executed has a thread; refused and preempted ones leave soon.
_EXECUTOR_THREADS = 10
_KEEP_OUT_PERIOD = 0.1
_LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


class TrajectoryNode(Node):
    """Executes plans (action `~/execute_plan`), one at a time; a newer one takes over.

    The motion is streamed by a thread of its own, which waits for no callback: only the short
    lock around the supervisor is shared. Planning and collision checks happen in the goal's
    thread, outside of that lock.

    It is also where the decision is taken whether anything may move (`MotionGate`), for what is
    not sent here does not move: a node in between could only add a way to be late. Whatever
    closes the gate ramps the robot down; `~/stop`, `~/emergency_stop`, `~/resume`, `~/recover`
    and `~/confirm` are a person's; `~/state` and `/diagnostics` tell the reason, and
    `~/waiting_plan` has the plan that waits for a person, from where the robot is; without
    waypoints where none waits.

    Raises:
        TrajectoryConfigError: where the parameters ask for what can never work.
    """

    def __init__(self, **node_arguments: object) -> None:
        super().__init__('trajectory', **node_arguments)
        self._settings = settings = TrajectoryParameters(self)
        limits = robot_limits()
        margin = np.empty(len(JOINTS))
        margin[ARM], margin[HAND] = settings.margin_arm, settings.margin_hand
        tolerance = np.empty(len(JOINTS))
        tolerance[ARM] = settings.tracking_tolerance_arm
        tolerance[HAND] = settings.tracking_tolerance_hand
        checker, _ = self._make_collision_checker(settings.clearance)
        self._checker = PlanChecker(limits, margin, settings.max_first_step, checker)
        self._output = self._make_output(tolerance)
        self._heartbeats = HeartbeatWatch(settings.heartbeats, settings.heartbeat_timeout)
        drivers = list(settings.drivers)
        if settings.recovery == RECOVERY_BY_FRANKA_ROS2:
            drivers.append(STATUS)
        self._drivers = DriverWatch(drivers, settings.driver_timeout)
        self._confirmation = Confirmation(settings.confirm_timeout)
        measured_checker, boxes = self._make_collision_checker(0.0)
        horizon = self._output.horizon or settings.chunk_horizon
        self._supervisor = MotionSupervisor(
            limits,
            tolerance,
            settings.joint_state_timeout,
            MotionConfig(horizon, settings.lead),
            (
                ClockWatch(
                    self._now_ns,
                    time.monotonic_ns,
                    settings.clock_tolerance,
                    may_lag=self.get_parameter('use_sim_time').value,
                    resting=lambda: self._supervisor.current is None,
                ),
                self._drivers,
                KeepOutWatch(
                    measured_checker,
                    boxes,
                    lambda: self._supervisor.joint_states.positions,
                    settings.keep_out_depth,
                    _KEEP_OUT_PERIOD,
                ),
                self._controllers_problem,
                self._heartbeats,
            ),
            settings.hold_after_fault,
        )
        self._lock = threading.RLock()
        self._planning = threading.Lock()
        self._planning_time = 0.1
        self._new_until = time.monotonic() + _DISCOVERY
        self._goals = 0
        self._open_goals = 0
        self._started_goal = 0
        self._last: Execution | None = None
        self._last_report = ''
        self._told: tuple[int, str, bool, str] | None = None
        self._asked = Plan()
        self._tick_gaps: deque[float] = deque(maxlen=1200)
        self._stop_thread = threading.Event()
        self._thread = threading.Thread(target=self._stream, name='stream', daemon=True)
        self._create_interfaces()
        self._thread.start()
        self.get_logger().info(
            f'ready: {settings.command_interface} to {settings.arm_controller} and '
            f'{settings.hand_controller}, speed scale {settings.speed_scale:g}'
        )

    def _make_collision_checker(self, clearance: float) -> tuple[CollisionChecker, frozenset[str]]:
        """A checker, and the names of the cell's boxes in it."""
        settings = self._settings
        try:
            cell = load_cell_config(settings.cell_config or None)
            urdf = settings.robot_description or robot_description(cell)
            checker = CollisionChecker.from_urdf(urdf, cell.boxes, clearance=clearance)
            return checker, frozenset(box.name for box in cell.boxes)
        except (
            CellConfigError,
            CollisionModelError,
            MeshesNotFoundError,
            RobotModelError,
        ) as error:
            raise TrajectoryConfigError(str(error)) from error

    def _make_output(self, tolerance: np.ndarray) -> CommandOutput:
        controllers = {
            self._settings.arm_controller: ARM_JOINTS,
            self._settings.hand_controller: HAND_JOINTS,
        }
        if self._settings.command_interface == FOLLOW_JOINT_TRAJECTORY:
            finite = {
                name: float(value)
                for name, value in zip(JOINTS, tolerance, strict=True)
                if np.isfinite(value)
            }
            return FollowJointTrajectoryOutput(self, controllers, finite)
        return TopicOutput(self, controllers)

    def _make_recovery(self) -> Recovery:
        settings, parts = self._settings, dict[str, Recovery]()
        if settings.recovery == RECOVERY_BY_FCI_NODE:
            parts['arm'] = DriverRecovery(self, _FCI_RECOVERY)
        if settings.recovery == RECOVERY_BY_FRANKA_ROS2:
            parts['arm'] = FrankaRos2Arm(
                self,
                settings.arm_controller,
                lambda level, message: self._on_driver(STATUS, level, message),
            )
        if settings.hand_recovery:
            parts['hand'] = DriverRecovery(self, settings.hand_recovery)
        return RobotRecovery(parts)

    def _create_interfaces(self) -> None:
        self._state = self.create_publisher(MotionState, '~/state', _LATCHED)
        self._waiting = self.create_publisher(Plan, '~/waiting_plan', _LATCHED)
        self._commanded = self.create_publisher(JointState, '~/commanded', _LATCHED)
        self._inputs = TrajectoryInputs(
            self,
            self._settings.heartbeats,
            self._on_joint_state,
            self._on_reference,
            self._on_heartbeat,
            self._on_diagnostics,
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._operator = OperatorServices(
            self,
            self._supervisor,
            self._confirmation,
            self._make_recovery(),
            self._lock,
            self._send,
        )
        self.create_timer(
            _DIAGNOSTICS_PERIOD, self._report, callback_group=MutuallyExclusiveCallbackGroup()
        )
        self._action_server = ActionServer(
            self,
            ExecutePlan,
            '~/execute_plan',
            self._execute,
            goal_callback=lambda _: GoalResponse.ACCEPT,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    # Inputs

    def _on_joint_state(self, message: JointState) -> None:
        try:
            with self._lock:
                self._supervisor.observe(
                    message.name,
                    message.position,
                    nanoseconds(message.header.stamp),
                    self._now_ns(),
                )
        except ValueError as error:
            self.get_logger().warning(
                f'a malformed joint state is ignored: {error}', throttle_duration_sec=5.0
            )

    def _on_reference(self, message: JointState) -> None:
        try:
            with self._lock:
                self._supervisor.observe_references(message.name, message.position)
        except ValueError as error:
            self.get_logger().warning(
                f'a malformed reference is ignored: {error}', throttle_duration_sec=5.0
            )

    def _on_heartbeat(self, topic: str, message: CameraInfo) -> None:
        with self._lock:
            self._heartbeats.observe(topic, nanoseconds(message.header.stamp), self._now_ns())

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._on_driver(status.name, int.from_bytes(status.level), status.message)

    def _on_driver(self, name: str, level: int, message: str) -> None:
        with self._lock:
            now_ns = self._now_ns()
            if self._drivers.observe(name, level, message, now_ns):
                # At once: the next tick may be 50 ms away.
                self._send(self._supervisor.tick)

    def _controllers_problem(self, now_ns: int) -> Fault | None:
        missing = self._output.missing()
        if missing:
            return Fault(Outcome.NO_CONTROLLER, missing)
        # A failure is that of the motion under way; the next one begins afresh.
        failure = self._output.failure() if self._supervisor.current is not None else None
        return Fault(*failure) if failure is not None else None

    # The stream

    def _send(self, say: Callable[[int], Chunk | None]) -> bool:
        """Have what the supervisor says sent; with the lock.

        What comes too late because this thread was kept from running is said anew.

        Args:
            say: gives what is to be sent, if anything, at a time.

        Returns:
            Whether anything was.
        """
        for _ in range(_SEND_ATTEMPTS):
            chunk = say(self._now_ns())
            if chunk is None:
                return False
            if self._output.send(chunk, self._now_ns):
                return True
            self._supervisor.streamer.take_back()
        reason = (
            f'this machine was {_SEND_ATTEMPTS} times too slow to send in time what moves the '
            'robot; take load off it, then call ~/resume'
        )
        self.get_logger().error(reason)
        self._supervisor.give_up(reason)
        return False

    def _stream(self) -> None:
        """Tick at a steady rate until told to end; a crash here ends the process."""
        period = self._settings.chunk_period
        due = time.monotonic()
        last_sent: float | None = None
        while not self._stop_thread.is_set():
            with self._lock:
                sent = self._send(self._supervisor.tick)
            self._tell()
            now = time.monotonic()
            if sent and last_sent is not None:
                self._tick_gaps.append(now - last_sent)
            last_sent = now if sent else None
            due = max(due + period, now)
            self._stop_thread.wait(due - now)

    def _tell(self, always: bool = False) -> None:
        """Publish the state if it changed, or in any case; in the stream's thread and a timer."""
        with self._lock:
            now_ns = self._now_ns()
            state = motion_state(self._supervisor, self._confirmation, now_ns)
            key = (state.state, state.reason, state.moving, state.confirm_plan_id)
            # A reason may hold a time that grows: only its beginning tells it from others.
            key = (key[0], key[1][:40], *key[2:])
            told, self._told = self._told, key
            commanded = self._supervisor.commanded(now_ns)
            if not always and key == told:
                return
            # Before the state that asks about it.
            if told is None or key[3] != told[3]:
                self._waiting.publish(self._asked if key[3] else Plan())
            self._state.publish(state)
        if told is not None and told[0] != key[0]:
            self.get_logger().warning(in_words(state))
        if np.isfinite(commanded).all():
            positions = JointState(name=list(JOINTS), position=commanded.tolist())
            positions.header.stamp = state.header.stamp
            self._commanded.publish(positions)
        if told is not None and told[:2] != key[:2] and not always:
            self._diagnostics.publish(self._diagnosis())

    # Goals

    def _execute(self, goal: ServerGoalHandle) -> ExecutePlan.Result:
        """Check, time and execute one plan; runs in a thread of its own."""
        with self._lock:
            self._goals += 1
            ticket = self._goals
            self._open_goals += 1
        try:
            return self._run(goal, ticket)
        except Exception as error:
            # rclpy would answer with an empty result, whose code says that all went well.
            self.get_logger().error(traceback.format_exc())
            reason = f'an error of the trajectory node: {error!r}; its log says where'
            self.halt(reason)
            if goal.is_active:
                goal.abort()
            return ExecutePlan.Result(error_code=int(Outcome.STOPPED), error_string=reason)
        finally:
            with self._lock:
                self._open_goals -= 1

    def _run(self, goal: ServerGoalHandle, ticket: int) -> ExecutePlan.Result:
        self._wait_while_new(goal)
        try:
            if self._settings.confirm:
                self._wait_for_a_person(goal, ticket)
            with self._planning:
                execution = self._begin(goal, ticket)
        except PlanRefused as refusal:
            self.get_logger().warning(f'plan refused, {refusal}')
            self._last_report = f'refused, {refusal}'
            result = ExecutePlan.Result(error_code=int(refusal.code), error_string=refusal.reason)
            self._conclude(goal, refusal.code)
            return result
        self._follow(goal, execution)
        return self._result(goal, execution)

    def _wait_while_new(self, goal: ServerGoalHandle) -> None:
        """Give a node that has just begun time to hear of controllers and joint states."""
        while time.monotonic() < self._new_until and not goal.is_cancel_requested:
            try:
                with self._lock:
                    self._supervisor.check_ready(self._now_ns())
            except PlanRefused as refusal:
                if refusal.code not in (Outcome.NO_CONTROLLER, Outcome.STALE_STATE):
                    return
                time.sleep(_GOAL_POLL)
            else:
                return

    def _wait_for_a_person(self, goal: ServerGoalHandle, ticket: int) -> None:
        """Ask whether the plan may be executed, and wait for the answer.

        Raises:
            PlanRefused: if it may not, or nobody says so in time.
        """
        plan_id = bytes(goal.goal_id.uuid).hex()
        plan = goal.request.plan
        self._waypoints(goal.request)
        self._check_age(goal.request)
        with self._lock:
            self._supervisor.check_ready(self._now_ns())
            measured = dict(zip(JOINTS, self._supervisor.joint_states.positions, strict=True))
            self._asked = Plan(
                task=plan.task,
                joint_names=plan.joint_names,
                waypoints=plan.waypoints,
                observed_positions=[float(measured[name]) for name in plan.joint_names],
            )
            self._confirmation.ask(plan_id, plan.task, len(plan.waypoints), time.monotonic_ns())
        self.get_logger().info(f'the plan {plan_id} ({plan.task}) waits for ~/confirm')
        try:
            while True:
                with self._lock:
                    answer = self._confirmation.look(plan_id, time.monotonic_ns())
                    superseded = self._goals > ticket
                    latched = self._supervisor.gate.latched
                if answer is Answer.ACCEPTED:
                    return
                if goal.is_cancel_requested:
                    raise PlanRefused(Outcome.STOPPED, 'cancelled before it was confirmed')
                if latched is not None:
                    raise PlanRefused(Outcome.STOPPED, latched.reason)
                if superseded:
                    raise PlanRefused(Outcome.PREEMPTED, 'another plan came before an answer')
                if answer is Answer.EXPIRED:
                    raise PlanRefused(
                        Outcome.REFUSED,
                        f'nobody confirmed the plan within {self._settings.confirm_timeout:g} s',
                    )
                if answer is not Answer.WAITING:
                    raise PlanRefused(Outcome.REFUSED, 'a person declined the plan')
                time.sleep(_GOAL_POLL)
        finally:
            with self._lock:
                self._confirmation.withdraw(plan_id)

    def _begin(self, goal: ServerGoalHandle, ticket: int) -> Execution:
        """Plan from where the robot will be, and start.

        Raises:
            PlanRefused: with the reason.
        """
        waypoints = self._waypoints(goal.request)
        self._check_age(goal.request)
        speed_scale = goal.request.speed_scale or self._settings.speed_scale
        patience = 1.5
        for _ in range(_SPLICE_ATTEMPTS):
            if goal.is_cancel_requested:
                raise PlanRefused(Outcome.STOPPED, 'cancelled before it began')
            if self._started_goal > ticket:
                raise PlanRefused(Outcome.PREEMPTED, 'another plan took over')
            begun = time.monotonic()
            with self._lock:
                now_ns = self._now_ns()
                self._supervisor.check_ready(now_ns)
                lead = patience * self._planning_time + self._settings.lead + _SPLICE_RESERVE
                splice = self._supervisor.splice_point(now_ns, lead)
            motion = self._checker.motion(splice.state, waypoints, speed_scale)
            self._planning_time = time.monotonic() - begun
            try:
                with self._lock:
                    execution = self._supervisor.start(
                        motion,
                        splice,
                        self._now_ns(),
                        lambda chunk: self._output.send(chunk, self._now_ns),
                    )
                    self._started_goal = ticket
            except SpliceMissed as missed:
                self.get_logger().debug(f'planning again: {missed}')
                patience *= 1.5
                continue
            for note in motion.notes:
                self.get_logger().warning(note)
            return execution
        raise PlanRefused(
            Outcome.REFUSED,
            f'planning took too long {_SPLICE_ATTEMPTS} times while the robot moved '
            f'({self._planning_time:.2f} s at last); stop it first',
        )

    def _check_age(self, request: ExecutePlan.Goal) -> None:
        """Whether what a plan was made from can still be as it was.

        A plan without a stamp was not made from a picture.

        Raises:
            PlanRefused: REFUSED, if its picture is too old.
        """
        stamp_ns = nanoseconds(request.plan.observation_stamp)
        age = (self._now_ns() - stamp_ns) * 1e-9
        if stamp_ns and age > self._settings.max_plan_age:
            raise PlanRefused(
                Outcome.REFUSED,
                f'the plan was made from a picture that is {age:.1f} s old, at most '
                f'{self._settings.max_plan_age:g} s (max_plan_age) are allowed; plan again',
            )

    def _waypoints(self, request: ExecutePlan.Goal) -> Waypoints:
        points = request.plan.waypoints
        for k, point in enumerate(points):
            for field in ('velocities', 'accelerations', 'effort'):
                if len(getattr(point, field)):
                    raise PlanRefused(
                        Outcome.INVALID_PLAN,
                        f'waypoint {k} has {field}; a plan has positions and times only',
                    )
        return self._checker.waypoints(
            request.plan.joint_names,
            [point.positions for point in points],
            [nanoseconds(point.time_from_start) * 1e-9 for point in points],
        )

    def _follow(self, goal: ServerGoalHandle, execution: Execution) -> None:
        """Give feedback until the execution has its outcome; stop it if cancelled."""
        feedback_due = time.monotonic()
        while execution.outcome is None:
            if goal.is_cancel_requested:
                with self._lock:
                    if self._supervisor.current is execution:
                        self._send(
                            lambda now: self._supervisor.stop(Outcome.STOPPED, 'cancelled', now)
                        )
            if time.monotonic() >= feedback_due:
                feedback_due += _FEEDBACK_PERIOD
                self._publish_feedback(goal, execution)
            time.sleep(_GOAL_POLL)

    def _publish_feedback(self, goal: ServerGoalHandle, execution: Execution) -> None:
        with self._lock:
            if self._supervisor.current is not execution:
                return
            progress = self._supervisor.progress(self._now_ns())
        order = [JOINTS.index(name) for name in goal.request.plan.joint_names]
        goal.publish_feedback(
            ExecutePlan.Feedback(
                progress=progress.fraction,
                time_remaining=progress.time_remaining,
                waypoint=progress.waypoint,
                tracking_error=progress.tracking_error[order].tolist(),
            )
        )

    def _result(self, goal: ServerGoalHandle, execution: Execution) -> ExecutePlan.Result:
        outcome, reason = execution.outcome, execution.reason
        assert outcome is not None
        if outcome is Outcome.SUCCESSFUL:
            outcome, reason = self._controllers_verdict(execution)
        self._last = execution
        self._last_report = f'{outcome.name}{": " if reason else ""}{reason}'
        report = f'{execution.duration:.2f} s of motion, {self._last_report}'
        if outcome is Outcome.SUCCESSFUL:
            self.get_logger().info(report)
        else:
            self.get_logger().warning(report)
        self._conclude(goal, outcome)
        return ExecutePlan.Result(
            error_code=int(outcome),
            error_string=reason,
            max_tracking_error=execution.max_tracking_error,
            duration=execution.duration,
        )

    def _controllers_verdict(self, execution: Execution) -> tuple[Outcome, str]:
        """What controllers that report back say of a motion that went to its end."""
        deadline = time.monotonic() + _SETTLE_TIMEOUT
        while not self._output.settled() and time.monotonic() < deadline:
            if self._last_started() is not execution.motion:
                break
            time.sleep(_GOAL_POLL)
        return self._output.failure() or (Outcome.SUCCESSFUL, '')

    def _last_started(self) -> object:
        with self._lock:
            return self._supervisor.streamer.motion

    def _conclude(self, goal: ServerGoalHandle, outcome: Outcome) -> None:
        if outcome is Outcome.SUCCESSFUL:
            goal.succeed()
        elif goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.abort()

    # Reports

    def halt(self, reason: str) -> None:
        """Ramp down and refuse plans until ~/resume."""
        self._operator.halt(reason)

    def wait_at_rest(self, timeout: float) -> bool:
        """Wait until nothing moves and every goal has its result; False if it takes too long."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with self._lock:
                resting = self._supervisor.streamer.phase(self._now_ns()) is Phase.IDLE
                done = resting and not self._open_goals
            if done:
                time.sleep(_GOAL_POLL)  # The executor sends the last result.
                return True
            time.sleep(_GOAL_POLL)
        return False

    def _report(self) -> None:
        if self._stop_thread.is_set():
            return
        for thread in (self._thread, self._inputs):
            if not thread.is_alive():
                raise RuntimeError('a thread of the node ended; see the error above')
        self._tell(always=True)
        self._diagnostics.publish(self._diagnosis())

    def _diagnosis(self) -> DiagnosticArray:
        with self._lock:
            now_ns = self._now_ns()
            phase = self._supervisor.streamer.phase(now_ns)
            late = self._supervisor.streamer.late_ticks
            state = motion_state(self._supervisor, self._confirmation, now_ns)
        gaps = np.array(self._tick_gaps) * 1e3
        values = {
            'last_result': self._last_report or 'none',
            'speed_scale': f'{self._settings.speed_scale:g}',
            'planning_time_s': f'{self._planning_time:.3f}',
            'late_chunks': late,
        }
        if gaps.size:
            p50, p99 = np.percentile(gaps, [50, 99])
            values |= {
                'chunk_period_p50_ms': f'{p50:.2f}',
                'chunk_period_p99_ms': f'{p99:.2f}',
                'chunk_period_max_ms': f'{gaps.max():.2f}',
            }
        status = motion_diagnosis(state, phase, self._settings.arm_controller, values)
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        return array

    def destroy_node(self) -> None:
        """End the stream, then the node."""
        self._stop_thread.set()
        self._thread.join()
        self._inputs.close()
        self._action_server.destroy()
        super().destroy_node()


def _on_signals(callback: Callable[[], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: callback())


def main() -> int:
    """Run the node; on SIGINT or SIGTERM the robot ramps down first."""
    ending = threading.Event()
    _on_signals(ending.set)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = TrajectoryNode()
    except (
        TrajectoryConfigError,
        InvalidParameterTypeException,
        InvalidParameterValueException,
    ) as error:
        print(f'trajectory: {error}', file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    executor = MultiThreadedExecutor(num_threads=_EXECUTOR_THREADS)
    executor.add_node(node)
    spinner = SpinThread(executor, ending.set)
    spinner.start()
    ending.wait()
    node.halt('the trajectory node shuts down')
    if not node.wait_at_rest(_SHUTDOWN_TIMEOUT):
        print('trajectory: the robot did not come to rest in time', file=sys.stderr)
    spinner.stop()
    node.destroy_node()
    rclpy.try_shutdown()
    spinner.raise_failure()
    return 0


if __name__ == '__main__':
    sys.exit(main())
