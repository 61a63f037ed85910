"""The control loop against the simulated hand: it moves it, and switches it off for any fault."""

import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allegro_driver.bus import BusOff, HandBus
from allegro_driver.driver import HandDriver
from allegro_driver.messages import (
    POWERED,
    Alive,
    Finish,
    Follow,
    GoTo,
    HandMode,
    HandSettings,
    SwitchOff,
    SwitchOn,
    Torques,
)
from allegro_driver.postures import POSTURES
from allegro_driver.protocol import TORQUE_LIMITS, Frame, set_periods
from dexwm.control.trajectory import JointTrajectory
from dexwm.robot.joints import HAND_JOINTS, robot_limits

# The tests' threads are slow on a busy machine; each limit has a test of its own.
PATIENT = {'pose_timeout': 5.0, 'command_timeout': 5.0}


def run(driver, until, timeout=60.0, alive=True):
    """Step until something holds."""
    end = time.monotonic() + timeout
    while not until():
        assert time.monotonic() < end, f'waited in vain: {driver.report}'
        if alive:
            driver.take(Alive(0))
        driver.step()


@pytest.fixture
def driver(bench):
    driver = HandDriver(HandSettings('unix', bench.channel, **PATIENT))
    run(driver, lambda: driver.powered)
    yield driver
    driver.close()


def impatient(bench, **limits):
    driver = HandDriver(HandSettings('unix', bench.channel, **{**PATIENT, **limits}))
    run(driver, lambda: driver.powered)
    return driver


def has_failed(driver):
    return lambda: driver.report.mode is HandMode.FAULT


def test_it_holds_the_hand_where_it_finds_it(bench, driver):
    bench.wait_on()
    report = driver.report
    assert report.mode is HandMode.HOLDING and report.serial == 'SIM00001'
    cycles = report.cycles
    run(driver, lambda: driver.report.cycles > cycles + 50)
    assert np.allclose(driver.report.positions, 0.3, atol=1e-3)
    assert abs(driver.report.stamp_ns - time.time_ns()) < 1e9
    assert driver.report.torn_poses == 0


def test_it_follows_trajectories_and_holds_their_end(bench, driver):
    goal = POSTURES['half_closed']
    trajectory = JointTrajectory(HAND_JOINTS, np.array([0.4]), goal[None], np.zeros((1, 16)))
    driver.take(Follow(trajectory))
    run(driver, lambda: driver.report.mode is HandMode.MOVING)
    run(driver, lambda: driver.report.mode is HandMode.HOLDING)
    run(driver, lambda: np.abs(driver.report.positions - goal).max() < 0.01)
    assert np.abs(bench.positions - goal).max() < 0.01
    driver.take(Follow(trajectory.select(HAND_JOINTS[:15])))
    assert driver.report.rejected == 1 and 'joint_15.0' in driver.report.last_rejection


def test_a_clock_that_is_set_back_moves_nothing(driver, monkeypatch):
    goal = POSTURES['half_closed']
    trajectory = JointTrajectory(HAND_JOINTS, np.array([0.4]), goal[None], np.zeros((1, 16)))
    driver.take(Follow(trajectory))
    run(driver, lambda: driver.report.mode is HandMode.MOVING)
    run(driver, lambda: driver.report.mode is HandMode.HOLDING)
    now_ns = time.time_ns
    monkeypatch.setattr(time, 'time_ns', lambda: now_ns() - 10_000_000_000)
    modes, wanted, cycles = set(), [], driver.report.cycles

    def look():
        modes.add(driver.report.mode)
        wanted.append(driver.report.desired_positions)
        return driver.report.cycles > cycles + 50

    run(driver, look)
    assert modes == {HandMode.HOLDING}
    np.testing.assert_allclose(wanted, np.broadcast_to(goal, (len(wanted), 16)))
    # It goes on in the clock as it is now.
    driver.take(Follow(trajectory, time.time_ns()))
    run(driver, lambda: driver.report.mode is HandMode.MOVING)


def test_a_posture_is_reached_within_the_rates(driver):
    limits, seen = robot_limits().subset(HAND_JOINTS), []
    driver.take(GoTo(tuple(POSTURES['home'].tolist())))

    def there():
        seen.append(driver.report.desired_positions)
        return np.abs(driver.report.positions - POSTURES['home']).max() < 0.01

    run(driver, there)
    steps = np.abs(np.diff(np.unique(seen, axis=0), axis=0))
    # The hand's clock is let go up to a per cent faster than its period, or it catches up a jump.
    assert np.median(steps.max(axis=1)) <= 0.003 * limits.velocity.max() * 1.02
    driver.take(GoTo((2.0,) * 16))
    assert 'out of limits' in driver.report.last_rejection
    driver.take(GoTo((1e300,) * 16))
    assert 'no hand has such a posture' in driver.report.last_rejection


@pytest.mark.parametrize('name', POSTURES)
def test_postures_are_within_the_limits(name):
    assert robot_limits().subset(HAND_JOINTS).violations(POSTURES[name]) == []


