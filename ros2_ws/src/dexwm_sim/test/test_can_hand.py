"""The cell's hand behind CAN frames: the driver moves it through the physics."""

import threading
import time

import numpy as np
import pytest

from allegro_driver.driver import POSE_PERIOD, HandDriver
from allegro_driver.messages import Alive, GoTo, HandSettings
from allegro_driver.postures import POSTURES
from allegro_driver.protocol import TORQUE_LIMITS
from allegro_driver.simulated_hand import SimulatedHand
from allegro_driver.unix_bus import UnixBus
from dexwm.robot.joints import ARM, HAND, HOME
from dexwm_sim.cell import Cell, CellError
from dexwm_sim.scene_config import SceneConfig
from dexwm_sim.simulated_robot import ARM_CONTROLLER, SimulatedRobot

STEP_NS = round(POSE_PERIOD / 2 * 1e9)


@pytest.fixture(scope='module')
def cell():
    config = SceneConfig.sample(0, ('can',))
    return Cell(config, timestep=POSE_PERIOD / 2, hand_servos=False)


def test_a_hand_without_servos_takes_torques(cell):
    cell.reset()
    with pytest.raises(CellError, match='use command_hand_torques'):
        cell.command_hand(HOME[HAND])
    with pytest.raises(CellError, match='not all of the robot has servos'):
        cell.command(HOME)
    with pytest.raises(CellError, match='not all of the robot has servos'):
        cell.snapshot()
    before = cell.joint_positions()
    torques = np.zeros(16)
    torques[1] = 0.2
    cell.command_hand_torques(torques)
    cell.step(30)
    moved = np.abs(cell.joint_positions() - before)
    # The middle joint of the finger stays behind.
    assert moved[HAND][1] > 0.05
    assert np.delete(moved, [8, 9, 10]).max() < 0.02
    with_servos = Cell(SceneConfig.sample(0, ('can',)))
    with pytest.raises(CellError, match='use command_hand'):
        with_servos.command_hand_torques(torques)


def test_the_driver_moves_the_hand_through_the_physics(cell, tmp_path):
    channel = str(tmp_path / 'hand')
    hand = SimulatedHand(UnixBus(channel, listen=True), patience=5.0)
    robot = SimulatedRobot(cell, hand=hand)
    assert robot.controllers == (ARM_CONTROLLER,)
    # In the time of the physics, which runs as fast as it can.
    driver = HandDriver(
        HandSettings('unix', channel, robot_time=True, command_timeout=60, pose_timeout=60)
    )
    ending, efforts = threading.Event(), []

    def physics():
        stamp_ns = 0
        while not ending.is_set():
            if not driver.powered:
                # As fast as on a bench until somebody answers.
                time.sleep(STEP_NS * 1e-9)
            robot.step(stamp_ns)
            efforts.append(robot.snapshot().efforts[HAND])
            stamp_ns += STEP_NS

    thread = threading.Thread(target=physics)
    thread.start()
    try:
        goal, sent = POSTURES['half_closed'], False
        end = time.monotonic() + 60
        while np.abs(cell.joint_positions()[HAND] - goal).max() > 0.05:
            assert time.monotonic() < end, driver.report
            driver.take(Alive(0))
            driver.step()
            if driver.powered and not sent:
                driver.take(GoTo(tuple(goal.tolist())))
                sent = True
    finally:
        driver.close()
        deadline = time.monotonic() + 60
        while hand.servo_on and time.monotonic() < deadline:
            time.sleep(0.01)
        ending.set()
        thread.join()
        hand.close()
    assert not hand.servo_on
    assert np.abs(cell.joint_positions()[ARM] - HOME[ARM]).max() < 0.02
    assert (np.abs(efforts).max(axis=0) <= TORQUE_LIMITS + 1e-3).all()
    assert np.abs(efforts).max() > 0.05
    assert hand.stretched <= 1
    assert robot.diagnostics()['hand_servo_on'] == 'False'
