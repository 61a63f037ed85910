import numpy as np
import pytest

from dexwm.control.clock_watch import ClockWatch
from dexwm.control.joint_state_buffer import JointStateBuffer
from dexwm.control.motion import Phase, SpliceMissed
from dexwm.control.motion_gate import Fault, GateState
from dexwm.control.outcome import Outcome, PlanRefused
from dexwm.control.supervision import MotionSupervisor
from dexwm.control.timing import time_waypoints
from dexwm.robot.joints import ARM_JOINTS, HAND_JOINTS, HOME, JOINTS, robot_limits

LIMITS = robot_limits()
MS = 1_000_000
EPOCH = 1_700_000_000_000_000_000
TOLERANCE = np.where(np.arange(23) < 7, 0.1, np.inf)


class Bench:
    """A robot that follows perfectly, plus an offset, and reports every 10 ms."""

    def __init__(self, *watches, latching=False):
        self.supervisor = MotionSupervisor(
            LIMITS, TOLERANCE, 0.1, watches=watches, latching=latching
        )
        self.now = EPOCH
        self.offset = np.zeros(23)
        self.silent = False
        self.in_time = True
        self.report()

    def report(self):
        if not self.silent:
            commanded = self.supervisor.streamer.commanded(self.now)
            q = (HOME if commanded is None else commanded.positions) + self.offset
            stamp = self.now
            self.supervisor.observe(ARM_JOINTS, q[:7], stamp, self.now)
            self.supervisor.observe(HAND_JOINTS, q[7:], stamp, self.now)

    def run(self, seconds):
        for i in range(round(seconds * 100)):
            self.now += 10 * MS
            self.report()
            if i % 5 == 0:
                self.supervisor.tick(self.now)

    def start(self, goal, lead=0.1):
        splice = self.supervisor.splice_point(self.now, lead)
        motion = time_waypoints(splice.state, goal[None], LIMITS.with_margin(0.05), 0.2)
        return self.supervisor.start(motion, splice, self.now, self.send)

    def send(self, chunk):
        assert chunk.trajectory.names == JOINTS
        return self.in_time


def goal(distance=0.6):
    q = HOME.copy()
    q[0] += distance
    return q


def test_success():
    bench = Bench()
    execution = bench.start(goal())
    bench.run(1.0)
    progress = bench.supervisor.progress(bench.now)
    assert 0.2 < progress.fraction < 0.8
    assert progress.time_remaining + 1.0 == pytest.approx(
        execution.motion.trajectory.duration, abs=0.4
    )
    bench.run(2.0)
    assert execution.outcome is Outcome.SUCCESSFUL and execution.reason == ''
    assert execution.duration == pytest.approx(execution.motion.trajectory.duration, abs=0.01)
    assert execution.max_tracking_error < 1e-9
    assert bench.supervisor.current is None and bench.supervisor.progress(bench.now) is None


def test_silent_joint_states_stop_the_motion():
    bench = Bench()
    execution = bench.start(goal())
    bench.run(1.0)
    bench.silent = True
    silence = bench.now
    bench.run(0.6)
    assert execution.outcome is Outcome.STALE_STATE
    assert 'joint state' in execution.reason
    # 0.1 s of patience, up to one tick to notice, then at most 0.21 s to rest.
    assert (execution.end_ns - silence) * 1e-9 < 0.1 + 0.05 + 0.21
    with pytest.raises(PlanRefused, match='STALE_STATE'):
        bench.start(goal())


def test_tracking_error_stops_the_motion():
    bench = Bench()
    execution = bench.start(goal())
    bench.run(1.0)
    bench.offset[2] = 0.11
    bench.run(0.5)
    assert execution.outcome is Outcome.TRACKING
    assert 'fr3_joint3 is 0.110 rad from where it should be' in execution.reason
    assert execution.max_tracking_error == pytest.approx(0.11)
    # What was pushed away starts again from where it is.
    splice = bench.supervisor.splice_point(bench.now, 0.1)
    assert splice.adopted
    assert splice.state.positions[2] == pytest.approx(HOME[2] + 0.11)


