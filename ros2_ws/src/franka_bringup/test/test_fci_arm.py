"""What the node sends to the control process of the arm."""

import dataclasses

import numpy as np

from dexwm.control.trajectory import JointTrajectory
from dexwm.robot.joints import ARM_JOINTS, HOME
from dexwm_franka_bringup.arm_config import load_arm_config
from dexwm_franka_bringup.fci_arm import FciArm
from dexwm_franka_bringup.fci_messages import FciMode, FciSettings, Report

S = 1_000_000_000
START = HOME[:7]


class Loop:
    """Stands for the control process, which a test cannot give another clock."""

    def __init__(self):
        self.report = Report(FciMode.HOLDING, clock_ns=100 * S, desired_positions=tuple(START))
        self.sent = []

    def silence(self):
        return 0.0

    def send(self, command):
        self.sent.append(command)

    def tell(self, **changes):
        self.report = dataclasses.replace(self.report, **changes)


def turn(angle):
    goal = START.copy()
    goal[0] += angle
    return JointTrajectory(ARM_JOINTS, np.array([1.0]), goal[None], np.zeros((1, 7)))


def test_a_clock_that_was_set_back_while_the_arm_rests_is_followed():
    settings = FciSettings(
        '127.0.0.1', 'ignore', False, 100.0, 1.0, (1000.0,) * 7, load_arm_config()
    )
    arm, loop = FciArm(settings, lambda _: None), Loop()
    arm._loop = loop
    arm.accept(turn(0.1), 0)
    first = loop.sent[-1].splice_ns
    assert 0 < first - 100 * S < S // 10
    there = (START[0] + 0.1, *START[1:])
    loop.tell(mode=FciMode.HOLDING, clock_ns=90 * S, desired_positions=there)
    arm.accept(turn(0.0), 0)
    assert loop.sent[-1].splice_ns == first - 10 * S
    # Not while it moves: what is on its way would be overtaken.
    loop.tell(mode=FciMode.MOVING, clock_ns=80 * S)
    arm.accept(turn(0.0), 90 * S)
    assert loop.sent[-1].splice_ns == first - 10 * S
