import argparse
import json

import pytest
import torch

from dexwm.commands import eval as eval_command
from dexwm.data.episode import DatasetError
from dexwm.data.recording import RecordingDataset
from dexwm.evaluation.encoding import encode
from dexwm.evaluation.errors import EvaluationError
from dexwm.model.checkpoint import save_checkpoint
from dexwm.model.encoders.registry import build_encoder
from dexwm.model.world_model import WorldModel, WorldModelConfig

from .blob_recordings import write_recording


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with recordings and models of two encoders."""
    place = tmp_path_factory.mktemp('eval')
    (place / 'data').mkdir()
    for seed in range(6):
        write_recording(place / 'data', seed)
    for name, width in (('full', 96), ('nwm', 96), ('square', 64)):
        encoder = build_encoder('efficientnet_lite0', {'image_size': [64, width]})
        written = {
            'name': name,
            'predictor': {'dim': 16, 'depth': 1, 'heads': 2},
            'keypoint_head': {'dim': 16, 'depth': 0, 'heads': 2, 'stride': 8},
            'action': {'subset': 'nwm' if name == 'nwm' else 'full'},
        }
        torch.manual_seed(0)
        model = WorldModel(WorldModelConfig.for_encoder(written, encoder), encoder)
        save_checkpoint(model, place / name)
    return place


@pytest.fixture
def command(place, monkeypatch):
    monkeypatch.chdir(place)
    parser = argparse.ArgumentParser()
    eval_command.add_parser(parser.add_subparsers())

    def run(*arguments):
        return eval_command.run(parser.parse_args(['eval', *arguments]))

    return run


OPEN_LOOP = ('open-loop', '--data', 'data', '--probe-steps', '10', '--windows-per-episode', '1')


def test_models_of_two_encoders_in_one_table(command, place, capsys):
    assert command(*OPEN_LOOP, 'full', 'camera only=nwm', 'square', '--out', 'first') == 0
    content = json.loads((place / 'first' / 'open_loop.json').read_text())
    assert [(entry['name'], entry['role']) for entry in content['entries']] == [
        ('persistence (efficientnet_lite0 1)', 'persistence'),
        ('true frame (efficientnet_lite0 1)', 'true frame'),
        ('full', 'model'),
        ('camera only', 'model'),
        ('persistence (efficientnet_lite0 2)', 'persistence'),
        ('true frame (efficientnet_lite0 2)', 'true frame'),
        ('square', 'model'),
    ]
    assert len({data['windows_digest'] for data in content['data'].values()}) == 1
    assert content['entries'][3]['details']['action']['subset'] == 'nwm'
    assert 'camera only' in capsys.readouterr().out
    for name in ('pck', 'keypoint_error', 'latent_error', 'object_error'):
        picture = (place / 'first' / f'{name}.png').read_bytes()
        assert picture.startswith(b'\x89PNG')

    assert command(*OPEN_LOOP, 'full', 'camera only=nwm', 'square', '--out', 'second') == 0
    again = json.loads((place / 'second' / 'open_loop.json').read_text())
    assert again == content


def test_frames_of_the_probe_and_held_out_ones_must_differ(command, place):
    encoder = build_encoder('efficientnet_lite0', {'image_size': [64, 96]})
    cache = encode(RecordingDataset(place / 'data', 'held_out'), encoder, place / 'caches')
    caches = ('--cache', str(cache.folder), '--train-cache', str(cache.folder))
    with pytest.raises(EvaluationError, match='different splits'):
        command(*OPEN_LOOP, 'full', *caches)
    with pytest.raises(DatasetError, match='dexwm encode'):
        command(*OPEN_LOOP, 'square', *caches)


def test_two_models_of_one_name_are_refused(command):
    with pytest.raises(EvaluationError, match='NAME=FOLDER'):
        command(*OPEN_LOOP, 'full', 'full')


def test_pictures_need_a_decoder(command):
    with pytest.raises(EvaluationError, match='full has no decoder'):
        command('pictures', 'full', '--data', 'data')
