"""From fault to stop: one fault after the other in the simulated cell, in mid-motion.

Measured with the hardware's settings: speed scale 0.2, joint states at most 0.1 s old, camera at
most 0.3 s silent. The time is that from the fault to the first moment in which the controllers,
given what they were sent, command no motion any more. It should be no longer than it may take to
notice the fault, a tick of the stream, and a stop from the fastest motion. The peaks are fractions
of the joints' limits of acceleration and jerk from the fault on.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dexwm_msgs.msg import MotionState
from diagnostic_msgs.msg import DiagnosticStatus

from benchmarks.fault_cell import (
    DRIVER,
    FALSE_TURN,
    TICK,
    FaultCell,
    Filters,
    LateCommandError,
    Stop,
)
from benchmarks.measurement import BenchmarkError, Goal, Measurement, Settings
from dexwm.control.motion import MotionConfig
from dexwm.robot.joints import ARM_JOINTS, HAND_JOINTS, JOINTS

# How old joint states, and how silent a camera, may be on hardware (s); and a driver here.
_STATES, _CAMERA, _DRIVER = 0.1, 0.3, 0.6
_AT_ONCE = 0.0

NODES: Mapping[str, Mapping[str, Any]] = {
    'cell': {'objects': "['can']", 'quality': 'fast'},
    'camera': {'source': 'sim', 'width': 196, 'height': 112, 'rate': 10.0},
    'trajectory': {
        'drivers': f"['{DRIVER}']",
        'driver_timeout': _DRIVER,
        # A false measurement is to be found by the box, not by the tracking.
        'tracking_tolerance_arm': 1.0,
    },
}
_PEAK = Goal(1.0, at_least=False)
# From noticing to rest at worst (dexwm.control.motion).
_STOP = 0.21
_ATTEMPTS = 8


def _lose(*joints: str) -> Callable[[FaultCell], None]:
    def inject(cell: FaultCell) -> None:
        cell.filters.lost = frozenset(joints)

    return inject


def _freeze(cell: FaultCell) -> None:
    cell.filters.frozen = True


def _hang_camera(cell: FaultCell) -> None:
    cell.signal('camera', signal.SIGSTOP)


def _break_driver(cell: FaultCell) -> None:
    cell.filters.driver = (DiagnosticStatus.ERROR, 'a joint is too hot')
    cell.report_driver(*cell.filters.driver)


def _silence_driver(cell: FaultCell) -> None:
    cell.filters.driver = None


def _turn_into_box(cell: FaultCell) -> None:
    cell.filters.false_turn = FALSE_TURN


def _stop(cell: FaultCell) -> None:
    cell.call('stop')


def _emergency_stop(cell: FaultCell) -> None:
    cell.emergency_stop(True)


def _jump(cell: FaultCell) -> None:
    cell.filters.clock_jump = 2.0


@dataclass(frozen=True)
class Fault:
    """A fault that a motion meets.

    Attributes:
        inject: brings it about.
        reason: part of what the trajectory node says of it.
        noticed_within: how long the trajectory node may take to notice it, but for a tick (s).
        turn: where the first joint is then, at least (rad); None: anywhere at speed.
    """

    inject: Callable[[FaultCell], None]
    reason: str
    noticed_within: float
    turn: float | None = None


FAULTS: Mapping[str, Fault] = {
    'camera hangs': Fault(_hang_camera, 'was silent', _CAMERA),
    'camera repeats its stamp': Fault(_freeze, 'the same stamp', _CAMERA),
    'joint states stop': Fault(_lose(*JOINTS), 'the joint state of', _STATES),
    'joint states of the arm stop': Fault(
        _lose(*ARM_JOINTS), 'the joint state of fr3_joint', _STATES
    ),
    'joint states of the hand stop': Fault(
        _lose(*HAND_JOINTS), 'the joint state of joint_', _STATES
    ),
    'driver reports an error': Fault(_break_driver, 'a joint is too hot', _AT_ONCE),
    'driver is silent': Fault(_silence_driver, f'{DRIVER!r} was silent', _DRIVER),
    'hand enters a box': Fault(_turn_into_box, 'inside the box keep_out', 0.1, turn=0.3),
    'stop': Fault(_stop, 'stopped by ~/stop', _AT_ONCE),
    'emergency stop': Fault(_emergency_stop, 'emergency stop', _AT_ONCE),
}
"""Faults after which the same nodes go on."""


def swing(cell: FaultCell) -> Any:
    """Sends the arm off; returns the future of the result once it is at speed.

    A busy machine may be late without any fault of ours: then it is sent again.

    Raises:
        BenchmarkError: If it does not get there in so many attempts.
    """
    for attempt in range(_ATTEMPTS):
        future = cell.send()
        try:
            cell.until_fast(future)
            return future
        except BenchmarkError:
            if attempt == _ATTEMPTS - 1:
                raise
            resume(cell)
    raise AssertionError


def provoke(cell: FaultCell, fault: Fault) -> tuple[Stop, Any]:
    """Has a motion meet a fault; the robot rests afterwards.

    A motion that a busy machine ended before is no measurement, and is tried again.

    Returns:
        How it stopped, and the result of the motion.

    Raises:
        BenchmarkError: If so many motions end, but not by this fault.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            mend(cell)
            resume(cell)
        while fault.turn is not None and cell.turn > -0.2:
            cell.result(swing(cell))
            resume(cell)
        future = swing(cell)
        if fault.turn is not None:
            cell.until_turn(fault.turn, future)
        fault_ns = cell.now_ns()
        fault.inject(cell)
        result = cell.result(future)
        cell.until_rest()
        ended = result.error_string
        if fault.reason in ended:
            try:
                return cell.measure(fault_ns), result
            except LateCommandError as error:
                ended = str(error)
    raise BenchmarkError(f'{fault.reason!r} expected, but {ended}')


