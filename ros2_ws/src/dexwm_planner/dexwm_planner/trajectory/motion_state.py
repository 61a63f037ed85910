"""The state of the motion as messages: whether the robot may move, and why not."""

from __future__ import annotations

import time
from collections.abc import Mapping

from dexwm_msgs.msg import MotionState
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.time import Time

from dexwm.control.confirmation import Confirmation
from dexwm.control.motion import Phase
from dexwm.control.supervision import MotionSupervisor
from dexwm_franka_bringup.driver_node import key_values

_NAMES = {
    MotionState.RUN: 'run',
    MotionState.STOPPING: 'stopping',
    MotionState.STOPPED: 'stopped',
    MotionState.RECOVERING: 'recovering',
}


def motion_state(
    supervisor: MotionSupervisor, confirmation: Confirmation, now_ns: int
) -> MotionState:
    """The message of `~/state`.

    Args:
        supervisor: of the motion.
        confirmation: has the question that waits for an answer.
        now_ns: ROS time.
    """
    moving = supervisor.streamer.phase(now_ns) is not Phase.IDLE
    fault = supervisor.gate.check(now_ns, supervisor.current is not None)
    message = MotionState(
        state=int(supervisor.gate.state(moving)),
        reason=fault.reason if fault is not None else '',
        moving=moving,
    )
    message.header.stamp = Time(nanoseconds=now_ns).to_msg()
    question = confirmation.pending(time.monotonic_ns())
    if question is not None:
        message.confirm_plan_id = question.plan_id
        message.confirm_task = question.task
        message.confirm_waypoints = question.waypoints
        left = (question.expires_ns - time.monotonic_ns()) * 1e-9
        message.confirm_seconds_left = max(0.0, left)
    return message


def in_words(state: MotionState) -> str:
    """The state and its reason."""
    return f'{_NAMES[state.state]}{": " if state.reason else ""}{state.reason}'


def motion_diagnosis(
    state: MotionState, phase: Phase, hardware_id: str, values: Mapping[str, object]
) -> DiagnosticStatus:
    """The status `trajectory: motion` of `/diagnostics`.

    Args:
        state: of the motion.
        phase: of it.
        hardware_id: what moves.
        values: more about it.
    """
    level = DiagnosticStatus.OK
    if state.reason:
        level = DiagnosticStatus.WARN
    if state.state != MotionState.RUN:
        level = DiagnosticStatus.ERROR
    return DiagnosticStatus(
        level=level,
        name='trajectory: motion',
        message=state.reason or phase.value,
        hardware_id=hardware_id,
        values=key_values({'state': _NAMES[state.state], 'phase': phase.value, **values}),
    )
