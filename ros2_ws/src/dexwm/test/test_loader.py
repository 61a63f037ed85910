from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from dexwm.data.actions import ActionOptions
from dexwm.data.augmentation import ClipAugmentation
from dexwm.data.batch import Batch
from dexwm.data.episode import DatasetError
from dexwm.data.latent_cache import LatentCache, input_pictures
from dexwm.data.loader import FrameLoader, WindowLoader
from dexwm.data.moved_objects import MOVED_PIXELS
from dexwm.data.recording import RecordingDataset
from dexwm.data.window_source import CachedWindows, ImageWindows
from dexwm.data.windows import WindowSampler
from dexwm.model.encoders.registry import build_encoder

from .blob_recordings import write_recording as write_blobs
from .tiny_recordings import IMAGE_SIZE, write_recording

SAMPLER = WindowSampler(frames=4, max_seconds=2.0, segments=3)


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Two data sets with other objects."""
    first, second = tmp_path_factory.mktemp('first'), tmp_path_factory.mktemp('second')
    for seed in (1, 2, 3, 4):
        write_recording(first, seed, frames=10)
    for seed in (5, 6):
        write_recording(second, seed, frames=20, names=('box',), fps=10.0)
    return first, second


@pytest.fixture(scope='module')
def sources(folders, tmp_path_factory):
    encoder = build_encoder('efficientnet_lite0', {'image_size': list(IMAGE_SIZE)})
    caches = [
        LatentCache.build(RecordingDataset(folder), encoder, tmp_path_factory.mktemp('c') / 'c')
        for folder in folders
    ]
    names = sorted({name for cache in caches for name in cache.object_names})
    for cache in caches:
        cache.show_objects(names)
    return [CachedWindows(cache) for cache in caches]


def loader(sources, batch_size=6, seed=0, weights=(1.0, 2.0), **settings):
    return WindowLoader(
        sources, weights[: len(sources)], SAMPLER, ActionOptions(), batch_size, seed, **settings
    )


def identity(batch):
    """What tells windows apart, one row each."""
    return np.column_stack([batch.source, batch.episode, batch.frame_indices])


def assert_same(a, b):
    np.testing.assert_array_equal(identity(a), identity(b))
    for name in ('latents', 'actions', 'keypoint_pixels', 'object_pixels', 'seconds'):
        assert torch.equal(getattr(a, name), getattr(b, name))


def test_batches_are_windows_of_the_caches(sources):
    batch = next(loader(sources))
    assert batch.latents.shape == (6, 4, 6, 768) and batch.object_pixels.shape == (6, 4, 3, 2)
    assert set(batch.source.tolist()) == {0, 1}
    for i in range(6):
        cache = sources[batch.source[i]].cache
        one = cache.windows([batch.episode[i]], batch.frame_indices[i : i + 1], ActionOptions())
        assert torch.equal(one.latents[0], batch.latents[i])
        assert torch.equal(one.action_rows[0], batch.action_rows[i])
        assert torch.equal(one.object_valid[0], batch.object_valid[i])
        fps = cache.fps[0]
        assert batch.seconds[i, -1] <= 2.0
        np.testing.assert_allclose(
            batch.seconds[i] * fps, batch.frame_indices[i] - batch.frame_indices[i, 0], atol=1e-4
        )


def test_weights_are_shares_of_windows(sources):
    stream = loader(sources)
    assert stream.epoch_size == 3 * 4 + 3 * 2
    drawn = torch.cat([next(stream).source for _ in range(9)])
    assert (drawn == 1).sum() == 36 and stream.epochs == 3.0


@pytest.mark.parametrize('workers', [0, 2])
def test_it_goes_on_exactly_where_it_stopped(sources, workers):
    whole = loader(sources)
    batches = [next(whole) for _ in range(8)]
    stopped = loader(sources, workers=workers)
    for expected in batches[:3]:
        assert_same(next(stopped), expected)
    state = stopped.state_dict()
    resumed = loader(sources, workers=workers)
    resumed.load_state_dict(state)
    for expected in batches[3:]:
        assert_same(next(resumed), expected)


def test_the_global_random_numbers_are_left_alone(sources):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    next(loader(sources))
    assert torch.equal(torch.get_rng_state(), before)


def test_processes_share_every_global_batch(sources):
    alone = loader(sources, batch_size=6)
    parts = [loader(sources, batch_size=3, rank=rank, world_size=2) for rank in range(2)]
    for _ in range(4):
        together = np.concatenate([identity(next(part)) for part in parts])
        expected = identity(next(alone))
        np.testing.assert_array_equal(
            together[np.lexsort(together.T)], expected[np.lexsort(expected.T)]
        )
    assert parts[0].state_dict() == alone.state_dict()


def test_another_seed_gives_other_windows(sources):
    a, b = next(loader(sources, seed=0)), next(loader(sources, seed=1))
    assert (identity(a) != identity(b)).any()


def test_the_same_window_is_drawn_differently_in_each_round(sources):
    stream = loader(sources[:1], batch_size=12)
    first, second = identity(next(stream)), identity(next(stream))
    assert sorted(first[:, 1]) == sorted(second[:, 1])
    assert {tuple(row) for row in first} != {tuple(row) for row in second}


def test_windows_in_which_an_object_moves_are_as_common_as_wanted(tmp_path):
    # In two of four episodes the hand pushes an object.
    for seed in (1, 2, 3, 4):
        write_blobs(tmp_path, seed, frames=14, still=seed % 2 == 0)
    encoder = build_encoder('efficientnet_lite0', {'image_size': list(IMAGE_SIZE)})
    source = CachedWindows(
        LatentCache.build(RecordingDataset(tmp_path), encoder, tmp_path / 'cache')
    )

    def moved(share, batches=20, seed=0):
        sampler = replace(SAMPLER, moved_share=share)
        stream = WindowLoader([source], [1.0], sampler, ActionOptions(), 12, seed)
        drawn = [next(stream) for _ in range(batches)]
        way = [(b.object_pixels - b.object_pixels[:, :1]).norm(dim=-1).amax((1, 2)) for b in drawn]
        return drawn, (torch.cat(way) > MOVED_PIXELS).float().mean().item()

    plain, common = moved(0.0)
    assert 0.1 < common < 0.5
    assert moved(1.0)[1] == 1.0
    assert moved(0.5)[1] == pytest.approx(0.5 + 0.5 * common, abs=0.1)
    for a, b in zip(moved(0.5, 3)[0], moved(0.5, 3)[0], strict=True):
        assert_same(a, b)
    # The others are the windows that are drawn without.
    half = moved(0.5)[0]
    kept = [(identity(a) == identity(b)).all(axis=1) for a, b in zip(plain, half, strict=True)]
    assert np.concatenate(kept).mean() == pytest.approx(0.5 + 0.5 * common, abs=0.1)


def test_where_nothing_moves_the_search_for_what_moves_ends(tmp_path):
    write_blobs(tmp_path, 1, frames=8, still=True)
    encoder = build_encoder('efficientnet_lite0', {'image_size': list(IMAGE_SIZE)})
    source = CachedWindows(
        LatentCache.build(RecordingDataset(tmp_path), encoder, tmp_path / 'cache')
    )
    sampler = replace(SAMPLER, moved_share=1.0)
    batch = next(WindowLoader([source], [1.0], sampler, ActionOptions(), 4, 0))
    assert batch.frame_indices.shape == (4, 4)


def test_a_state_over_other_data_is_refused(sources):
    state = loader(sources).state_dict()
    for other in (
        loader(sources, seed=1),
        loader(sources, weights=(1.0, 1.0)),
        loader(sources[:1]),
    ):
        with pytest.raises(DatasetError, match=r'over other data; different: (seed|weights|epi)'):
            other.load_state_dict(state)
    for settings in ({'batch_size': 0}, {'rank': 2, 'world_size': 2}):
        with pytest.raises(DatasetError, match='need a batch'):
            loader(sources, **settings)


def test_batches_move_and_join(sources):
    batch = next(loader(sources))
    assert batch.to('meta').latents.device.type == 'meta'
    assert batch.to('meta').images is None
    twice = Batch.concatenate([batch, batch])
    assert len(twice) == 12 and torch.equal(twice.latents[6:], batch.latents)


def test_frames_come_once_an_epoch(sources):
    cache = sources[0].cache
    stream = FrameLoader([cache], [1.0], batch_size=10, seed=3)
    batches = [next(stream) for _ in range(4)]
    depths = np.concatenate([batch.keypoint_depths for batch in batches])
    order = np.lexsort(depths.T)
    expected = cache.table.keypoint_depths
    np.testing.assert_array_equal(depths[order], expected[np.lexsort(expected.T)])
    resumed = FrameLoader([cache], [1.0], batch_size=10, seed=3)
    next(stream)
    resumed.load_state_dict(stream.state_dict())
    assert torch.equal(next(resumed).features, next(stream).features)
    with pytest.raises(DatasetError, match='seed'):
        FrameLoader([cache], [1.0], batch_size=10, seed=4).load_state_dict(stream.state_dict())


def test_frames_come_from_several_caches(sources):
    caches = [source.cache for source in sources]
    sizes = [len(cache.table) for cache in caches]
    stream = FrameLoader(caches, sizes, batch_size=20, seed=3)
    batches = [next(stream) for _ in range(sum(sizes) // 20)]
    depths = np.concatenate([batch.keypoint_depths for batch in batches])
    expected = np.concatenate([cache.table.keypoint_depths for cache in caches])
    np.testing.assert_array_equal(depths[np.lexsort(depths.T)], expected[np.lexsort(expected.T)])
    # Weights, not sizes, say how often each comes; the second alone has boxes.
    batch = next(FrameLoader(caches, [3.0, 1.0], batch_size=sum(sizes), seed=0))
    assert caches[1].object_names == ('box', 'can', 'mug')
    assert batch.object_pixels[:, 0].any(-1).sum() == sum(sizes) // 4


def test_pictures_are_read_while_training(folders):
    dataset = RecordingDataset(folders[0])
    source = ImageWindows(dataset, (32, 32), ('can', 'mug'))
    batch = next(loader([source], weights=(1.0,)))
    assert batch.latents is None and batch.images.shape == (6, 4, 32, 32, 3)
    for i in range(6):
        episode = dataset[batch.episode[i]]
        expected = input_pictures(episode, (32, 32), batch.frame_indices[i])
        np.testing.assert_array_equal(batch.images[i], expected)


def test_augmentation_is_seeded_by_window_alone(folders):
    source = ImageWindows(
        RecordingDataset(folders[0]), IMAGE_SIZE, ('can', 'mug'), ClipAugmentation()
    )
    a, b = loader([source], batch_size=4), loader([source], batch_size=4, workers=2)
    plain = loader([ImageWindows(source.dataset, IMAGE_SIZE, ('can', 'mug'))], batch_size=4)
    for _ in range(3):
        first = next(a)
        assert torch.equal(first.images, next(b).images)
        assert not torch.equal(first.images, next(plain).images)


def test_an_unreadable_window_is_replaced_and_named(tmp_path):
    for seed in (1, 2, 3):
        write_recording(tmp_path, seed, frames=4)
    dataset = RecordingDataset(tmp_path)
    with h5py.File(tmp_path / 'episode_00000002.h5', 'r+') as file:
        for i in range(4):
            file['images'][i] = file['images'][i][:100]
    stream = loader(
        [ImageWindows(dataset, IMAGE_SIZE, ('can', 'mug'))], batch_size=9, weights=(1.0,)
    )
    batch = next(stream)
    assert set(batch.episode.tolist()) == {0, 2}
    assert {problem.file for problem in stream.problems} == {'episode_00000002'}
    assert len(stream.problems) >= 3

    for seed in (1, 3):
        (tmp_path / f'episode_0000000{seed}.h5').unlink()
    with pytest.raises(DatasetError, match='in a row cannot be read'):
        next(stream)
