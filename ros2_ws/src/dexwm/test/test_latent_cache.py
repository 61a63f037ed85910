import argparse
import json
import pickle
import resource
import signal
import subprocess
import sys
import textwrap

import cv2
import h5py
import numpy as np
import pytest
import torch

from dexwm.commands import encode
from dexwm.data.actions import ActionOptions
from dexwm.data.episode import DatasetError
from dexwm.data.latent_cache import LatentCache, input_pictures
from dexwm.data.recording import Recording, RecordingDataset
from dexwm.model.checkpoint import CheckpointError, save_checkpoint
from dexwm.model.encoders.registry import build_encoder

from .tiny_recordings import IMAGE_SIZE, write_recording
from .tiny_world_model import tiny_world_model

SEEDS = (1, 2, 3, 4)
OPTIONS = {'image_size': list(IMAGE_SIZE)}


@pytest.fixture(scope='module')
def encoder():
    return build_encoder('efficientnet_lite0', OPTIONS)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('recordings')
    for seed in SEEDS:
        write_recording(folder, seed, frames=5 + seed)
    return folder


@pytest.fixture(scope='module')
def cache(data, encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp('caches') / 'raw'
    return LatentCache.build(
        RecordingDataset(data), encoder, folder, batch_size=4, picture_size=(16, 24)
    )


def test_it_holds_each_frame_as_the_encoder_sees_it(cache, data, encoder):
    dataset = RecordingDataset(data)
    assert [episode.name for episode in cache.episodes] == [e.name for e in dataset]
    assert cache.lengths == (6, 7, 8, 9) and cache.fps == (5.0,) * 4
    assert cache.latents.dtype == np.float16 and cache.latents.shape == (30, 6, 768)
    assert cache.problems == [] and cache.object_names == ('can', 'mug')
    for number, frame in ((0, 0), (2, 5), (3, 8)):
        images = input_pictures(dataset[number], IMAGE_SIZE, [frame])
        row = cache.episodes[number].start + frame
        expected = encoder(torch.from_numpy(images))[0].numpy()
        np.testing.assert_allclose(cache.latents[row], expected, atol=5e-3, rtol=2e-3)
        small = cv2.resize(images[0], (24, 16), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(cache.pictures[row], small)


def test_windows_have_latents_and_truth(cache, data):
    options = ActionOptions(absolute=True)
    episodes, frames = [3, 0], [[0, 2, 3, 8], [1, 1, 4, 5]]
    batch = cache.windows(episodes, frames, options)
    assert len(batch) == 2 and batch.latents.dtype == torch.float32
    assert batch.latents.shape == (2, 4, 6, 768) and batch.actions.shape == (2, 3, 258)
    heatmap_keypoints = [0, 4, 8, 12, 16, 20, 21, 25, 29, 33, 37, 41]
    for b, (episode, window) in enumerate(zip(episodes, frames, strict=True)):
        recording = RecordingDataset(data)[episode]
        rows = cache.episodes[episode].start + np.array(window)
        np.testing.assert_array_equal(batch.latents[b], cache.latents[rows].astype(np.float32))
        T_camera_from_base = np.linalg.inv(recording.info.T_base_from_camera)
        points = recording.keypoints_world[window]
        in_camera = points @ T_camera_from_base[:3, :3].T + T_camera_from_base[:3, 3]
        in_camera[:, :21] = 0
        np.testing.assert_allclose(batch.keypoints_camera[b], in_camera, atol=1e-5)
        expected = np.zeros((3, 44, 3))
        expected[:, :42] = np.diff(in_camera, axis=0)
        np.testing.assert_allclose(batch.action_rows[b], expected, atol=1e-5)
        np.testing.assert_allclose(batch.actions[b, :, :132], expected.reshape(3, -1), atol=1e-5)
        start = in_camera[:3].reshape(3, -1)
        np.testing.assert_allclose(batch.actions[b, :, 132:], start, atol=1e-5)
        np.testing.assert_array_equal(
            batch.keypoint_pixels[b], cache.table.keypoint_pixels[rows][:, heatmap_keypoints]
        )
        np.testing.assert_array_equal(
            batch.keypoint_valid[b], cache.table.keypoint_visible[rows][:, heatmap_keypoints]
        )
        np.testing.assert_array_equal(
            batch.object_contact[b], recording.objects.in_contact[window][:, ::-1]
        )
        np.testing.assert_allclose(batch.seconds[b], (np.array(window) - window[0]) / 5)
    assert batch.keypoint_supervised.all()
    with pytest.raises(IndexError):
        cache.windows([0], [[0, 6]], options)


def test_single_frames(cache):
    rows = [29, 0, 6, 6]
    frames = cache.frames(rows)
    np.testing.assert_array_equal(frames.features, cache.latents[rows])
    np.testing.assert_array_equal(frames.pictures, cache.pictures[rows])
    np.testing.assert_array_equal(frames.keypoint_depths, cache.table.keypoint_depths[rows])
    assert frames.keypoint_supervised.all() and len(frames) == 4


def test_in_memory_and_pickled_it_is_the_same(cache):
    loaded = LatentCache(cache.folder, in_memory=True)
    assert not isinstance(loaded.latents, np.memmap)
    np.testing.assert_array_equal(loaded.latents, cache.latents)
    assert len(pickle.dumps(cache)) < 1000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cache)).latents, cache.latents)