def test_fingers_held_back_do_not_stop_the_motion_and_keep_their_command():
    bench = Bench()
    closed = goal()
    closed[8] += 0.8
    execution = bench.start(closed)
    bench.offset[8] = -0.5
    bench.run(4.0)
    assert execution.outcome is Outcome.SUCCESSFUL
    splice = bench.supervisor.splice_point(bench.now, 0.1)
    assert not splice.adopted
    assert splice.state.positions[8] == pytest.approx(closed[8])


def test_second_plan_preempts_the_first():
    bench = Bench()
    first = bench.start(goal())
    bench.run(0.5)
    second = bench.start(goal(-0.3))
    assert first.outcome is Outcome.PREEMPTED and second.outcome is None
    bench.run(5.0)
    assert second.outcome is Outcome.SUCCESSFUL
    there = bench.supervisor.streamer.commanded(bench.now).positions
    np.testing.assert_allclose(there, goal(-0.3))


def test_halt_stops_and_refuses_until_resume():
    bench = Bench()
    execution = bench.start(goal())
    bench.run(1.0)
    bench.supervisor.halt('stopped by a person', bench.now)
    assert bench.supervisor.streamer.phase(bench.now) is Phase.STOPPING
    bench.run(0.5)
    assert execution.outcome is Outcome.STOPPED
    with pytest.raises(PlanRefused, match='stopped by a person'):
        bench.start(goal())
    assert bench.supervisor.gate.resume(bench.now) == ''
    assert bench.supervisor.tick(bench.now) is None
    again = bench.start(goal())
    bench.run(4.0)
    assert again.outcome is Outcome.SUCCESSFUL


def test_watch_stops_and_refuses():
    lost = []
    bench = Bench(lambda now_ns: lost[0] if lost else None)
    execution = bench.start(goal())
    bench.run(1.0)
    lost.append(Fault(Outcome.NO_CONTROLLER, 'the arm controller is gone'))
    bench.run(0.5)
    assert execution.outcome is Outcome.NO_CONTROLLER
    assert execution.reason == 'the arm controller is gone'
    with pytest.raises(PlanRefused, match='NO_CONTROLLER'):
        bench.start(goal())


def test_a_stop_that_could_not_be_sent_in_time_is_sent_again():
    lost = []
    bench = Bench(lambda now_ns: lost[0] if lost else None)
    execution = bench.start(goal())
    bench.run(1.0)
    lost.append(Fault(Outcome.NO_CONTROLLER, 'the arm controller is gone'))
    fault_ns = bench.now
    assert bench.supervisor.tick(bench.now) is not None
    bench.supervisor.streamer.take_back()
    bench.run(0.5)
    assert execution.outcome is Outcome.NO_CONTROLLER
    # Noticed one tick later, and at rest 0.21 s after that.
    assert (execution.end_ns - fault_ns) * 1e-9 < 0.05 + 0.21
    assert bench.supervisor.commanded(bench.now)[0] < goal()[0] - 0.1


def test_a_motion_that_a_late_tick_makes_impossible_ends_and_the_one_before_stops():
    bench = Bench()
    first = bench.start(goal())
    bench.run(0.5)
    second = bench.start(goal(-0.3), lead=0.6)
    assert first.outcome is Outcome.PREEMPTED
    last = bench.supervisor.commanded(bench.now)
    for _ in range(30):
        bench.now += 10 * MS
        bench.report()
    bench.run(2.0)
    assert bench.supervisor.streamer.late_ticks == 1
    assert second.outcome is Outcome.REFUSED and 'too slow' in second.reason
    there = bench.supervisor.commanded(bench.now)
    # On the first one's way, as far as it had been sent: 0.15 s and the ramp.
    assert last[0] < there[0] < last[0] + 0.25
    again = bench.start(goal(-0.3))
    bench.run(4.0)
    assert again.outcome is Outcome.SUCCESSFUL


def test_a_fault_that_comes_and_goes_while_stopped_is_not_forgotten():
    lost = []
    bench = Bench(lambda now_ns: lost[0] if lost else None)
    bench.start(goal())
    bench.run(4.0)
    bench.supervisor.halt('stopped by a person', bench.now)
    lost.append(Fault(Outcome.NO_CONTROLLER, 'the hand driver failed'))
    bench.run(0.2)
    lost.clear()
    # It was started anew, and the fingers are not where they were told to be.
    bench.offset[7:] = 0.26
    bench.run(0.2)
    assert bench.supervisor.resume(bench.now) == ''
    splice = bench.supervisor.splice_point(bench.now, 0.1)
    np.testing.assert_array_equal(splice.state.positions, bench.supervisor.joint_states.positions)