def mend(cell: FaultCell) -> None:
    """Takes the fault away; the robot stays stopped."""
    cell.filters = Filters()
    cell.report_driver(*cell.filters.driver)
    cell.signal('camera', signal.SIGCONT)
    cell.emergency_stop(False)


def resume(cell: FaultCell) -> None:
    """Resumes, once what is missing has come back."""
    cell.until(lambda: cell.call('resume').success, 'to be resumed')
    cell.until_ready()


def run(settings: Settings) -> list[Measurement]:
    """Measures; raises BenchmarkError where that is not possible."""
    measurements: list[Measurement] = []

    def note(name: str, stop: Stop, noticed_within: float) -> None:
        settings.console.print(f'  {name}: {stop}')
        in_time = Goal(noticed_within + TICK + _STOP, at_least=False)
        measurements.append(Measurement(f'{name}: to rest', stop.commanded, 's', in_time))
        if stop.measured is not None:
            measurements.append(Measurement(f'{name}: to measured rest', stop.measured, 's'))
        for what, value in (('acceleration', stop.acceleration), ('jerk', stop.jerk)):
            measurements.append(Measurement(f'{name}: peak {what} of limit', value, '', _PEAK))

    with FaultCell(settings.directory, NODES) as cell:
        cell.until_ready()
        for name, fault in FAULTS.items():
            stop, _ = provoke(cell, fault)
            note(name, stop, fault.noticed_within)
            mend(cell)
            resume(cell)
        for name, kill, noticed_within in (
            ('trajectory node is told to end', signal.SIGTERM, _AT_ONCE),
            ('trajectory node is killed', signal.SIGKILL, MotionConfig.horizon),
            ('trajectory node hangs', signal.SIGSTOP, MotionConfig.horizon),
        ):
            swing(cell)
            fault_ns = cell.now_ns()
            cell.signal('trajectory', kill)
            note(name, cell.measure(fault_ns), noticed_within)
            cell.kill('trajectory')
            cell.start('trajectory', NODES['trajectory'])
            cell.until_ready()
        cell.kill('trajectory')
        cell.start('trajectory', {**NODES['trajectory'], 'use_sim_time': True})
        cell.until_ready()
        jump = Fault(_jump, 'the clock jumped', _AT_ONCE)
        stop, _ = provoke(cell, jump)
        note('clock jumps', stop, jump.noticed_within)
        cell.filters = Filters()
        cell.kill('trajectory')
        cell.start('trajectory', NODES['trajectory'])
        cell.until_ready()
        future = swing(cell)
        fault_ns = cell.now_ns()
        cell.kill('cell')
        cell.result(future)
        note('controllers are killed', cell.measure(fault_ns), _STATES)
        if cell.state is None or cell.state.state != MotionState.STOPPED:
            raise BenchmarkError('the trajectory node did not stay stopped')
    return measurements
