"""The position loop against its formulas."""

import math

import numpy as np

from allegro_driver.joint_servo import JointServo

DT = 0.003


def servo(cutoff=30.0, limit=1.0):
    return JointServo(np.full(16, 2.0), np.full(16, 0.1), np.full(16, limit), cutoff)


def test_velocity_of_a_ramp_follows_the_low_pass():
    loop, speed = servo(), np.linspace(-2, 2, 16)
    for k in range(41):
        loop.measure(0.5 + speed * k * DT, DT)
    # y += a (x - y) for 40 steps of a constant x.
    weight = DT / (DT + 1 / (2 * math.pi * 30.0))
    assert np.allclose(loop.velocities, speed * (1 - (1 - weight) ** 40))


def test_a_lost_pose_does_not_double_the_velocity():
    loop = servo(cutoff=1e9)
    loop.measure(np.zeros(16), DT)
    loop.measure(np.full(16, 2 * DT), 2 * DT)
    assert np.allclose(loop.velocities, 1.0)


def test_torques_are_pd_within_the_limits():
    loop, rng = servo(), np.random.default_rng(0)
    loop.measure(rng.normal(size=16), DT)
    loop.measure(rng.normal(size=16) * 0.1, DT)
    q, dq = rng.normal(size=16), rng.normal(size=16)
    wanted = [
        2.0 * (q[i] - loop.positions[i]) + 0.1 * (dq[i] - loop.velocities[i]) for i in range(16)
    ]
    assert np.allclose(loop.torques(q, dq), [max(-1.0, min(1.0, w)) for w in wanted])
    assert np.abs(wanted).max() > 1.0


def test_what_is_not_a_number_turns_no_motor():
    loop = servo()
    loop.measure(np.zeros(16), DT)
    assert (loop.torques(np.full(16, np.nan), np.zeros(16)) == 0).all()


def test_a_restart_forgets_the_velocity():
    loop = servo()
    loop.measure(np.zeros(16), DT)
    loop.measure(np.ones(16), DT)
    loop.restart()
    loop.measure(np.full(16, 3.0), DT)
    assert (loop.velocities == 0).all()
