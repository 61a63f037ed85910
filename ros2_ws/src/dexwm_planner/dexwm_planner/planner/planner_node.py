"""The node `planner`: a goal in, plans out, by the world model.

A lifecycle node: configuring loads the model and plans once to warm up, activating starts to
listen. With the parameter `autostart` it does both by itself.
"""

from __future__ import annotations

import functools
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import torch
from dexwm_msgs.action import ExecutePlan, PlanToGoal
from dexwm_msgs.msg import Plan
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.executors import MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

from dexwm.bag.planner_setup import PlannerSetup
from dexwm.geometry.preprocess import PreprocessError
from dexwm.model.checkpoint import CheckpointError, load_checkpoint
from dexwm.model.encoders.encoder import EncoderError
from dexwm.planning.closing import ClosingRule
from dexwm.planning.compute_setup import ComputeSetup
from dexwm.planning.errors import PlanningError
from dexwm.planning.goal import Goal, GoalError, KeypointGoal, PictureGoal
from dexwm.planning.grip import GRIPPING_TASKS
from dexwm.planning.mpc import PlantError, run_task
from dexwm.planning.optimisers.optimiser import Iteration
from dexwm.planning.planner import Planner, PlanResult
from dexwm.planning.preset import DEFAULT_PRESET, PresetError, default_preset, parse_preset
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.action_client import ThreadedActionClient
from dexwm_franka_bringup.cell_config import CellConfigError, load_cell_config
from dexwm_franka_bringup.description import MeshesNotFoundError, robot_description
from dexwm_franka_bringup.image_conversion import ImageMessageError, array_to_image, image_to_array
from dexwm_planner.planner.goal_library import GoalLibrary, GoalLibraryError
from dexwm_planner.planner.goal_services import GoalServices
from dexwm_planner.planner.plan_message import plan_message
from dexwm_planner.planner.plan_overlay import draw_keypoints
from dexwm_planner.planner.planner_inputs import PlannerInputs, StaleInputError
from dexwm_planner.planner.planner_parameters import PlannerParameters
from dexwm_planner.planner.ros_plant import (
    ACTION,
    ExecutionError,
    RosPlant,
    TaskCancelledError,
)
from dexwm_planner.spin_thread import SpinThread
from dexwm_planner.trajectory.commanded_joints import CommandedJoints

TASKS = ('reach', 'grasp', 'place', 'push')

_LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
_DIAGNOSTICS_PERIOD = 1.0
_EXECUTOR_THREADS = 6

_Transition = Callable[['PlannerNode', LifecycleState], TransitionCallbackReturn]


