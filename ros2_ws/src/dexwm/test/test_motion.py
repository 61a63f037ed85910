"""The streamer, seen by a controller with ros2_control's semantics behind a slow network."""

import heapq

import numpy as np
import pytest

from dexwm.control.joint_trajectory_controller import JointTrajectoryController
from dexwm.control.motion import TRANSIT, MotionConfig, MotionStreamer, Phase, SpliceMissed
from dexwm.control.timing import time_waypoints
from dexwm.control.trajectory import JointState
from dexwm.robot.joints import HOME, JOINTS, robot_limits

MS = 1_000_000
EPOCH = 1_700_000_000_000_000_000
LIMITS = robot_limits()
MARGIN = LIMITS.with_margin(0.05)
ANY = np.full(23, np.inf)


class Link:
    """A controller sampled at 1 kHz, reached by messages that take 0 to 20 ms each."""

    def __init__(self, rng, start=HOME):
        self.rng = rng
        self.controller = JointTrajectoryController(JOINTS, start, LIMITS)
        self.now = EPOCH
        self.mail = []
        self.sent = 0
        self.arrived = 0
        self.states = [JointState.at_rest(start)]

    def send(self, chunk):
        if chunk is not None:
            # In order, as a reliable connection delivers.
            at = max(self.now + int(self.rng.integers(0, 20 * MS)), self.arrived)
            self.arrived = at
            self.sent += 1
            heapq.heappush(self.mail, (at, self.sent, chunk))

    def step(self):
        self.now += MS
        while self.mail and self.mail[0][0] <= self.now:
            at, _, chunk = heapq.heappop(self.mail)
            self.controller.accept(chunk.trajectory, chunk.start_ns, at)
        self.states.append(self.controller.sample(self.now))

    def run(self, streamer, seconds, period=50):
        for i in range(round(seconds * 1000)):
            if i % period == 0:
                self.send(streamer.tick(self.now))
            self.step()

    def run_to_rest(self, streamer, limit=60.0):
        while streamer.phase(self.now) is not Phase.IDLE and limit > 0:
            self.run(streamer, 0.1)
            limit -= 0.1
        self.run(streamer, 0.05)

    def assert_smooth(self):
        """No sample differs from the one before by more than the limits allow in 1 ms."""
        dt = 1e-3
        q = np.array([s.positions for s in self.states])
        v = np.array([s.velocities for s in self.states])
        a = np.array([s.accelerations for s in self.states])
        assert (np.abs(np.diff(q, axis=0)) <= LIMITS.velocity * dt + 1e-9).all()
        assert (np.abs(np.diff(v, axis=0)) <= LIMITS.acceleration * dt + 1e-7).all()
        assert (np.abs(np.diff(a, axis=0)) <= LIMITS.jerk * dt + 1e-4).all()
        assert (np.abs(v) <= LIMITS.velocity).all()
        assert (np.abs(a) <= LIMITS.acceleration).all()
        assert (q >= LIMITS.lower).all() and (q <= LIMITS.upper).all()
        # The states are one motion: positions are the integral of velocities.
        np.testing.assert_allclose(np.diff(q, axis=0), dt * (v[1:] + v[:-1]) / 2, atol=2e-6)


def begin(link, streamer, waypoints, speed_scale=0.5, planning=0.02):
    """Plan from the splice point and start, as a node would; planning takes time."""
    splice = streamer.splice_point(link.now, link.states[-1].positions, ANY, planning + 0.05)
    motion = time_waypoints(splice.state, waypoints, MARGIN, speed_scale)
    link.run(streamer, planning)
    link.send(streamer.start(motion, splice, link.now))
    return motion


def waypoints_near(rng, count=3, reach=0.5):
    return MARGIN.clamp(HOME + rng.uniform(-reach, reach, (count, 23)))


def test_motion_arrives_at_last_waypoint():
    rng = np.random.default_rng(1)
    link, streamer = Link(rng), MotionStreamer(LIMITS)
    goal = waypoints_near(rng)
    begin(link, streamer, goal)
    link.run_to_rest(streamer)
    np.testing.assert_allclose(link.states[-1].positions, goal[-1], atol=1e-9)
    assert np.abs(link.states[-1].velocities).max() == 0.0
    assert streamer.tick(link.now) is None
    link.assert_smooth()