def test_worker_processes_give_the_same_cache(data, encoder, tmp_path):
    # Each worker has one core; with more threads the sums are rounded otherwise.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        cache = LatentCache.build(RecordingDataset(data), encoder, tmp_path / 'b', batch_size=4)
    finally:
        torch.set_num_threads(threads)
    again = LatentCache.build(
        RecordingDataset(data), encoder, tmp_path / 'c', batch_size=4, processes=2
    )
    np.testing.assert_array_equal(again.latents, cache.latents)
    assert again.episodes == cache.episodes


KILLED = """
import os, signal, sys
import torch
from dexwm.data.latent_cache import LatentCache
from dexwm.data.recording import RecordingDataset
from dexwm.model.encoders.registry import build_encoder

def kill(done, total, frames):
    if done == 2:
        with open(sys.argv[2] + '/latents.f16', 'ab') as file:
            file.write(b'half an episode')
        with open(sys.argv[2] + '/progress.jsonl', 'a') as file:
            file.write('{"name": "episode_0')
        os.kill(os.getpid(), signal.SIGKILL)

# With another number of threads the sums are rounded otherwise.
torch.set_num_threads(int(sys.argv[3]))
encoder = build_encoder('efficientnet_lite0', {'image_size': [64, 96]})
LatentCache.build(RecordingDataset(sys.argv[1]), encoder, sys.argv[2], batch_size=4,
                  picture_size=(16, 24), on_progress=kill)
"""


