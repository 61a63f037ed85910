import pytest

from dexwm.data.datasets import open_dataset
from dexwm.data.egodex import EgoDexDataset
from dexwm.data.episode import DatasetError

from .egodex_writer import write_episode
from .tiny_recordings import write_recording


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
