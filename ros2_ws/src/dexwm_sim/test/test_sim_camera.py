"""The simulated head camera, fed by a writer in this process."""

import os
import threading
import time

import numpy as np
import pytest

from dexwm_sim.cell import Cell
from dexwm_sim.render import CellRenderer
from dexwm_sim.scene_config import SceneConfig
from dexwm_sim.shared_state import DIRECTORY, SharedState
from dexwm_sim.sim_camera import STALE_AFTER, SimCamera, SimCameraError

pytestmark = pytest.mark.realtime

SIZE = (196, 112)
PATIENCE = 60.0


@pytest.fixture
def name(request):
    value = f'camera-{os.getpid()}-{request.node.name[:30]}'
    yield value
    (DIRECTORY / f'dexwm_{value}').unlink(missing_ok=True)


@pytest.fixture
def camera(name):
    camera = SimCamera(name, *SIZE)
    yield camera
    camera.close()


@pytest.fixture(scope='module')
def cells():
    return [
        Cell(SceneConfig.sample(seed, objects, quality='fast'))
        for seed, objects in ((1, ['can']), (2, ['box', 'apple']))
    ]


class Writer:
    """Shares the state of a cell every 10 ms, as a running cell does, until it is paused."""

    def __init__(self, name, cell, nq=None):
        self.stamp, self.qpos, self.paused = (
            1,
            np.resize(cell.data.qpos, nq or cell.model.nq),
            False,
        )
        self._state = SharedState.create(name, cell.config.to_json(), self.qpos.size)
        self._state.write(0.0, self.stamp, self.qpos)
        self._writes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.01):
            if not self.paused:
                self._state.write(0.0, self.stamp, self.qpos)
                self._writes += 1

    def show(self, stamp, qpos):
        self.stamp, self.qpos = stamp, qpos
        self.wait_written()

    def wait_written(self):
        """Until something is shared that was taken up after this call: the second write."""
        end, later = time.monotonic() + PATIENCE, self._writes + 2
        while self._writes < later:
            assert time.monotonic() < end, 'nothing is shared'
            time.sleep(0.005)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._state.close()


def test_the_picture_is_that_of_the_state(name, camera, cells):
    cell = cells[0]
    with Writer(name, cell) as writer:
        image, stamp = camera.grab()
        assert stamp == 1
        assert image.shape == (*SIZE[::-1], 3) and image.dtype == np.uint8
        with CellRenderer(cell.model, *SIZE) as renderer:
            np.testing.assert_array_equal(image, renderer.render(cell.data))

        moved = cell.data.qpos.copy()
        moved[cell.model.joint('can').qposadr[0]] -= 0.1
        writer.show(2, moved)
        second, stamp = camera.grab()
        assert stamp == 2
        assert np.abs(second.astype(int) - image).max() > 50


def test_no_cell(camera):
    with pytest.raises(SimCameraError, match='No cell runs under the name'):
        camera.grab()


def test_a_cell_that_stands_still_and_goes_on(name, camera, cells):
    with Writer(name, cells[0]) as writer:
        camera.grab()
        writer.paused = True
        time.sleep(STALE_AFTER + 0.1)
        with pytest.raises(SimCameraError, match='has not moved on for'):
            camera.grab()
        writer.paused = False
        writer.wait_written()
        camera.grab()


def test_a_cell_that_ended(name, camera, cells):
    with Writer(name, cells[0]):
        camera.grab()
    time.sleep(STALE_AFTER + 0.1)
    with pytest.raises(SimCameraError, match='is gone'):
        camera.grab()
    with pytest.raises(SimCameraError, match='No cell runs'):
        camera.grab()


def test_another_scene_after_a_restart(name, camera, cells):
    with Writer(name, cells[0]):
        image, _ = camera.grab()
    with Writer(name, cells[1]):
        other, _ = camera.grab()
    assert np.abs(other.astype(int) - image).max() > 50


def test_a_scene_of_another_version(name, camera, cells):
    writer = Writer(name, cells[0], nq=cells[0].model.nq + 7)
    with writer, pytest.raises(SimCameraError, match='same version'):
        camera.grab()


def test_bad_size(name):
    with pytest.raises(ValueError, match='0x112'):
        SimCamera(name, 0, 112)