def _logged(transition: _Transition) -> _Transition:
    """The transition; what it raises is logged, for rclpy makes an ERROR of it in silence."""

    @functools.wraps(transition)
    def logged(node: PlannerNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception:
            node.get_logger().error(f'{transition.__name__} failed:\n{traceback.format_exc()}')
            raise

    return logged


class PlannerNode(LifecycleNode):
    """Plans towards goals (action `~/plan_to_goal`), one at a time, and has plans executed."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__('planner', **node_arguments)
        self._settings = PlannerParameters(self)
        self._library = GoalLibrary(self._settings.goals)
        self._planners: dict[str, Planner] = {}
        self._inputs: PlannerInputs | None = None
        self._active = False
        self._busy = threading.Lock()
        self._ending = threading.Event()
        self._last_report = 'none'
        self._plan = self.create_publisher(Plan, '~/plan', _LATCHED)
        self._goal = self.create_publisher(Image, '~/goal', _LATCHED)
        self._predicted = self.create_publisher(Image, '~/predicted', _LATCHED)
        self._overlay = self.create_publisher(Image, '~/overlay', _LATCHED)
        # For recordings: with these a plan can be made again.
        self._observed = self.create_publisher(Image, '~/observed', _LATCHED)
        self._setup = self.create_publisher(String, '~/setup', _LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        calls = MutuallyExclusiveCallbackGroup()
        actions = ReentrantCallbackGroup()
        GoalServices(self, self._library, self._capture, self._image_size, calls)
        self._commanded = CommandedJoints(self)
        self._client = ThreadedActionClient(self, ExecutePlan, ACTION, callback_group=actions)
        self.create_timer(_DIAGNOSTICS_PERIOD, self._report, callback_group=calls)
        self._server = ActionServer(
            self,
            PlanToGoal,
            '~/plan_to_goal',
            self._execute,
            goal_callback=lambda _: GoalResponse.ACCEPT,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            callback_group=actions,
        )

    # Lifecycle

    @_logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads model, robot and camera pose, and plans once for nothing."""
        settings = self._settings
        try:
            if not settings.model:
                raise CheckpointError(
                    'the parameter model is empty: give the folder of a world model'
                )
            if settings.threads:
                torch.set_num_threads(settings.threads)
            self._cell = load_cell_config(
                settings.cell_config or None, settings.camera_calibration or None
            )
            description = robot_description(self._cell)
            self._robot = RobotModel.from_urdf(description)
            self._model = load_checkpoint(settings.model, settings.device)
            self._planners.clear()
            self._planner_of(settings.preset or DEFAULT_PRESET)
        except (
            CellConfigError,
            CheckpointError,
            EncoderError,
            MeshesNotFoundError,
            PlanningError,
            PresetError,
        ) as error:
            self.get_logger().error(f'not configured: {error}')
            return TransitionCallbackReturn.FAILURE
        rows, columns = self._model.encoder.image_size
        with torch.no_grad():
            self._model.encode(
                torch.zeros(1, rows, columns, 3, dtype=torch.uint8, device=settings.device)
            )
        self._publish_setup(description)
        if warning := self._stale_calibration():
            self.get_logger().warning(warning)
        self.get_logger().info(f'{self._model.config.name} from {settings.model} is loaded')
        return super().on_configure(state)

    @_logged
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Starts to listen."""
        settings = self._settings
        self._inputs = PlannerInputs(
            self,
            settings.image_timeout,
            settings.joint_state_timeout,
            settings.max_skew,
            undistort=True,
        )
        self._active = True
        self.get_logger().info(f'ready, preset {settings.preset or "of the task"}')
        return super().on_activate(state)

    @_logged
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ends what is being planned, and stops listening."""
        self._active = False
        with self._busy:
            self._close_inputs()
        return super().on_deactivate(state)

    @_logged
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forgets the model."""
        self._planners.clear()
        del self._model
        return super().on_cleanup(state)

    @_logged
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ends everything."""
        self._active = False
        with self._busy:
            self._close_inputs()
        return super().on_shutdown(state)

    def autostart(self) -> bool:
        """Configures and activates the node, if its parameters say so; False if that failed."""
        if not self._settings.autostart:
            return True
        for transition in (self.trigger_configure, self.trigger_activate):
            if transition() is not TransitionCallbackReturn.SUCCESS:
                return False
        return True

    def end(self) -> None:
        """Has what is being planned or executed end."""
        self._ending.set()

    def wait_idle(self) -> None:
        """Waits for the goal under way: a plan ends within an iteration, a motion in its ramp."""
        with self._busy:
            pass

    def destroy_node(self) -> None:
        """Stops listening, then ends the node."""
        self.end()
        self._active = False
        with self._busy:
            self._close_inputs()
        self._server.destroy()
        self._client.destroy()
        super().destroy_node()

    def _close_inputs(self) -> None:
        if self._inputs is not None:
            self._inputs.close()
            self._inputs = None

    def _planner_of(self, preset: str) -> Planner:
        if preset not in self._planners:
            settings = parse_preset(preset)
            self._planners[preset] = Planner(
                self._model,
                self._robot,
                settings,
                device=self._settings.device,
                boxes=self._cell.boxes,
            )
        return self._planners[preset]

    # Goals

    def _execute(self, handle: ServerGoalHandle) -> PlanToGoal.Result:
        """Plans, and executes if asked; runs in a thread of its own."""
        result = PlanToGoal.Result()
        if not self._busy.acquire(blocking=False):
            return self._refuse(
                handle, result.BUSY, 'another goal is being worked on: cancel it, or wait'
            )
        try:
            return self._run(handle)
        except Exception as error:
            # rclpy would answer with an empty result, whose code says that all went well.
            self.get_logger().error(traceback.format_exc())
            reason = f'an error of the planner: {error!r}; its log says where'
            if handle.is_active:
                return self._refuse(handle, result.PLANNING_FAILED, reason)
            return PlanToGoal.Result(error_code=result.PLANNING_FAILED, error_string=reason)
        finally:
            self._busy.release()

    def _run(self, handle: ServerGoalHandle) -> PlanToGoal.Result:
        request, result = handle.request, PlanToGoal.Result()
        if not self._active or self._inputs is None:
            return self._refuse(
                handle, result.NOT_ACTIVE, 'the planner is not active: configure and activate it'
            )
        try:
            self._inputs.newest()
        except StaleInputError as error:
            code = result.STALE_IMAGE if error.of_picture else result.STALE_STATE
            return self._refuse(handle, code, str(error))
        try:
            goal = self._goal_of(request)
            if request.task not in TASKS:
                raise GoalError(f'unknown task {request.task!r}; there are {", ".join(TASKS)}')
            preset = request.preset or self._settings.preset or default_preset(request.task)
            planner = self._planner_of(preset)
        except (GoalError, GoalLibraryError, ImageMessageError, PresetError) as error:
            return self._refuse(handle, result.INVALID_GOAL, str(error))
        if isinstance(goal, PictureGoal):
            self._publish_picture(self._goal, goal.image)
        try:
            return self._plan_to(handle, goal, planner)
        except (GoalError, PreprocessError) as error:
            return self._refuse(handle, result.INVALID_GOAL, str(error))
        except ExecutionError as error:
            return self._refuse(handle, result.EXECUTION_FAILED, str(error))
        except PlantError as error:
            cause = error.__cause__
            is_state = isinstance(cause, StaleInputError) and not cause.of_picture
            code = result.STALE_STATE if is_state else result.STALE_IMAGE
            return self._refuse(handle, code, str(error))
        except PlanningError as error:
            return self._refuse(handle, result.PLANNING_FAILED, str(error))

    def _plan_to(
        self, handle: ServerGoalHandle, goal: Goal, planner: Planner
    ) -> PlanToGoal.Result:
        request, result = handle.request, PlanToGoal.Result()
        assert self._inputs is not None
        plant = RosPlant(
            self,
            self._inputs,
            self._client,
            self._cell.camera.T_base_from_camera,
            self._settings.execute_timeout,
            lambda: self._should_stop(handle),
            self._commanded,
            request.task in GRIPPING_TASKS,
        )
        budget = request.budget or None

        def on_plan(plan: PlanResult) -> None:
            result.plan = self._publish_plan(plan, planner, plant, request, goal)

        def on_iteration(step: int, iteration: Iteration) -> None:
            handle.publish_feedback(
                PlanToGoal.Feedback(
                    step=step,
                    iteration=iteration.iteration,
                    best_cost=iteration.best_cost,
                    mean_cost=iteration.mean_cost,
                    elapsed=iteration.elapsed,
                )
            )

        reason = 'cancelled'
        try:
            if request.execute:
                closing = ClosingRule() if self._settings.close_hand else None
                outcome: str = run_task(
                    planner,
                    plant,
                    goal,
                    task=request.task,
                    seed=request.seed,
                    budget=budget,
                    closing=closing,
                    on_plan=on_plan,
                    on_iteration=on_iteration,
                    should_stop=lambda: self._should_stop(handle),
                ).outcome
            else:
                plan = planner.plan(
                    plant.observe(),
                    goal,
                    task=request.task,
                    seed=request.seed,
                    budget=budget,
                    on_iteration=lambda iteration: on_iteration(0, iteration),
                    should_stop=lambda: self._should_stop(handle),
                )
                outcome = plan.outcome
                if outcome != 'cancelled':
                    on_plan(plan)
        except TaskCancelledError as cancelled:
            outcome, reason = 'cancelled', str(cancelled)
        if outcome == 'cancelled':
            return self._refuse(handle, result.CANCELLED, reason, result.plan)
        self._last_report = f'{request.task}: done'
        handle.succeed()
        return result

    def _should_stop(self, handle: ServerGoalHandle) -> bool:
        return bool(handle.is_cancel_requested or self._ending.is_set() or not self._active)

    def _refuse(
        self, handle: ServerGoalHandle, code: int, reason: str, plan: Plan | None = None
    ) -> PlanToGoal.Result:
        self._last_report = reason
        self.get_logger().warning(reason)
        if handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        return PlanToGoal.Result(error_code=code, error_string=reason, plan=plan or Plan())

    def _goal_of(self, request: PlanToGoal.Goal) -> Goal:
        """The request's goal.

        Raises:
            GoalError: If it has none, its picture shows nothing, or its keypoints tell none.
            GoalLibraryError: If the library has none of its name.
            ImageMessageError: If its picture is malformed.
        """
        if request.goal_name:
            return PictureGoal(self._library.get(request.goal_name).image)
        if request.goal_image.data:
            return PictureGoal(image_to_array(request.goal_image, 'rgb8'))
        if request.goal_keypoints:
            return KeypointGoal.from_message(request.goal_keypoints)
        raise GoalError('the goal has neither a name, a picture nor keypoints: give one of them')

    def _capture(self) -> NDArray[np.uint8]:
        """A picture of now, for the library.

        Raises:
            GoalLibraryError: If nothing is listened to.
            StaleInputError: If none comes.
        """
        inputs = self._inputs
        if inputs is None:
            raise GoalLibraryError('the planner is not active: configure and activate it')
        now_ns = self.get_clock().now().nanoseconds
        return inputs.wait(now_ns, lambda: self._ending.is_set() or not self._active).image

    def _image_size(self) -> tuple[int, int] | None:
        return self._model.encoder.image_size if self._planners else None

    # What is published

    def _publish_plan(
        self,
        plan: PlanResult,
        planner: Planner,
        plant: RosPlant,
        request: PlanToGoal.Goal,
        goal: Goal,
    ) -> Plan:
        seen = plant.observed
        assert seen is not None
        message = plan_message(
            plan,
            planner.preset,
            seen,
            self._cell.camera.T_base_from_camera,
            request,
            goal,
            self.get_clock().now().to_msg(),
        )
        stamp = message.observation_stamp
        self._observed.publish(array_to_image(seen.image, 'rgb8', Header(stamp=stamp)))
        self._plan.publish(message)
        overlay = draw_keypoints(seen.image, plan.predicted_pixels[-1], plan.goal_pixels)
        self._publish_picture(self._overlay, overlay)
        if plan.predicted_latents is not None:
            picture = planner.decode(plan.predicted_latents[-1])
            if picture is not None:
                self._publish_picture(self._predicted, picture)
        terms = ', '.join(f'{name} {value:.3g}' for name, value in plan.terms.items())
        self.get_logger().info(
            f'plan {plan.replan + 1} for {plan.task} in {plan.seconds["total"]:.1f} s: {terms}'
        )
        return message

    def _publish_setup(self, description: str) -> None:
        settings = self._settings
        setup = PlannerSetup(
            model=str(Path(settings.model).absolute()),
            checkpoint_digest=self._planner_of(
                settings.preset or DEFAULT_PRESET
            ).checkpoint_digest,
            robot_description=description,
            boxes=tuple(self._cell.boxes),
            compute=ComputeSetup.of_this_process(settings.device),
            parameters={
                name: parameter.value
                for name, parameter in self.get_parameters_by_prefix('').items()
            },
        )
        self._setup.publish(String(data=setup.to_text()))

    def _publish_picture(self, publisher: Any, image: np.ndarray) -> None:
        header = Header(stamp=self.get_clock().now().to_msg())
        publisher.publish(array_to_image(image, 'rgb8', header))

    def _report(self) -> None:
        problem, warning = 'not active', ''
        # Deactivating in another thread may take it away meanwhile.
        inputs = self._inputs
        if self._active and inputs is not None:
            problem = inputs.problem()
            warning = self._stale_calibration()
        state = 'planning' if self._busy.locked() else 'ready'
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if problem or warning else DiagnosticStatus.OK,
            name='planner: plans',
            message=problem or (f'{state}; {warning}' if warning else state),
            hardware_id=self._settings.device,
            values=[
                # A warning keeps nobody from planning, a problem does; both are WARN.
                KeyValue(key='state', value='not ready' if problem else state),
                KeyValue(key='warning', value=warning),
                KeyValue(key='model', value=self._settings.model),
                KeyValue(key='preset', value=self._settings.preset or 'of the task'),
                KeyValue(key='last_result', value=self._last_report),
            ],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _stale_calibration(self) -> str:
        calibration = self._cell.calibration
        if calibration is None:
            return ''
        max_age = timedelta(days=self._settings.calibration_max_age)
        return calibration.stale(datetime.now(UTC), max_age)


def main() -> int:
    """Runs the node; on SIGINT or SIGTERM what is planned or executed ends first."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = PlannerNode()
    executor = MultiThreadedExecutor(num_threads=_EXECUTOR_THREADS)
    executor.add_node(node)
    spinner = SpinThread(executor, stop.set)
    started = node.autostart()
    spinner.start()
    if started:
        stop.wait()
    node.end()
    node.wait_idle()
    spinner.stop()
    node.destroy_node()
    rclpy.try_shutdown()
    spinner.raise_failure()
    return 0 if started else 1


if __name__ == '__main__':
    sys.exit(main())
