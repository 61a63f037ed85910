import numpy as np
import pytest

from dexwm.data.datasets import OPTIONS, open_dataset
from dexwm.data.egodex import EgoDexDataset
from dexwm.data.episode import DatasetError, check_episode
from dexwm.data.recording import RecordingDataset
from dexwm.data.selection import ThinnedDataset

from . import droid_writer, robocasa_writer
from .egodex_writer import write_episode
from .tiny_recordings import write_recording

CAMERA = {
    'width': robocasa_writer.WIDTH,
    'height': robocasa_writer.HEIGHT,
    'fx': 36,
    'fy': 36,
    'cx': 47.5,
    'cy': 29.5,
}


def test_recordings_by_split(tmp_path):
    for seed in (1, 2, 10):
        write_recording(tmp_path, seed, frames=1)
    assert len(open_dataset('recording', tmp_path)) == 2
    assert len(open_dataset('recording', tmp_path, 'held_out')) == 1
    assert len(open_dataset('recording', tmp_path, 'all')) == 3


def test_egodex_holds_its_test_part_out(tmp_path):
    write_episode(tmp_path / 'test' / 'fold' / '0.hdf5', frames=3)
    dataset = open_dataset('egodex', tmp_path, 'held_out')
    assert isinstance(dataset, EgoDexDataset) and len(dataset) == 1
    with pytest.raises(DatasetError, match='held_out'):
        open_dataset('egodex', tmp_path, 'all')


def test_what_there_is_not(tmp_path):
    with pytest.raises(DatasetError, match='choose recording, egodex, droid, robocasa'):
        open_dataset('video', tmp_path)
    for kind in ('droid', 'robocasa'):
        with pytest.raises(DatasetError, match='holds nothing out'):
            open_dataset(kind, tmp_path, 'held_out')


def test_options_reach_the_readers(tmp_path):
    write_episode(tmp_path / 'train' / 'fold' / '0.hdf5', frames=3)
    assert open_dataset('egodex', tmp_path, options={'min_confidence': 0}).min_confidence == 0
    robocasa_writer.write_file(tmp_path / 'a.hdf5')
    camera = {
        'width': robocasa_writer.WIDTH,
        'height': robocasa_writer.HEIGHT,
        'fx': 36,
        'fy': 36,
        'cx': 47.5,
        'cy': 29.5,
    }
    dataset = open_dataset('robocasa', tmp_path, options={'fps': 7.5, 'intrinsics': camera})
    assert dataset[0].fps == 7.5 and dataset[0].intrinsics.cx == 47.5
    droid_writer.write_episode(tmp_path / 'droid')
    with pytest.raises(DatasetError, match='has no episodes'):
        open_dataset('droid', tmp_path / 'droid', options={'outcome': 'failure'})
    assert len(open_dataset('droid', tmp_path / 'droid', options={'outcome': 'all'})) == 1


@pytest.mark.parametrize(
    ('kind', 'options', 'message'),
    [
        ('egodex', {'outcome': 'all'}, 'no option .outcome.; it has: min_confidence'),
        ('recording', {'fps': 3}, 'it has: none'),
        ('droid', {'intrinsics': {'fx': 1}}, 'given as {width, height, fx'),
        ('droid', {'intrinsics': {**CAMERA, 'fx': -1}}, 'given as'),
        ('robocasa', {'fps': -1}, 'fps must be positive'),
    ],
)
def test_options_that_there_are_not(kind, options, message, tmp_path):
    with pytest.raises(DatasetError, match=message):
        open_dataset(kind, tmp_path, options=options)
    assert set(OPTIONS) == {'recording', 'egodex', 'droid', 'robocasa'}


def test_thinned_episodes_are_every_nth_frame(tmp_path):
    for seed in (1, 2):
        write_recording(tmp_path, seed, frames=11, fps=29.97)
    whole = RecordingDataset(tmp_path)
    thinned = ThinnedDataset(whole, 10)
    assert len(thinned) == 2 and thinned.problems == []
    episode, original = thinned[0], whole[0]
    check_episode(episode)
    assert (episode.length, episode.name) == (4, original.name)
    assert episode.fps == pytest.approx(9.99)
    np.testing.assert_array_equal(episode.images([3, 0]), original.images([9, 0]))
    np.testing.assert_array_equal(episode.keypoints_world, original.keypoints_world[[0, 3, 6, 9]])
    np.testing.assert_array_equal(
        episode.objects.in_contact, original.objects.in_contact[[0, 3, 6, 9]]
    )
    with pytest.raises(IndexError):
        episode.images([4])
    assert ThinnedDataset(whole, 30)[1].length == 11
    assert ThinnedDataset(whole, 12)[1].fps == pytest.approx(9.99)
    with pytest.raises(DatasetError, match='positive'):
        ThinnedDataset(whole, 0)