@pytest.mark.parametrize(('speed_scale', 'count'), [(0.2, 20), (0.5, 100), (1.0, 20)])
def test_random_interruptions_are_smooth(speed_scale, count):
    rng = np.random.default_rng(7)
    link, streamer = Link(rng), MotionStreamer(LIMITS)
    begin(link, streamer, waypoints_near(rng), speed_scale)
    kinds = {'splice': 0, 'stop': 0, 'late': 0}
    for _ in range(count):
        link.run(streamer, rng.uniform(0.02, 0.9), period=int(rng.integers(30, 60)))
        kind = rng.choice(list(kinds), p=[0.6, 0.2, 0.2])
        moving = streamer.phase(link.now) is Phase.MOVING
        if kind == 'splice' or not moving:
            kind = 'splice'
            begin(link, streamer, waypoints_near(rng), speed_scale)
        elif kind == 'stop':
            link.send(streamer.stop(link.now))
        else:
            for _ in range(int(rng.integers(150, 500))):
                link.step()
        kinds[kind] += moving
    link.run_to_rest(streamer)
    link.assert_smooth()
    assert min(kinds.values()) >= count // 12, kinds
    assert streamer.late_ticks >= count // 12


class BusyLink(Link):
    """Its sender is kept from running between computing a piece and sending it."""

    def __init__(self, rng, streamer):
        super().__init__(rng)
        self.streamer = streamer
        self.taken_back = 0

    def send_once(self, chunk):
        """Whether it could be sent in time, after 0 to 40 ms or, one time in ten, 200 ms."""
        stall = self.rng.integers(0, 40) if self.rng.random() < 0.9 else 200
        for _ in range(stall):
            self.step()
        if self.now > chunk.due_ns:
            self.streamer.take_back()
            self.taken_back += 1
            return False
        self.arrived = max(self.now + int(self.rng.uniform(0, TRANSIT * 1e9)), self.arrived)
        self.sent += 1
        heapq.heappush(self.mail, (self.arrived, self.sent, chunk))
        return True

    def say(self, what):
        while (chunk := what(self.now)) is not None and not self.send_once(chunk):
            pass

    def go(self, goal):
        sent = False
        while not sent:
            splice = self.streamer.splice_point(self.now, self.states[-1].positions, ANY, 0.1)
            motion = time_waypoints(splice.state, goal[None], MARGIN, 0.3)
            try:
                sent = self.send_once(self.streamer.start(motion, splice, self.now))
            except SpliceMissed:
                self.step()


def test_what_was_not_sent_in_time_is_taken_back_and_the_robot_goes_smoothly():
    rng = np.random.default_rng(11)
    streamer = MotionStreamer(LIMITS)
    link = BusyLink(rng, streamer)
    stopped = 0
    for _ in range(30):
        link.go(MARGIN.clamp(HOME + rng.uniform(-0.5, 0.5, 23)))
        for _ in range(int(rng.integers(1, 20))):
            for _ in range(30):
                link.step()
            link.say(streamer.tick)
        if rng.random() < 0.5:
            stopped += streamer.phase(link.now) is Phase.MOVING
            link.say(streamer.stop)
    while streamer.phase(link.now) is not Phase.IDLE:
        link.step()
        if link.now // MS % 50 == 0:
            link.say(streamer.tick)
    assert link.taken_back > 20 and stopped > 5
    link.assert_smooth()


def test_a_first_motion_that_is_taken_back_never_was():
    streamer = MotionStreamer(LIMITS)
    splice = streamer.splice_point(EPOCH, HOME, ANY, 0.1)
    motion = time_waypoints(splice.state, MARGIN.clamp(HOME + 0.5)[None], MARGIN, 0.2)
    chunk = streamer.start(motion, splice, EPOCH)
    assert EPOCH < chunk.due_ns < chunk.start_ns
    streamer.take_back()
    assert streamer.phase(EPOCH) is Phase.IDLE and streamer.commanded(EPOCH) is None
    assert streamer.tick(EPOCH) is None
    with pytest.raises(SpliceMissed, match='changed'):
        streamer.start(motion, splice, EPOCH)


def test_tight_lead_is_seen_as_a_jump():
    """The check of smoothness finds what a message that comes after its splice point does."""
    rng = np.random.default_rng(3)
    link = Link(rng)
    streamer = MotionStreamer(LIMITS, MotionConfig(lead=0.001))
    begin(link, streamer, waypoints_near(rng), planning=0.0)
    for _ in range(10):
        link.run(streamer, 0.5)
        link.send(streamer.stop(link.now))
        link.run(streamer, 0.5)
        begin(link, streamer, waypoints_near(rng), planning=0.0)
    with pytest.raises(AssertionError):
        link.assert_smooth()