def test_a_killed_build_goes_on_where_it_stopped(cache, data, encoder, tmp_path):
    folder = tmp_path / 'c'
    killed = subprocess.run(
        [
            sys.executable,
            '-c',
            textwrap.dedent(KILLED),
            str(data),
            str(folder),
            str(torch.get_num_threads()),
        ],
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(DatasetError, match='is not finished: run `dexwm encode`'):
        LatentCache(folder)
    other = build_encoder('efficientnet_lite0', {'image_size': [64, 64]})
    with pytest.raises(DatasetError, match='another encoder or other settings'):
        LatentCache.build(RecordingDataset(data), other, folder, picture_size=(16, 24))
    encoded = []
    LatentCache.build(
        RecordingDataset(data),
        encoder,
        folder,
        batch_size=4,
        picture_size=(16, 24),
        on_progress=lambda done, total, frames: encoded.append(frames),
    )
    assert encoded == [0, 0, 8, 17]
    for name in ('latents.f16', 'pictures.u8', 'cache.json', 'frames.npz'):
        assert (folder / name).read_bytes() == (cache.folder / name).read_bytes()
    assert not (folder / 'progress.jsonl').exists()


def test_a_full_disk_keeps_what_is_finished(cache, data, encoder, tmp_path):
    folder = tmp_path / 'c'
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20 * 6 * 768 * 2, limits[1]))
    try:
        with pytest.raises(OSError, match='too large'):
            LatentCache.build(RecordingDataset(data), encoder, folder, batch_size=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    again = LatentCache.build(RecordingDataset(data), encoder, folder, batch_size=4)
    np.testing.assert_array_equal(again.latents, cache.latents)


def test_a_complete_cache_is_not_built_again(cache, data, encoder):
    before = (cache.folder / 'latents.f16').stat().st_mtime_ns
    LatentCache.build(RecordingDataset(data), encoder, cache.folder, picture_size=(16, 24))
    assert (cache.folder / 'latents.f16').stat().st_mtime_ns == before
    with pytest.raises(DatasetError, match='another size of small pictures'):
        LatentCache.build(RecordingDataset(data), encoder, cache.folder)


def test_new_episodes_are_added_to_a_complete_cache(cache, data, encoder, tmp_path):
    first, folder = tmp_path / 'first', tmp_path / 'c'
    first.mkdir()
    for path in sorted(data.glob('*.h5'))[:2]:
        (first / path.name).symlink_to(path)
    LatentCache.build(RecordingDataset(first), encoder, folder, picture_size=(16, 24))
    encoded = []
    grown = LatentCache.build(
        RecordingDataset(data),
        encoder,
        folder,
        batch_size=4,
        picture_size=(16, 24),
        on_progress=lambda done, total, frames: encoded.append(frames),
    )
    assert encoded == [0, 0, 8, 17]
    assert grown.episodes == cache.episodes
    np.testing.assert_array_equal(grown.latents, cache.latents)
    with pytest.raises(DatasetError, match='2 episodes are gone'):
        LatentCache.build(RecordingDataset(first), encoder, folder, picture_size=(16, 24))


def test_another_encoders_cache_is_refused(cache):
    other = build_encoder('efficientnet_lite0', {'image_size': [64, 64]})
    with pytest.raises(DatasetError, match='holds latents of efficientnet_lite0 with digest'):
        LatentCache(cache.folder, other)


def test_data_that_changed_is_noticed(encoder, tmp_path):
    for seed in (1, 2):
        write_recording(tmp_path, seed, frames=3)
    folder = tmp_path / 'c'
    LatentCache.build(RecordingDataset(tmp_path), encoder, folder)
    with h5py.File(tmp_path / 'episode_00000002.h5', 'r+') as file:
        file['keypoints_base'][1, 4] += 0.1
    with pytest.raises(
        DatasetError, match='1 episodes are gone or changed, first episode_00000002'
    ):
        LatentCache.build(RecordingDataset(tmp_path), encoder, folder)


def test_unreadable_episodes_are_left_out_and_named(encoder, tmp_path):
    for seed in (1, 2, 3):
        write_recording(tmp_path, seed, frames=3)
    with h5py.File(tmp_path / 'episode_00000002.h5', 'r+') as file:
        file['images'][1] = file['images'][1][:100]
    truncated = tmp_path / 'episode_00000003.h5'
    truncated.write_bytes(truncated.read_bytes()[:3000])
    cache = LatentCache.build(RecordingDataset(tmp_path), encoder, tmp_path / 'c')
    assert [episode.name for episode in cache.episodes] == ['episode_00000001']
    assert len(cache.latents) == 3
    named = {problem.file: problem.reason for problem in LatentCache(tmp_path / 'c').problems}
    assert len(named) == 2 and str(truncated) in named
    assert 'the picture at frame 1 is damaged' in named['episode_00000002']

    for seed in (2, 3):
        write_recording(tmp_path, seed, frames=3)
    mended = LatentCache.build(RecordingDataset(tmp_path), encoder, tmp_path / 'c')
    assert len(mended.episodes) == 3 and mended.problems == []

    (tmp_path / 'episode_00000001.h5').unlink()
    truncated.unlink()
    with h5py.File(tmp_path / 'episode_00000002.h5', 'r+') as file:
        file['images'][1] = file['images'][1][:100]
    with pytest.raises(DatasetError, match='no episode could be encoded'):
        LatentCache.build(RecordingDataset(tmp_path), encoder, tmp_path / 'd')


def damage(name, change):
    def apply(folder):
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return apply


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (damage('latents.f16', lambda b: b[:-2]), r'latents\.f16 has \d+ bytes, not \d+'),
        (damage('cache.json', lambda b: b[:100]), r'cache\.json cannot be read'),
        (damage('frames.npz', lambda b: b[:100]), r'frames\.npz cannot be read'),
        (lambda folder: (folder / 'cache.json').unlink(), 'is not there'),
        (
            damage(
                'cache.json', lambda b: json.dumps({**json.loads(b), 'format_version': 9}).encode()
            ),
            'format 9',
        ),
    ],
)
def test_a_damaged_cache_is_refused(encoder, tmp_path, change, message):
    write_recording(tmp_path, 1, frames=2)
    LatentCache.build(RecordingDataset(tmp_path), encoder, tmp_path / 'c')
    change(tmp_path / 'c')
    with pytest.raises(DatasetError, match=message):
        LatentCache(tmp_path / 'c')


