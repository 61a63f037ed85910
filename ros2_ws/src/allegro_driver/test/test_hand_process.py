"""Every way out of the control process switches the servo off."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from allegro_driver.hand_process import ControlProcessHangs, HandProcess
from allegro_driver.messages import POWERED, Alive, GoTo, HandMode, HandSettings, Torques
from allegro_driver.postures import POSTURES
from dexwm_franka_bringup.control_process import ControlProcessError

pytestmark = pytest.mark.realtime


@pytest.fixture
def hand(bench):
    settings = HandSettings('unix', bench.channel, command_timeout=60.0, pose_timeout=3.0)
    hand = HandProcess(settings, lambda _: None)
    hand.start()
    bench.wait(lambda: hand.report.mode in POWERED, 'servo on', 30.0)
    assert bench.hand.servo_on
    yield hand
    hand.close()


def test_it_moves_the_hand_and_ends_with_the_servo_off(bench, hand):
    hand.send(GoTo(tuple(POSTURES['home'].tolist())))
    bench.wait(lambda: np.abs(bench.positions - POSTURES['home']).max() < 0.02, 'the posture')
    hand.check()
    hand.close()
    bench.wait_off()
    assert hand.report.mode is HandMode.OFF


def test_off_and_recover(bench, hand):
    assert hand.switch_off(5.0) == (True, 'The servo is off; ~/recover switches it on.')
    bench.wait_off()
    assert hand.recover(5.0) == '' and hand.recover(5.0) == ''
    bench.wait_on()
    bench.hand.condition.internal_fault = True
    bench.wait(lambda: hand.report.mode is HandMode.FAULT, 'the fault')
    assert 'inside it' in hand.recover(5.0)


def test_sigterm(bench, hand):
    os.kill(hand.pid, signal.SIGTERM)
    bench.wait_off()


def test_an_exception(bench, hand):
    hand._loop._commands.send_bytes(b'not a pickle')
    bench.wait_off()
    bench.wait(lambda: hand._loop.ended, 'the end of the process')
    with pytest.raises(ControlProcessError, match='exit code 1; the servo was switched off'):
        hand.check()


def test_the_process_is_killed(bench, hand):
    os.kill(hand.pid, signal.SIGKILL)
    bench.wait(lambda: hand._loop.ended, 'the end of the process')
    assert bench.hand.servo_on
    with pytest.raises(ControlProcessError, match='switched off from the node'):
        hand.check()
    bench.wait_off()


def watched(hand, condition):
    def look():
        hand.watch()
        return condition()

    return look


def test_a_process_that_hangs_is_switched_off_past_it(bench, hand):
    hand.watch()
    assert hand.hung == ''
    os.kill(hand.pid, signal.SIGSTOP)
    # Nobody waits for the pipe, which takes less.
    with pytest.raises(ControlProcessHangs):
        for _ in range(1000):
            hand.send(Torques((0.01,) * 1000))
    assert bench.hand.servo_on
    bench.wait(watched(hand, lambda: hand.hung), 'a process that hangs', 30.0)
    bench.wait_off()
    assert 'no word from the control process for 3.5 s' in hand.hung
    with pytest.raises(ControlProcessHangs, match='Start the driver again'):
        hand.send(GoTo((0.3,) * 16))
    assert hand.recover(5.0) == hand.hung
    assert hand.switch_off(5.0)[0]
    hand.check()
    assert 'the servo was switched off from the node' in hand.close()


def test_off_does_not_need_the_process(bench, hand):
    os.kill(hand.pid, signal.SIGSTOP)
    is_off, outcome = hand.switch_off(0.2)
    assert is_off and 'does not answer; the servo was switched off from the node' in outcome
    bench.wait_off()


def test_a_process_that_goes_on_after_it_hung_stays_off(bench, hand):
    os.kill(hand.pid, signal.SIGSTOP)
    bench.wait(watched(hand, lambda: hand.hung), 'a process that hangs', 30.0)
    bench.wait_off()
    os.kill(hand.pid, signal.SIGCONT)
    bench.wait(watched(hand, lambda: hand.report.mode is HandMode.OFF), 'the report', 30.0)
    bench.wait(watched(hand, lambda: not hand.hung), 'a process that is well', 30.0)
    assert 'no word from the control process' in hand.report.reason
    assert not bench.hand.servo_on
    assert hand.recover(10.0) == ''
    bench.wait_on()
    assert hand.close() == ''


PARENT = """
    import time
    from allegro_driver.hand_process import HandProcess
    from allegro_driver.messages import HandSettings

    if __name__ == '__main__':
        settings = HandSettings('unix', {channel!r}, command_timeout=100.0, pose_timeout=5.0)
        hand = HandProcess(settings, lambda report: print(report.mode.name, flush=True))
        hand.start()
        time.sleep(60)
"""


def test_the_whole_process_group_of_the_node_is_killed(bench, tmp_path):
    script = tmp_path / 'parent.py'
    script.write_text(textwrap.dedent(PARENT.format(channel=bench.channel)))
    parent = subprocess.Popen([sys.executable, script], process_group=0, stdout=subprocess.PIPE)
    try:
        bench.wait(lambda: bench.hand.servo_on, 'servo on', 30.0)
        time.sleep(0.1)
        assert bench.hand.servo_on
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
    bench.wait_off()


def test_a_node_that_hangs(bench):
    hand = HandProcess(HandSettings('unix', bench.channel, pose_timeout=5.0), lambda _: None)
    hand.start()
    bench.wait(lambda: hand.report.mode in POWERED, 'servo on', 30.0)
    hand.send(Alive(0))
    bench.wait_off()
    bench.wait(lambda: 'no word from the node' in hand.report.reason, 'the report')
    hand.close()
