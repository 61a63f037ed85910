"""The shared state: one writer, many readers, in processes that live and die."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dexwm_sim.shared_state import (
    DIRECTORY,
    SharedState,
    SharedStateError,
    SharedStateInUseError,
    SharedStateMissingError,
    default_name,
)

SCENE = json.dumps({'seed': 7, 'note': 'å'})

WRITER = """
import sys, time
import numpy as np
from dexwm_sim.shared_state import SharedState
state = SharedState.create(sys.argv[1], sys.argv[2], 400)
i = 0
while True:
    i += 1
    state.write(float(i), i, np.full(400, float(i)), i)
    if i == 1:
        print('ready', flush=True)
"""


@pytest.fixture
def name(request):
    value = f'test-{os.getpid()}-{request.node.name[:40].strip("[]")}'
    yield value
    (DIRECTORY / f'dexwm_{value}').unlink(missing_ok=True)


@pytest.fixture
def writer(name):
    process = subprocess.Popen(
        [sys.executable, '-c', WRITER, name, SCENE], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == 'ready\n'
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_reader_gets_what_was_written(name):
    with SharedState.create(name, SCENE, 3) as state, SharedState.attach(name) as reader:
        with pytest.raises(SharedStateError, match='not written a state yet'):
            reader.read()
        before = time.monotonic_ns()
        state.write(1.5, 123456789, [1.0, 2.0, 3.0])
        snapshot = reader.read()
        assert reader.scene_json == SCENE and reader.nq == 3
        assert (snapshot.sim_time, snapshot.stamp_ns) == (1.5, 123456789)
        assert before <= snapshot.monotonic_ns <= time.monotonic_ns()
        np.testing.assert_array_equal(snapshot.qpos, [1.0, 2.0, 3.0])
        state.write(2.5, 5, [4.0, 5.0, 6.0])
        np.testing.assert_array_equal(snapshot.qpos, [1.0, 2.0, 3.0])
        np.testing.assert_array_equal(reader.read().qpos, [4.0, 5.0, 6.0])


def test_a_read_is_never_a_mixture(name, writer):
    with SharedState.attach(name) as reader:
        seen = []
        end = time.monotonic() + 60.0
        while not seen or (seen[-1] < 50_000 and time.monotonic() < end):
            snapshot = reader.read()
            assert np.all(snapshot.qpos == snapshot.sim_time)
            assert snapshot.stamp_ns == snapshot.monotonic_ns == snapshot.sim_time
            seen.append(snapshot.stamp_ns)
    assert seen == sorted(seen)
    assert len(set(seen)) > 10


def test_damage_is_found_even_when_the_counter_does_not_tell(name):
    with SharedState.create(name, SCENE, 2) as state, SharedState.attach(name) as reader:
        state.write(1.0, 1, [1.0, 2.0])
        with open(DIRECTORY / f'dexwm_{name}', 'r+b') as file:
            file.seek(-16, os.SEEK_END)
            file.write(np.float64(9.0).tobytes())
        with pytest.raises(SharedStateError, match='middle of writing'):
            reader.read()
        state.write(2.0, 2, [3.0, 4.0])
        assert reader.read().sim_time == 2.0


def test_a_killed_writer_is_noticed_and_replaced(name, writer):
    with SharedState.attach(name) as reader:
        assert reader.writer_alive()
        with pytest.raises(SharedStateInUseError, match='already runs'):
            SharedState.create(name, SCENE, 2)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert not reader.writer_alive()
        with pytest.raises(SharedStateMissingError, match='is gone'):
            SharedState.attach(name)
        assert not reader.superseded()
        with SharedState.create(name, '{}', 2):
            assert reader.superseded()
            with SharedState.attach(name) as second:
                assert second.scene_json == '{}'


def test_the_name_goes_with_the_writer(name):
    SharedState.create(name, SCENE, 1).close()
    with pytest.raises(SharedStateMissingError, match='does not exist'):
        SharedState.attach(name)
    assert not list(DIRECTORY.glob(f'dexwm_{name}*'))


def test_bad_arguments(name):
    for bad in ('', '../etc', 'a/b', '.hidden', 'x y'):
        with pytest.raises(ValueError, match='not a name'):
            SharedState.create(bad, SCENE, 1)
    with pytest.raises(ValueError, match='at least one'):
        SharedState.create(name, SCENE, 0)
    with SharedState.create(name, SCENE, 2) as state:
        with pytest.raises(ValueError, match='Expected 2 positions'):
            state.write(0.0, 0, [1.0])
        with SharedState.attach(name) as reader, pytest.raises(SharedStateError, match='Only'):
            reader.write(0.0, 0, [1.0, 2.0])


def test_another_file_is_refused(name):
    (DIRECTORY / f'dexwm_{name}').write_bytes(b'something else')
    with pytest.raises(SharedStateError, match='not written by this version'):
        SharedState.attach(name)


def test_default_name_follows_the_domain(monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', '17')
    first = default_name()
    monkeypatch.delenv('ROS_DOMAIN_ID')
    assert first.endswith('-17') and default_name().endswith('-0')