def test_sender_that_dies_leaves_a_robot_at_rest_on_its_path():
    rng = np.random.default_rng(5)
    link, streamer = Link(rng), MotionStreamer(LIMITS)
    goal = MARGIN.clamp(HOME + rng.uniform(-1.0, 1.0, 23))
    begin(link, streamer, goal[None], speed_scale=0.2)
    link.run(streamer, 1.0)
    death = link.now
    while np.abs(link.states[-1].velocities).max() > 0.0:
        link.step()
    # What was sent reaches 0.15 s ahead; the ramp takes 0.2 s at most at this speed.
    assert (link.now - death) * 1e-9 < 0.15 + 0.02 + 0.2
    link.assert_smooth()
    way = (link.states[-1].positions - HOME) / (goal - HOME)
    assert 0.0 < way[0] < 1.0
    np.testing.assert_allclose(way, way[0], atol=1e-4)


@pytest.mark.parametrize('fraction', np.linspace(0.05, 0.95, 10))
def test_stop_takes_a_fifth_of_a_second_at_the_default_speed(fraction):
    streamer = MotionStreamer(LIMITS)
    goal = MARGIN.clamp(HOME + np.random.default_rng(6).uniform(-1.5, 1.5, 23))
    splice = streamer.splice_point(EPOCH, HOME, ANY, 0.1)
    motion = time_waypoints(splice.state, goal[None], MARGIN, 0.2)
    streamer.start(motion, splice, EPOCH)
    now = EPOCH
    while now < EPOCH + fraction * motion.trajectory.duration * 1e9:
        now += 50 * MS
        streamer.tick(now)
    streamer.stop(now)
    assert (streamer.rest_ns() - now) * 1e-9 <= 0.21
    assert streamer.late_ticks == 0


def test_splice_point_is_missed_when_planning_takes_too_long_or_the_motion_changed():
    rng = np.random.default_rng(2)
    link, streamer = Link(rng), MotionStreamer(LIMITS)
    begin(link, streamer, waypoints_near(rng))
    link.run(streamer, 0.3)
    splice = streamer.splice_point(link.now, HOME, ANY, 0.05)
    motion = time_waypoints(splice.state, HOME[None], MARGIN, 0.5)
    link.run(streamer, 0.1)
    with pytest.raises(SpliceMissed, match='longer than the lead'):
        streamer.start(motion, splice, link.now)
    splice = streamer.splice_point(link.now, HOME, ANY, 0.5)
    streamer.stop(link.now)
    with pytest.raises(SpliceMissed, match='changed'):
        streamer.start(motion, splice, link.now)


def test_first_motion_adopts_where_the_robot_is():
    measured = HOME + 0.01
    link = Link(np.random.default_rng(4))
    streamer = MotionStreamer(LIMITS)
    assert streamer.commanded(link.now) is None and streamer.stop(link.now) is None
    splice = streamer.splice_point(link.now, measured, np.zeros(23), 0.1)
    assert splice.adopted
    link.send(
        streamer.start(time_waypoints(splice.state, HOME[None], MARGIN, 0.2), splice, link.now)
    )
    link.run_to_rest(streamer)
    link.assert_smooth()


def test_infinite_horizon_sends_the_whole_motion_at_once():
    streamer = MotionStreamer(LIMITS, MotionConfig(horizon=float('inf')))
    splice = streamer.splice_point(EPOCH, HOME, ANY, 0.1)
    goal = MARGIN.clamp(HOME + 0.5)
    chunk = streamer.start(time_waypoints(splice.state, goal[None], MARGIN, 0.2), splice, EPOCH)
    np.testing.assert_allclose(chunk.trajectory.end.positions, goal)
    # The longer it is, the more time there is to write it.
    assert (chunk.due_ns - EPOCH) * 1e-9 > 0.02 + 0.02 * chunk.trajectory.duration - 0.001
    assert streamer.tick(EPOCH + 500 * MS) is None
    stop = streamer.stop(EPOCH + 600 * MS)
    assert stop.trajectory.duration < 1.0


@pytest.mark.parametrize('times', [{'lead': 0.0}, {'horizon': 0.02}, {'adoption': 0.01}])
def test_times_that_contradict_each_other_are_refused(times):
    with pytest.raises(ValueError, match=r'lead|adoption'):
        MotionConfig(**times)