def test_a_latching_gate_keeps_the_robot_stopped_after_the_cause_is_gone():
    bench = Bench(latching=True)
    execution = bench.start(goal())
    bench.run(1.0)
    bench.silent = True
    bench.run(0.6)
    assert execution.outcome is Outcome.STALE_STATE
    gate = bench.supervisor.gate
    assert gate.resume(bench.now).startswith('still: the joint state of')
    bench.silent = False
    bench.run(0.3)
    assert gate.state(moving=False) is GateState.STOPPED
    with pytest.raises(PlanRefused, match=r'STOPPED: .*joint state.*call ~/resume'):
        bench.start(goal())
    assert gate.resume(bench.now) == ''
    again = bench.start(goal())
    bench.run(4.0)
    assert again.outcome is Outcome.SUCCESSFUL


def test_after_a_clock_jump_nothing_is_sent_and_the_next_motion_begins_where_the_robot_is():
    jump = [0]
    clock = ClockWatch(lambda: bench.now, lambda: bench.now - jump[0], 0.1)
    bench = Bench(lambda now_ns: clock(now_ns))
    execution = bench.start(goal())
    bench.run(1.0)
    jump[0] = 10_000 * MS
    bench.now += jump[0]
    assert bench.supervisor.tick(bench.now) is None
    bench.supervisor.tick(bench.now)
    assert execution.outcome is Outcome.STALE_STATE
    assert 'jumped by +10.00 s' in execution.reason
    bench.offset[0] = 0.05
    bench.report()
    assert bench.supervisor.gate.resume(bench.now) == ''
    splice = bench.supervisor.splice_point(bench.now, 0.1)
    assert splice.state.positions[0] == pytest.approx(HOME[0] + 0.05)


def test_after_a_recovery_the_next_motion_begins_where_the_robot_is():
    bench = Bench()
    bench.start(goal())
    bench.run(4.0)
    bench.offset[0] = 0.05
    bench.report()
    assert bench.supervisor.splice_point(bench.now, 0.1).state.positions[0] == goal()[0]
    bench.supervisor.gate.begin_recovery()
    bench.supervisor.end_recovery('')
    assert bench.supervisor.resume(bench.now) == ''
    splice = bench.supervisor.splice_point(bench.now, 0.1)
    assert splice.state.positions[0] == pytest.approx(goal()[0] + 0.05)


@pytest.mark.parametrize('silence', [0.15, 3.0], ids=['on the way', 'until it rests'])
@pytest.mark.parametrize('latching', [False, True])
def test_after_a_silence_the_next_motion_begins_where_the_robot_is(latching, silence):
    bench = Bench(latching=latching)
    execution = bench.start(goal())
    bench.run(1.0)
    bench.silent = True
    bench.run(silence)
    # The driver was started anew, and arm and hand are not where they were told to be.
    bench.silent = False
    bench.offset[:7], bench.offset[7:] = 0.09, 0.26
    bench.report()
    bench.run(3.0)
    assert execution.outcome is Outcome.STALE_STATE
    commanded = bench.supervisor.streamer.commanded(bench.now)
    assert bench.supervisor.resume(bench.now) == ''
    if latching or silence > 1.0:
        bench.report()
        splice = bench.supervisor.splice_point(bench.now, 0.1)
        np.testing.assert_array_equal(
            splice.state.positions, bench.supervisor.joint_states.positions
        )
    else:
        # Half a ramp of silence: nobody starts a driver in that time.
        np.testing.assert_array_equal(
            bench.supervisor.splice_point(bench.now, 0.1).state.positions, commanded.positions
        )


def test_the_grip_of_a_hand_that_reports_again_is_kept():
    bench = Bench()
    bench.start(goal())
    bench.run(4.0)
    bench.silent = True
    bench.run(1.0)
    bench.silent = False
    bench.supervisor.observe_references(HAND_JOINTS, [0.9] * 16)
    bench.report()
    splice = bench.supervisor.splice_point(bench.now, 0.1)
    np.testing.assert_allclose(splice.state.positions[7:], 0.9)


