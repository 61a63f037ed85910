"""A simulated hand on a bench: 16 single joints behind a socket, in a thread of their own."""

import threading
import time

import numpy as np
import pytest

from allegro_driver.simulated_hand import SimulatedHand
from allegro_driver.unix_bus import UnixBus

STEP = 0.0015
INERTIA, FRICTION = 0.001, 0.05


class Bench:
    """16 joints with inertia and friction that the hand's motors turn.

    `torques` is the history of what the motors gave, newest last.
    """

    def __init__(self, channel, **arguments):
        self.channel = channel
        self.hand = SimulatedHand(UnixBus(channel, listen=True), **arguments)
        self.positions = np.full(16, 0.3)
        self.velocities = np.zeros(16)
        self.torques = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        due = time.monotonic()
        while not self._stop.is_set():
            torques = self.hand.step(self.positions, STEP)
            self.torques.append(torques)
            faster = self.velocities + STEP * torques / INERTIA
            self.velocities = faster / (1 + STEP * FRICTION / INERTIA)
            self.positions = self.positions + STEP * self.velocities
            due += STEP
            time.sleep(max(0.0, due - time.monotonic()))

    def wait(self, condition, what, timeout=60.0):
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f'{what} did not happen within {timeout} s'
            time.sleep(0.002)

    def wait_off(self):
        self.wait(lambda: not self.hand.servo_on, 'servo off')

    def wait_on(self):
        self.wait(lambda: self.hand.servo_on, 'servo on')

    def close(self):
        self._stop.set()
        self._thread.join()
        self.hand.close()


@pytest.fixture
def bench(tmp_path):
    bench = Bench(str(tmp_path / 'hand'))
    yield bench
    bench.close()
