"""What a person tells the trajectory node: stop, resume, emergency stop, recover, confirm."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dexwm_msgs.srv import ConfirmPlan
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from dexwm.control.confirmation import Confirmation
from dexwm.control.motion import Chunk, Phase
from dexwm.control.supervision import MotionSupervisor
from dexwm_planner.trajectory.recovery import Recovery, RecoveryError


class OperatorServices:
    """Offers `~/stop`, `~/resume`, `~/emergency_stop`, `~/recover` and `~/confirm`."""

    def __init__(
        self,
        node: Node,
        supervisor: MotionSupervisor,
        confirmation: Confirmation,
        recovery: Recovery,
        lock: threading.RLock,
        send: Callable[[Callable[[int], Chunk | None]], object],
    ) -> None:
        """Creates the services.

        Args:
            node: offers them, and gives the clock.
            supervisor: of the motion.
            confirmation: has the question that waits for an answer.
            recovery: gives arm and hand back after a fault.
            lock: of supervisor and confirmation.
            send: sends the controllers what the supervisor says at the time it is given (ns).
        """
        self._node, self._supervisor, self._confirmation = node, supervisor, confirmation
        self._recovery, self._lock, self._send = recovery, lock, send
        group = MutuallyExclusiveCallbackGroup()
        # It takes seconds; stopping may not wait for it.
        slow = MutuallyExclusiveCallbackGroup()
        for kind, name, callback, callbacks in (
            (Trigger, '~/stop', self._on_stop, group),
            (Trigger, '~/resume', self._on_resume, group),
            (SetBool, '~/emergency_stop', self._on_emergency_stop, group),
            (ConfirmPlan, '~/confirm', self._on_confirm, group),
            (Trigger, '~/recover', self._on_recover, slow),
        ):
            node.create_service(kind, name, callback, callback_group=callbacks)

    def halt(self, reason: str) -> None:
        """Ramp down and refuse plans until ~/resume."""
        with self._lock:
            self._send(lambda now_ns: self._supervisor.halt(reason, now_ns))
        self._node.get_logger().warning(reason)

    def _now_ns(self) -> int:
        return self._node.get_clock().now().nanoseconds

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.halt('stopped by ~/stop; call ~/resume to accept plans again')
        response.success = True
        response.message = 'plans are refused until ~/resume'
        return response

    def _on_resume(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            latched = self._supervisor.gate.latched
            problem = self._supervisor.resume(self._now_ns())
        response.success = not problem
        if problem:
            response.message = f'not resumed, {problem}'
        else:
            response.message = 'plans are accepted again' if latched else 'was not stopped'
        self._node.get_logger().info(response.message)
        return response

    def _on_emergency_stop(
        self, request: SetBool.Request, response: SetBool.Response
    ) -> SetBool.Response:
        response.success = True
        if request.data:
            reason = 'the emergency stop is engaged; release it, then call ~/resume'
            with self._lock:
                self._send(lambda now_ns: self._supervisor.emergency_stop(reason, now_ns))
            self._node.get_logger().error(reason)
            response.message = reason
            return response
        with self._lock:
            self._supervisor.gate.release()
        response.message = 'released; plans are refused until ~/resume'
        self._node.get_logger().warning(f'emergency stop: {response.message}')
        return response

    def _on_recover(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            moving = self._supervisor.streamer.phase(self._now_ns()) is not Phase.IDLE
            problem = 'the robot moves; stop it first' if moving else ''
            problem = problem or self._supervisor.gate.begin_recovery()
        if not problem:
            try:
                self._recovery.recover()
            except RecoveryError as error:
                problem = str(error)
            with self._lock:
                self._supervisor.end_recovery(problem)
        response.success = not problem
        response.message = problem or 'recovered; nothing moves until ~/resume'
        # rclpy refuses two severities from one line.
        if problem:
            self._node.get_logger().error(response.message)
        else:
            self._node.get_logger().warning(response.message)
        return response

    def _on_confirm(
        self, request: ConfirmPlan.Request, response: ConfirmPlan.Response
    ) -> ConfirmPlan.Response:
        with self._lock:
            response.message = self._confirmation.answer(
                request.plan_id, request.accept, time.monotonic_ns()
            )
        response.success = not response.message
        return response