def test_off_and_on_again(bench, driver):
    driver.take(SwitchOff())
    driver.step()
    assert driver.report.mode is HandMode.OFF and 'call ~/recover' in driver.report.reason
    bench.wait_off()
    driver.take(GoTo(tuple(POSTURES['home'].tolist())))
    assert 'switched off' in driver.report.last_rejection
    # Joint states go on.
    cycles = driver.report.cycles
    run(driver, lambda: driver.report.cycles > cycles + 5)
    bench.positions = np.full(16, 0.5)
    driver.take(SwitchOn())
    run(driver, lambda: driver.powered)
    bench.wait_on()
    assert np.allclose(driver.report.desired_positions, 0.5, atol=0.02)


def test_close_switches_off_and_silences_the_hand(bench, driver):
    driver.take(Finish())
    assert driver.finished
    driver.close()
    bench.wait_off()
    assert driver.report.mode is HandMode.OFF


@pytest.mark.parametrize(
    ('fault', 'reason'),
    [
        ({'too_hot': True}, 'too hot'),
        ({'internal_fault': True}, 'communication inside'),
        ({'celsius': 71}, 'joint_0.0 has 71 degrees'),
    ],
)
def test_what_the_hand_reports_switches_it_off(bench, driver, fault, reason):
    for name, value in fault.items():
        setattr(bench.hand.condition, name, value)
    run(driver, has_failed(driver))
    assert reason in driver.report.reason
    bench.wait_off()
    # Not by itself, and not while the cause is there.
    driver.take(SwitchOn())
    run(driver, lambda: driver.report.starts == 2 or driver.powered)
    run(driver, has_failed(driver))
    for name in fault:
        setattr(bench.hand.condition, name, 30 if name == 'celsius' else False)
    cycles = driver.report.cycles
    run(driver, lambda: driver.report.cycles > cycles + 5)
    assert not driver.powered and not bench.hand.servo_on
    if 'celsius' in fault:
        run(driver, lambda: max(driver.report.temperatures) == 30)
    driver.take(SwitchOn())
    run(driver, lambda: driver.powered)


def test_a_second_driver_is_refused_and_touches_nothing(bench, driver):
    bench.wait_on()
    second = HandDriver(HandSettings('unix', bench.channel, **{**PATIENT, 'connect_timeout': 0.2}))
    run(second, has_failed(second))
    assert 'another driver has the hand' in second.report.reason
    assert 'hand:=none' in second.report.reason
    second.close()
    cycles = driver.report.cycles
    run(driver, lambda: driver.report.cycles > cycles + 50)
    assert driver.powered and bench.hand.servo_on
    driver.close()
    bench.wait_off()
    second = HandDriver(HandSettings('unix', bench.channel, **PATIENT))
    run(second, lambda: second.powered)
    second.close()


def test_a_silent_hand_is_switched_off(bench):
    driver = impatient(bench, pose_timeout=0.3)
    bench.hand.condition.silent = True
    run(driver, has_failed(driver))
    assert 'no positions from the hand' in driver.report.reason
    # It hears again: the frame that switches off must have come, too.
    bench.hand.condition.silent = False
    driver.close()
    bench.wait_off()


def test_a_hand_that_switches_itself_off_is_not_switched_on(bench, driver):
    bench.wait_on()
    bench.hand.servo_on = False
    run(driver, has_failed(driver))
    assert 'by itself' in driver.report.reason


def test_motors_whose_temperatures_stay_away_are_switched_off(bench, driver):
    run(driver, lambda: max(driver.report.temperatures) > 0)
    with HandBus.open('unix', bench.channel) as other:
        other.send(set_periods(3, 0, 0))
        run(driver, has_failed(driver), timeout=60.0)
    assert 'no temperatures of the motors for 2.0 s' in driver.report.reason
    bench.wait_off()
    driver.take(SwitchOn())
    run(driver, lambda: driver.powered)


def test_a_silent_node_switches_off(bench):
    driver = impatient(bench, command_timeout=0.1)
    run(driver, has_failed(driver), alive=False)
    assert 'no word from the node' in driver.report.reason
    bench.wait_off()


def test_torques_pass_for_as_long_as_they_come(bench):
    driver = impatient(bench, command_timeout=0.3)
    wanted = np.linspace(-1, 1, 16)

    def clamped():
        driver.take(Torques(tuple(wanted.tolist())))
        return driver.report.mode is HandMode.TORQUE

    run(driver, clamped)
    expected = np.clip(wanted, -TORQUE_LIMITS, TORQUE_LIMITS)
    assert np.allclose(driver.report.efforts, expected, atol=1 / 1200)
    bench.wait(lambda: np.allclose(bench.torques[-1], expected, atol=1 / 1200), 'torques')
    run(driver, has_failed(driver))
    assert 'no new torques' in driver.report.reason
    bench.wait_off()


