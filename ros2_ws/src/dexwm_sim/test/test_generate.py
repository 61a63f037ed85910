import dataclasses
import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from rich.console import Console

from dexwm.data.episode import DatasetError
from dexwm.data.recording import Recording, RecordingDataset, recording_name
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.description import robot_description
from dexwm_sim import generate_worker
from dexwm_sim.cell import Cell
from dexwm_sim.episode_maker import EpisodeError
from dexwm_sim.expert import UnreachableError
from dexwm_sim.generate import generate, main
from dexwm_sim.generate_worker import (
    EpisodeSettings,
    EpisodeSummary,
    GenerateError,
    check_physics,
    make_recording,
)
from dexwm_sim.scene_config import SceneConfig

SETTINGS = EpisodeSettings(frames=6, quality='fast', largest_count=2)
ARGUMENTS = ('--frames=6', '--quality=fast', '--largest-count=2', '--workers=2')


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Three episodes, made by two processes."""
    folder = tmp_path_factory.mktemp('data')
    assert main([f'--output={folder}', '--episodes=3', *ARGUMENTS]) == 0
    return folder


def test_episodes_hold_what_they_are_to_hold(folder):
    model = RobotModel.from_urdf(robot_description())
    for recording in (Recording(path) for path in folder.glob('*.h5')):
        assert recording.length == 6 and recording.fps == 5.0
        assert 1 <= len(recording.info.object_names) <= 2
        assert recording.info.strategy in ('noisy_expert', 'random_targets', 'hand_only')
        for q, keypoints in zip(recording.joint_positions, recording.keypoints_world, strict=True):
            assert np.allclose(model.keypoints(q), keypoints[21:], atol=1e-6)
        pictures = recording.images(range(6)).astype(int)
        assert np.abs(np.diff(pictures, axis=0)).max(axis=(1, 2, 3)).min() > 30
        assert (np.abs(np.diff(recording.joint_commands, axis=0)).max(axis=1) > 0).any()


def test_the_hand_is_in_the_picture_where_its_keypoints_are(tmp_path):
    make_recording(tmp_path, 1, EpisodeSettings(frames=12, quality='fast', largest_count=1))
    recording = Recording(tmp_path / recording_name(1))
    T = np.linalg.inv(recording.info.T_base_from_camera)
    keypoints = recording.keypoints_world[[0, 11], 21:] @ T[:3, :3].T + T[:3, 3]
    first, last = recording.intrinsics.project(keypoints).round().astype(int)
    before, after = recording.images([0, 11]).astype(int)
    changed = np.abs(before - after).sum(axis=-1) > 60
    # Where the hand was or is, the picture changes; elsewhere it mostly stays.
    at_hand = [changed[v, u] for u, v in (*first, *last) if 0 <= u < 392 and 0 <= v < 224]
    assert np.mean(at_hand) > 0.5 > 4 * changed.mean() - 0.5


def test_a_lead_leaves_out_the_beginning(tmp_path):
    at_every_step = EpisodeSettings(frames=30, fps=10.0, quality='fast', largest_count=1)
    for folder, settings in (
        ('whole', at_every_step),
        ('late', dataclasses.replace(at_every_step, frames=4, fps=5.0, lead=2.0)),
    ):
        (tmp_path / folder).mkdir()
        make_recording(tmp_path / folder, 1, settings)
    whole, late = (Recording(tmp_path / name / recording_name(1)) for name in ('whole', 'late'))
    whole_q, late_q = whole.joint_positions, late.joint_positions
    (first,) = np.flatnonzero((whole_q == late_q[0]).all(axis=1))
    assert 0 < first <= 20
    np.testing.assert_array_equal(late_q, whole_q[first::2][:4])


def test_every_still_is_another_scene(tmp_path):
    settings = EpisodeSettings(
        frames=8, quality='fast', largest_count=3, shares=(('stills', 1.0),)
    )
    for folder in ('first', 'second'):
        (tmp_path / folder).mkdir()
        make_recording(tmp_path / folder, 3, settings)
    path = tmp_path / 'first' / recording_name(3)
    assert digest(path) == digest(tmp_path / 'second' / path.name)
    recording = Recording(path)
    assert recording.length == 8 and recording.info.strategy == 'stills'
    np.testing.assert_array_equal(recording.joint_commands, recording.joint_positions)
    centres = recording.objects.centres_world
    for a, b in itertools.combinations(range(8), 2):
        assert (np.linalg.norm(centres[a] - centres[b], axis=1) > 0.01).any()
        assert np.abs(recording.joint_positions[a] - recording.joint_positions[b]).max() > 0.1
    pictures = recording.images(range(8)).astype(int)
    # Surfaces and light are others too: most of the picture differs.
    assert np.median(np.abs(pictures[0] - pictures[1]).max(axis=2)) > 10
    shares = recording.objects.visible_share
    assert shares.min() >= 0 and shares.max() > 0.9


def test_the_manifest_says_what_there_is(folder):
    manifest = json.loads((folder / 'manifest.json').read_text())
    assert manifest['total']['episodes'] == 3 and manifest['total']['frames'] == 18
    assert manifest['settings']['quality'] == 'fast' and manifest['failed'] == []
    assert sum(part['episodes'] for part in manifest['strategies'].values()) == 3
    assert {name: entry['sha256'] for name, entry in manifest['files'].items()} == {
        path.name: digest(path) for path in folder.glob('*.h5')
    }
    assert len(RecordingDataset(folder, 'all', verify_digests=True)) == 3


def test_a_seed_gives_the_same_file_bit_for_bit_in_any_order(folder, tmp_path):
    for seed in (2, 0):
        make_recording(tmp_path, seed, SETTINGS)
        name = recording_name(seed)
        assert digest(tmp_path / name) == digest(folder / name)
    assert digest(folder / recording_name(0)) != digest(folder / recording_name(1))


def test_killed_it_goes_on_where_it_stopped(folder, tmp_path):
    command = [sys.executable, '-m', 'dexwm_sim.generate', f'--output={tmp_path}', *ARGUMENTS]
    process = subprocess.Popen([*command, '--episodes=40'], stderr=subprocess.PIPE)
    finished = tmp_path / recording_name(0)
    deadline = time.monotonic() + 200
    while not finished.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = re.findall(r'\d+', children_of(process.pid))
    assert len(children) >= 2
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    while any(is_running(child) for child in children):
        assert time.monotonic() < deadline, 'its processes outlive it'
        time.sleep(0.02)
    done = sorted(tmp_path.glob('*.h5'))
    assert 1 <= len(done) < 40 and not (tmp_path / 'manifest.json').exists()
    times = [path.stat().st_mtime_ns for path in done]
    # What was being written when it died, and a broken-off write that outlived it.
    (tmp_path / 'episode_00000099.part').write_bytes(b'half')
    subprocess.run([*command, '--episodes=3'], check=True)
    assert [path.stat().st_mtime_ns for path in done] == times
    assert not list(tmp_path.glob('*.part'))
    for seed in range(3):
        assert digest(tmp_path / recording_name(seed)) == digest(folder / recording_name(seed))


def children_of(pid):
    with open(f'/proc/{pid}/task/{pid}/children') as file:
        return file.read()


def is_running(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def test_other_settings_are_refused_in_the_same_folder(folder, capsys):
    assert main([f'--output={folder}', '--episodes=3', *ARGUMENTS, '--fps=10']) == 1
    assert 'fps: 5.0 there, 10.0 now' in capsys.readouterr().err


def test_two_runs_in_one_folder_are_refused(folder):
    import fcntl

    with (folder / '.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(GenerateError, match='in use'):
            generate(folder, [0], SETTINGS, 1, Console(quiet=True))


def test_a_seed_without_an_episode_is_named_and_leaves_no_file(tmp_path, monkeypatch):
    def explore(*_):
        raise UnreachableError('nothing can be reached')

    monkeypatch.setattr(generate_worker, 'explore', explore)
    with pytest.raises(EpisodeError, match='seed 5: nothing can be reached'):
        make_recording(tmp_path, 5, SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_physics_that_blew_up_is_an_error():
    cell = Cell(SceneConfig.sample(0, ('box',)))
    check_physics(cell, 7)
    cell.data.qvel[0] = 1e12
    cell.step()
    with pytest.raises(EpisodeError, match='seed 7: the physics failed: mjWARN_BADQVEL'):
        check_physics(cell, 7)


def test_a_damaged_episode_is_an_error_that_names_it(folder, tmp_path):
    path = tmp_path / recording_name(1)
    path.write_bytes((folder / path.name).read_bytes()[:5000])
    with pytest.raises(DatasetError, match=str(path)):
        make_recording(tmp_path, 1, SETTINGS)


def test_a_summary_counts_contact_and_motion(folder):
    path = folder / recording_name(0)
    recording, summary = Recording(path), EpisodeSummary.of(path)
    centres, contact = recording.objects.centres_world, recording.objects.in_contact
    moves = [
        any(
            np.linalg.norm(centres[later, n] - centres[frame, n]) > 0.01
            for later in range(frame + 1, min(frame + 6, 6))
            for n in range(centres.shape[1])
        )
        for frame in range(6)
    ]
    assert summary.moves_1s == sum(moves)
    assert summary.contact == sum(row.any() for row in contact)
    assert summary.touched_or_moves == sum(
        a or b.any() for a, b in zip(moves, contact, strict=True)
    )


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'fps': 3.0}, 'multiple of'),
        ({'fps': 0.0}, 'not possible'),
        ({'frames': 0}, 'at least one frame'),
        ({'lead': -1.0}, 'lead must be 0 s or more, got -1'),
        ({'quality': 'best'}, 'fast, standard, fine, mixed'),
        ({'shares': (('hand_only', 0.5),)}, 'add up to 1'),
        ({'shares': (('sleep', 1.0),)}, 'noisy_expert'),
        ({'permute': 1.5}, 'probability'),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, message):
    with pytest.raises(GenerateError, match=message):
        EpisodeSettings(**values)