def test_a_motion_that_could_not_be_sent_in_time_leaves_the_one_under_way_alone():
    bench = Bench()
    first = bench.start(goal())
    bench.run(0.5)
    bench.in_time = False
    with pytest.raises(SpliceMissed, match='in time'):
        bench.start(goal(-0.3))
    assert bench.supervisor.current is first and first.outcome is None
    bench.run(4.0)
    assert first.outcome is Outcome.SUCCESSFUL
    np.testing.assert_allclose(bench.supervisor.commanded(bench.now), goal(), atol=1e-9)


def test_a_motion_that_is_given_up_sends_no_more_and_waits_to_be_resumed():
    bench = Bench()
    execution = bench.start(goal())
    bench.run(0.5)
    bench.supervisor.give_up('too slow')
    assert bench.supervisor.tick(bench.now) is None
    assert execution.outcome is Outcome.STOPPED and execution.reason == 'too slow'
    with pytest.raises(PlanRefused, match='too slow; call ~/resume'):
        bench.start(goal())
    assert bench.supervisor.resume(bench.now) == ''
    assert bench.start(goal()).outcome is None


def test_the_first_motion_begins_where_controllers_hold_the_hand():
    bench = Bench()
    references = HOME.copy()
    references[[0, 9]] += 0.4
    bench.supervisor.observe_references([*JOINTS, 'other'], [*references, 1.0])
    commanded = bench.supervisor.commanded(bench.now)
    # An arm that is 0.4 rad from its reference is not held by it.
    assert commanded[0] == HOME[0] and commanded[9] == references[9]
    splice = bench.supervisor.splice_point(bench.now, 0.1)
    np.testing.assert_array_equal(splice.state.positions, commanded)
    with pytest.raises(ValueError, match='1 joint names but 0 positions'):
        bench.supervisor.observe_references(['joint_0.0'], [])


def buffer():
    states = JointStateBuffer(('a', 'b'), 0.1)
    states.observe(['b', 'x'], [2.0, 9.0], EPOCH, EPOCH)
    return states


def test_buffer_merges_by_name_and_names_what_is_missing():
    states = buffer()
    assert states.problem(EPOCH) == 'no joint states of a'
    assert states.observe(['a'], [np.nan], EPOCH, EPOCH) == []
    states.observe(['a'], [1.0], EPOCH, EPOCH)
    assert states.problem(EPOCH) == ''
    np.testing.assert_array_equal(states.positions, [1.0, 2.0])


@pytest.mark.parametrize(
    ('stamp', 'arrival', 'reason'),
    [
        (-150, 0, 'of a stamped 0.150 s ago'),
        (0, -150, 'of a arrived 0.150 s ago'),
        (150, 0, 'of a is stamped 0.150 s in the future'),
    ],
)
def test_buffer_tells_age_by_stamp_and_arrival(stamp, arrival, reason):
    states = buffer()
    states.observe(['a'], [1.0], EPOCH + stamp * MS, EPOCH + arrival * MS)
    assert reason in states.problem(EPOCH)


def test_buffer_keeps_the_newest_and_checks_lengths():
    states = buffer()
    assert states.observe(['b'], [3.0], EPOCH - MS, EPOCH) == []
    assert states.positions[1] == 2.0
    with pytest.raises(ValueError, match='2 joint names but 1 positions'):
        states.observe(['a', 'b'], [1.0], EPOCH, EPOCH)


@pytest.mark.parametrize(('ahead', 'taken'), [(99, False), (101, True)])
def test_a_joint_state_far_in_the_future_does_not_lock_out_later_ones(ahead, taken):
    states = buffer()
    states.observe(['a', 'b'], [1.0, 2.0], EPOCH + ahead * MS, EPOCH)
    # The next comes with a stamp that is older, but right.
    updated = states.observe(['a', 'b'], [1.1, 2.1], EPOCH, EPOCH)
    assert updated == ([0, 1] if taken else [])
    np.testing.assert_array_equal(states.positions, [1.1, 2.1] if taken else [1.0, 2.0])
    assert states.problem(EPOCH) == ''
