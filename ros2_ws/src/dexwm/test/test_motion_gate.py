import numpy as np
import pytest

from dexwm.control.clock_watch import ClockWatch
from dexwm.control.confirmation import Answer, Confirmation
from dexwm.control.driver_watch import DriverWatch
from dexwm.control.heartbeat_watch import HeartbeatWatch
from dexwm.control.keep_out_watch import KeepOutWatch
from dexwm.control.motion_gate import Fault, GateState, MotionGate
from dexwm.control.outcome import Outcome
from dexwm.robot.collision import Contact
from dexwm.robot.franka_errors import ERRORS, describe_errors, describe_mode

S = 1_000_000_000
LOST = Fault(Outcome.STALE_STATE, 'the camera is gone')
REFLEX = Fault(Outcome.NO_CONTROLLER, 'reflex', latches=True)


def gate_with(faults, latching=True):
    return MotionGate([lambda now_ns: faults[0] if faults else None], latching)


def test_what_is_missing_at_rest_only_keeps_the_gate_closed_while_it_lasts():
    faults = [LOST]
    gate = gate_with(faults)
    assert gate.check(0, moving=False) is LOST
    assert gate.state(moving=False) is GateState.RUN
    faults.clear()
    assert gate.check(1, moving=False) is None


@pytest.mark.parametrize(
    ('fault', 'latching', 'moving', 'latched'),
    [
        (LOST, True, True, True),
        (LOST, False, True, False),
        (REFLEX, True, False, True),
        (REFLEX, False, False, True),
    ],
)
def test_what_latches(fault, latching, moving, latched):
    faults = [fault]
    gate = gate_with(faults, latching)
    assert gate.check(0, moving) is fault
    faults.clear()
    assert gate.check(1, moving) is (fault if latched else None)
    assert gate.state(moving=True) is (GateState.STOPPING if latched else GateState.RUN)
    assert gate.state(moving=False) is (GateState.STOPPED if latched else GateState.RUN)
    assert gate.resume(2) == ''
    assert gate.check(3, moving) is None


def test_resume_is_refused_while_the_cause_lasts():
    faults = [REFLEX]
    gate = gate_with(faults)
    gate.check(0, moving=True)
    faults[:] = [LOST]
    assert gate.resume(1) == 'still: the camera is gone'
    assert gate.latched is LOST
    faults.clear()
    assert gate.resume(2) == ''


ONCE = Fault(Outcome.COLLISION, 'the palm is in a box', latches=True, once=True)


def test_what_is_told_once_while_the_gate_is_closed_is_told_before_it_opens():
    faults = []
    gate = gate_with(faults)
    gate.halt('stopped')
    faults.append(ONCE)
    assert gate.check(0, moving=False).reason == 'stopped'
    faults.clear()
    assert gate.met == {Outcome.COLLISION}
    assert gate.resume(1) == 'still: the palm is in a box'
    assert gate.latched is ONCE
    assert gate.resume(2) == '' and not gate.met


def test_a_fault_that_latches_is_not_hidden_by_one_that_does_not():
    faults = [LOST, ONCE]
    gate = MotionGate([lambda _: faults[0], lambda _: faults[1]], latching=False)
    assert gate.check(0, moving=False) is ONCE
    faults[:] = [None, None]
    assert gate.check(1, moving=False) is ONCE
    assert gate.met == {Outcome.STALE_STATE, Outcome.COLLISION}
    assert gate.resume(2) == ''


def test_the_emergency_stop_must_be_released_then_resumed():
    gate = gate_with([])
    gate.halt('stopped')
    gate.emergency_stop('pressed')
    assert gate.latched.reason == 'pressed'
    assert 'release it first' in gate.resume(0)
    assert 'release it first' in gate.begin_recovery()
    gate.release()
    assert gate.state(moving=False) is GateState.STOPPED
    assert gate.resume(1) == '' and gate.latched is None
    gate.release()
    assert gate.latched is None