def test_a_position_after_torques_starts_where_the_fingers_are(driver):
    driver.take(Torques((0.0,) * 16))
    run(driver, lambda: driver.report.mode is HandMode.TORQUE)
    driver.take(GoTo(driver.report.positions))
    run(driver, lambda: driver.report.mode is not HandMode.TORQUE)
    assert driver.report.mode in POWERED


@pytest.mark.parametrize(
    ('condition', 'reason'),
    [
        ({'hardware': 0x0500}, 'is a V5'),
        ({'hardware': 0x0301}, 'is not a V4'),
        ({'left': True}, 'a left one'),
        ({'silent': True}, 'does not answer'),
    ],
)
def test_a_hand_that_it_may_not_move_gets_no_power(bench, condition, reason):
    for name, value in condition.items():
        setattr(bench.hand.condition, name, value)
    settings_ = HandSettings('unix', bench.channel, connect_timeout=0.7, **PATIENT)
    driver = HandDriver(settings_)
    run(driver, has_failed(driver))
    assert reason in driver.report.reason
    assert not bench.hand.servo_on and not np.any(bench.torques)
    driver.close()


def test_a_bus_that_is_gone_is_a_fault_and_the_servo_goes_off_when_it_is_back(bench):
    buses = []

    def open_bus():
        buses.append(HandBus.open('unix', bench.channel))
        return buses[-1]

    driver = HandDriver(HandSettings('unix', bench.channel, **PATIENT), open_bus)
    run(driver, lambda: driver.powered)
    bench.wait_on()
    # The cable is pulled: what was sent last is latched.
    buses[0].close()
    buses[0].send = buses[0].receive = _raise_bus_off
    run(driver, has_failed(driver))
    assert 'unplugged' in driver.report.reason and bench.hand.servo_on
    run(driver, lambda: not bench.hand.servo_on)
    assert len(buses) == 2
    driver.take(SwitchOn())
    run(driver, lambda: driver.powered)
    assert driver.close()


def test_close_tells_when_no_bus_takes_the_frame_that_switches_off(bench, driver):
    bench.wait_on()
    driver._bus.send = _raise_bus_off
    driver._open_bus = _raise_bus_off
    assert not driver.close()
    assert bench.hand.servo_on


def _raise_bus_off(*_):
    raise BusOff('unplugged')


def test_torn_poses_are_counted_and_not_answered(bench, driver):
    cycles, torn = driver.report.cycles, driver.report.torn_poses
    driver._take_frame(Frame(0x80, bytes(8)))
    driver._take_frame(Frame(0x80, bytes(8)))
    driver._take_frame(Frame(0x84, bytes(8)))
    assert (driver.report.cycles, driver.report.torn_poses) == (cycles, torn + 1)
    driver._take_frame(Frame(0x80, b'short'))
    assert driver.report.foreign_frames == 1


frames = st.lists(
    st.tuples(
        st.sampled_from([0x80, 0x84, 0x88, 0x8C]) | st.integers(0, 0x7FF), st.binary(max_size=8)
    ),
    max_size=60,
)
commands = st.lists(
    st.builds(lambda q: GoTo(tuple(q)), st.lists(st.floats(), min_size=16, max_size=16))
    | st.builds(lambda q: Torques(tuple(q)), st.lists(st.floats(), min_size=16, max_size=16))
    | st.just(Follow(None)),
    max_size=5,
)


class _Recorder:
    """A bus end that keeps what is sent, answers that it is a V4, and plays frames."""

    def __init__(self):
        self.sent = []
        self.queue = []

    def send(self, frame):
        self.sent.append(frame)
        if frame.arbitration_id == 0x200:
            self.queue.append(Frame(0x200, bytes.fromhex('02040501002601')))
        if frame.arbitration_id == 0x100:
            self.queue += [Frame(0x80 + 4 * f, bytes(8)) for f in range(4)] * 2

    def receive(self, timeout):
        return self.queue.pop(0) if self.queue and timeout else None

    def close(self):
        pass


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(frames, commands)
def test_no_torque_exceeds_its_clamp_whatever_arrives(frames, commands):
    bus = _Recorder()
    driver = HandDriver(HandSettings('virtual', 'recorder', **PATIENT), lambda: bus)
    driver.step()
    assert driver.powered
    bus.queue += [Frame(identifier, data) for identifier, data in frames]
    for command in commands:
        driver.take(command)
        bus.queue += [Frame(0x80 + 4 * f, bytes(8)) for f in range(4)]
        driver.step()
    driver.step()
    driver.close()
    torques = [frame for frame in bus.sent if 0x180 <= frame.arbitration_id <= 0x18C]
    assert len(torques) >= 4
    for frame in torques:
        first = frame.arbitration_id - 0x180
        counts = np.frombuffer(frame.data, dtype='<i2')
        assert (np.abs(counts) <= TORQUE_LIMITS[first : first + 4] * 1200 + 1e-9).all()
    assert Frame(0x104) in bus.sent[-2:]