@pytest.fixture(scope='module')
def projected(cache, tmp_path_factory):
    whole = build_encoder('efficientnet_lite0_pca', {**OPTIONS, 'dim': 16})
    whole.projection.fit(torch.from_numpy(np.array(cache.latents)))
    path = tmp_path_factory.mktemp('pca') / 'pca.safetensors'
    whole.load_trained_state(whole.projection.state_dict())
    whole.save_projection(path)
    return path


def test_a_projections_cache_comes_from_its_backbones(cache, data, projected, tmp_path):
    whole = build_encoder('efficientnet_lite0_pca', {'projection': str(projected), **OPTIONS})
    derived = cache.derive(whole, tmp_path / 'derived', batch_size=7)
    direct = LatentCache.build(
        RecordingDataset(data), whole, tmp_path / 'direct', picture_size=(16, 24)
    )
    assert derived.dim == 16 and derived.episodes == direct.episodes
    np.testing.assert_allclose(derived.latents, direct.latents, atol=0.02)
    np.testing.assert_array_equal(derived.pictures, direct.pictures)
    LatentCache(tmp_path / 'derived', whole)
    with pytest.raises(DatasetError, match='the encoder is efficientnet_lite0 with digest'):
        derived.derive(whole, tmp_path / 'wrong')


def run_command(*words):
    parser = argparse.ArgumentParser()
    encode.add_parser(parser.add_subparsers())
    args = parser.parse_args(['encode', *map(str, words)])
    return args.run(args)


def test_the_command(cache, data, projected, tmp_path, capsys):
    raw, latents = tmp_path / 'raw', tmp_path / 'latents'
    option = f'image_size={list(IMAGE_SIZE)}'
    assert run_command('--data', data, '--out', raw, '--option', option) == 0
    assert '30 frames of 4 episodes, 6 tokens of 768' in capsys.readouterr().out
    name = 'efficientnet_lite0_pca'
    assert not run_command(
        '--from-cache', raw, '--out', latents, '--encoder', name,
        '--option', option, '--option', f'projection={projected}',
    )  # fmt: skip
    assert LatentCache(latents).dim == 16
    with pytest.raises(DatasetError, match='has no projection'):
        run_command('--from-cache', raw, '--out', latents, '--option', option)
    for flag in ('--processes', '--fps', '--frames', '--data-option'):
        with pytest.raises(DatasetError, match='--fps and --frames are for --data'):
            run_command(
                '--from-cache', raw, '--out', latents, '--encoder', name, flag, 2,
                '--option', option, '--option', f'projection={projected}',
            )  # fmt: skip
    few = tmp_path / 'few'
    assert not run_command(
        '--data', data, '--out', few, '--option', option, '--fps', 2, '--frames', 3
    )
    assert set(LatentCache(few).fps) == {5 / 3} and len(LatentCache(few).table) < 6
    with pytest.raises(DatasetError, match="no option 'outcome'"):
        run_command('--data', data, '--out', raw, '--data-option', 'outcome=all')
    with pytest.raises(DatasetError, match='NAME=VALUE'):
        run_command('--data', data, '--out', raw, '--option', 'image_size')
    assert Recording(data / 'episode_00000001.h5').length == 6


def test_the_command_takes_the_encoder_of_a_model(cache, projected, tmp_path):
    encoder = build_encoder('efficientnet_lite0_pca', {'projection': str(projected), **OPTIONS})
    save_checkpoint(tiny_world_model(encoder=encoder), tmp_path / 'model')
    words = ('--from-cache', cache.folder, '--out', tmp_path / 'latents', '--model')
    assert not run_command(*words, tmp_path / 'model')
    LatentCache(tmp_path / 'latents', encoder)
    with pytest.raises(DatasetError, match='--option is for --encoder'):
        run_command(*words, tmp_path / 'model', '--option', f'image_size={list(IMAGE_SIZE)}')
    with pytest.raises(CheckpointError, match='missing'):
        run_command(*words, tmp_path / 'none')
    with pytest.raises(SystemExit):
        run_command(*words, tmp_path / 'model', '--encoder', encoder.name)