@pytest.mark.parametrize('problem', ['', 'no answer'])
def test_a_recovery_leaves_the_robot_stopped(problem):
    gate = gate_with([])
    assert gate.begin_recovery() == ''
    assert gate.state(moving=False) is GateState.RECOVERING
    assert 'already' in gate.begin_recovery()
    assert 'under way' in gate.resume(0)
    gate.end_recovery(problem)
    assert gate.state(moving=False) is GateState.STOPPED
    assert (problem or 'recovered') in gate.latched.reason
    assert gate.resume(1) == ''


def test_an_emergency_stop_during_a_recovery_stays():
    gate = gate_with([])
    gate.begin_recovery()
    gate.emergency_stop('pressed')
    gate.end_recovery('')
    assert gate.latched.reason == 'pressed' and 'release' in gate.resume(0)


def test_heartbeats_count_only_with_new_stamps():
    watch = HeartbeatWatch(['/a'], 0.3)
    assert 'never came' in watch(S).reason
    watch.observe('/a', 5, S)
    assert watch(S + S // 4) is None
    assert '/a was silent for 0.40 s' in watch(S + 4 * S // 10).reason
    for k in range(5):
        watch.observe('/a', 5, S + k * S // 10)
    assert 'same stamp for 0.40 s' in watch(S + 4 * S // 10).reason
    watch.observe('/a', 6, S + 4 * S // 10)
    assert watch(S + 4 * S // 10) is None


def test_drivers_must_be_well_and_heard():
    watch = DriverWatch(['arm'], 2.0)
    assert not watch.observe('other', 2, 'broken', S)
    assert "nothing was heard of 'arm'" in watch(S).reason
    assert not watch.observe('arm', 1, 'warm', S)
    assert watch(2 * S) is None
    silent = watch(4 * S)
    assert 'silent for 3.00 s' in silent.reason and not silent.latches
    assert watch.observe('arm', 2, 'joint_reflex', 4 * S)
    assert watch(4 * S).reason == 'arm: joint_reflex' and watch(4 * S).latches
    assert watch.observe('arm', 3, 'no news', 5 * S)
    assert watch(5 * S).reason == 'arm: no news' and not watch(5 * S).latches


class Clocks:
    """A clock, and a steady one, that are moved on by hand."""

    def __init__(self, may_lag):
        self.now, self.steady, self.resting = 100 * S, 7 * S, False
        self.watch = ClockWatch(
            lambda: self.now, lambda: self.steady, 0.1, may_lag, lambda: self.resting
        )

    def look(self, clock, steady):
        self.now += round(clock * S)
        self.steady += round(steady * S)
        fault = self.watch(self.now)
        return fault.reason if fault else ''


def test_jumps_of_the_clock_are_told_once():
    clocks = Clocks(may_lag=False)
    assert clocks.look(0, 0) == ''
    assert clocks.look(3.0, 3.0) == ''
    assert 'jumped by +2.00 s' in clocks.look(2.05, 0.05)
    assert clocks.look(0.05, 0.05) == ''
    assert 'jumped by -1.00 s' in clocks.look(-0.95, 0.05)
    assert clocks.look(0.05, 0.05) == ''
    clocks.now += S
    fault = clocks.watch(0)
    assert fault.abandon and fault.latches


def test_a_simulated_clock_may_stand_and_catch_up():
    clocks = Clocks(may_lag=True)
    assert clocks.look(0, 0) == ''
    assert clocks.look(0.0, 1.0) == ''
    assert clocks.look(0.8, 0.1) == ''
    assert 'jumped by +' in clocks.look(2.0, 0.1)
    assert clocks.look(0.1, 0.1) == ''
    assert 'jumped by -0.50 s' in clocks.look(-0.5, 0.1)
    assert clocks.look(0.1, 0.1) == ''


def test_a_simulated_clock_that_was_late_at_first_may_run_ahead_while_nothing_moves():
    clocks = Clocks(may_lag=True)
    clocks.resting = True
    assert clocks.look(0, 0) == ''
    assert clocks.look(0.4, 0.05) == ''
    clocks.resting = False
    # From here on it is compared with where it came to.
    assert clocks.look(0.05, 0.05) == ''
    assert 'jumped by +0.30 s' in clocks.look(0.35, 0.05)
    clocks.resting = True
    assert 'jumped by -0.50 s' in clocks.look(-0.5, 0.1)
    real = Clocks(may_lag=False)
    real.resting = True
    assert real.look(0, 0) == ''
    assert 'jumped by +0.35 s' in real.look(0.4, 0.05)


class Boxes:
    """Stands for the geometry: contacts as told."""

    def __init__(self):
        self.contacts = []

    def check(self, q):
        return self.contacts


def test_a_body_deep_in_a_box_is_told_once_and_again_if_it_goes_deeper():
    boxes = Boxes()
    watch = KeepOutWatch(boxes, frozenset({'wall'}), lambda: np.zeros(23), 0.01, 0.1)
    boxes.contacts = [Contact('palm_link', 'wall', -0.005), Contact('a', 'b', -0.5)]
    assert watch(1 * S) is None
    boxes.contacts = [Contact('palm_link', 'wall', -0.02)]
    fault = watch(2 * S)
    assert 'palm_link is 20 mm inside the box wall' in fault.reason
    assert fault.latches and fault.outcome is Outcome.COLLISION
    assert watch(3 * S) is None
    boxes.contacts = [Contact('palm_link', 'wall', -0.04)]
    assert '40 mm' in watch(4 * S).reason
    # Not asked more often than its period.
    boxes.contacts = [Contact('palm_link', 'wall', -0.08)]
    assert watch(4 * S + 1) is None
    boxes.contacts = []
    assert watch(5 * S) is None
    boxes.contacts = [Contact('palm_link', 'wall', -0.02)]
    assert watch(6 * S) is not None


def test_a_confirmation_holds_for_one_plan_and_in_time():
    desk = Confirmation(10.0)
    assert 'no plan waits' in desk.answer('a', True, 0)
    desk.ask('a', 'grasp', 3, 0)
    assert desk.pending(S).plan_id == 'a'
    assert 'the plan that waits is a' in desk.answer('b', True, S)
    assert desk.look('a', S) is Answer.WAITING
    assert desk.answer('a', True, S) == ''
    assert desk.look('a', S) is Answer.ACCEPTED and desk.pending(S) is None
    desk.ask('b', 'grasp', 3, 2 * S)
    assert desk.look('a', 2 * S) is Answer.WITHDRAWN
    assert desk.look('b', 12 * S) is Answer.EXPIRED
    assert 'no plan waits' in desk.answer('b', True, 12 * S)
    desk.ask('c', 'grasp', 3, 13 * S)
    assert desk.answer('c', False, 14 * S) == ''
    assert desk.look('c', 14 * S) is Answer.DECLINED
    desk.withdraw('c')
    assert desk.look('c', 14 * S) is Answer.WITHDRAWN


@pytest.mark.parametrize('kind', [Confirmation, lambda t: HeartbeatWatch([], t)])
def test_timeouts_must_be_positive(kind):
    with pytest.raises(ValueError, match='must be positive'):
        kind(0.0)


def test_every_flag_of_libfranka_has_words():
    franka = pytest.importorskip('pylibfranka')
    flags = {name for name in dir(franka.Errors) if not name.startswith('_')}
    assert flags == set(ERRORS)
    modes = {name for name in dir(franka.RobotMode) if name[0].isupper()}
    assert {mode for mode in modes if not describe_mode(mode)} == {'Idle', 'Move', 'Other'}


def test_errors_are_told_with_what_to_do():
    text = describe_errors(['joint_reflex', 'unheard_of'])
    assert text.startswith('joint_reflex: a joint felt a collision')
    assert 'unheard_of' in text and text.count('~/recover') == 2
    assert describe_errors([]) == ''
