"""Checkpoints: they come back whole, or an error says what is wrong with them."""

import json
import resource
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file

from dexwm.model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from dexwm.model.encoders.registry import build_encoder

from .tiny_world_model import TinyEncoder, tiny_world_model


def same(a, b):
    state = b.state_dict()
    return all(torch.equal(v, state[k]) for k, v in a.state_dict().items())


@pytest.fixture
def model():
    return tiny_world_model()


@pytest.fixture
def folder(tmp_path, model):
    save_checkpoint(model, tmp_path / 'model')
    return tmp_path / 'model'


def edit(folder, change):
    """Changes config.json, and its copy in the weights, as another release would have written."""
    config = json.loads((folder / 'config.json').read_text())
    change(config)
    (folder / 'config.json').write_text(json.dumps(config))
    tensors = load_file(folder / 'model.safetensors')
    save_file(tensors, folder / 'model.safetensors', metadata={'config': json.dumps(config)})


def edit_weights(folder, change):
    tensors = load_file(folder / 'model.safetensors')
    change(tensors)
    config = (folder / 'config.json').read_text()
    save_file(tensors, folder / 'model.safetensors', metadata={'config': config})


def test_a_model_comes_back_as_it_was(folder, model):
    loaded = load_checkpoint(folder, encoder=TinyEncoder())
    assert loaded.config == model.config
    assert same(model, loaded)
    assert not loaded.training
    assert sorted(p.name for p in folder.iterdir()) == ['config.json', 'model.safetensors']


def test_an_object_head_is_stored(tmp_path):
    model = tiny_world_model(objects=['ball', 'cube'])
    save_checkpoint(model, tmp_path)
    loaded = load_checkpoint(tmp_path, encoder=TinyEncoder())
    assert loaded.config.objects == ('ball', 'cube')
    assert same(model, loaded)


def test_the_public_encoder_is_not_stored_but_built(tmp_path):
    encoder = build_encoder('efficientnet_lite0', {'image_size': [64, 96]})
    model = tiny_world_model(encoder=encoder, decoder=None)
    save_checkpoint(model, tmp_path)
    names = load_file(tmp_path / 'model.safetensors')
    assert not any(name.startswith('encoder.') for name in names)
    assert same(model, load_checkpoint(tmp_path))


def test_a_trained_adapter_is_stored(tmp_path):
    encoder = build_encoder('efficientnet_lite0_adapter', {'image_size': [64, 96], 'dim': 8})
    generator = torch.Generator().manual_seed(0)
    state = {
        k: torch.randn(v.shape, generator=generator) for k, v in encoder.trained_state().items()
    }
    encoder.load_trained_state(state)
    model = tiny_world_model(encoder=encoder, decoder=None)
    save_checkpoint(model, tmp_path)
    names = {n for n in load_file(tmp_path / 'model.safetensors') if n.startswith('encoder.')}
    assert names == {f'encoder.{name}' for name in state}
    assert same(model, load_checkpoint(tmp_path))


def test_public_weights_that_are_not_those_of_the_training_are_refused(tmp_path):
    encoder = build_encoder('efficientnet_lite0', {'image_size': [64, 96]})
    save_checkpoint(tiny_world_model(encoder=encoder, decoder=None), tmp_path)
    edit(tmp_path, lambda config: config.update(frozen_encoder_digest='0' * 64))
    with pytest.raises(CheckpointError, match='other public weights of efficientnet_lite0'):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize('encoder', [TinyEncoder(seed=1), TinyEncoder(trained=True)])
def test_an_encoder_that_is_not_the_models_is_refused(folder, encoder):
    with pytest.raises(CheckpointError, match='trained with another encoder'):
        load_checkpoint(folder, encoder=encoder)


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(CheckpointError, match=r'no model in .*nowhere: config\.json is missing'):
        load_checkpoint(tmp_path / 'nowhere')
    (folder / 'model.safetensors').unlink()
    with pytest.raises(CheckpointError, match=r'model\.safetensors is missing'):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c.update(format_version=1), 'format_version 1, this program reads 3'),
        (lambda c: c.pop('format_version'), 'format_version None'),
        (lambda c: c.update(colour='red'), 'must have the keys .* got .*colour'),
        (lambda c: c.pop('encoder_digest'), 'must have the keys'),
        (
            lambda c: c['keypoints'].reverse(),
            "other keypoints of a hand.*'little_tip', 'little_dip'",
        ),
        (lambda c: c['keypoints'].pop(), 'other keypoints of a hand'),
        (lambda c: c['model'].update(colour='red'), 'model has no key colour'),
        (lambda c: c['model']['predictor'].update(gates=3), r'model\.predictor has no key gates'),
        (lambda c: c['model']['predictor'].pop('residual'), r'model\.predictor lacks residual'),
    ],
)
def test_a_config_of_another_version_or_with_other_keys_is_refused(folder, change, message):
    edit(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder, encoder=TinyEncoder())


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda t: t.pop('predictor.pos_embed'), r'predictor\.pos_embed is missing'),
        (lambda t: t.update(extra=torch.zeros(1)), 'extra is unknown'),
        (
            lambda t: t.update({'predictor.pos_embed': torch.zeros(5, 6, 7)}),
            r'predictor\.pos_embed is \(5, 6, 7\) .* must be \(5, 6, 8\)',
        ),
        (
            lambda t: t.update({'predictor.pos_embed': torch.zeros(5, 6, 8).half()}),
            r'predictor\.pos_embed .* torch\.float16 and must be .* torch\.float32',
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(folder, change, message):
    edit_weights(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder, encoder=TinyEncoder())


def test_damaged_files_are_refused(folder, tmp_path):
    weights = folder / 'model.safetensors'
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match='cannot be read, copy it again'):
        load_checkpoint(folder, encoder=TinyEncoder())
    weights.write_bytes(whole)
    (folder / 'config.json').write_text('{"format_version": 2')
    with pytest.raises(CheckpointError, match=r'config\.json cannot be read'):
        load_checkpoint(folder, encoder=TinyEncoder())


def test_files_of_two_models_are_not_mixed(folder, tmp_path):
    save_checkpoint(tiny_world_model(name='other'), tmp_path / 'other')
    (folder / 'config.json').write_bytes((tmp_path / 'other' / 'config.json').read_bytes())
    with pytest.raises(CheckpointError, match='belongs to another config'):
        load_checkpoint(folder, encoder=TinyEncoder())


@pytest.mark.parametrize(
    ('devices', 'device', 'message'),
    [
        (0, 'cuda', 'no CUDA device here'),
        (1, 'cuda:1', 'no cuda:1 here, the last CUDA device is cuda:0'),
        (1, 'gpu', "'gpu' is no device"),
        (1, '', "'' is no device"),
    ],
)
def test_a_device_that_is_not_there_is_an_error(folder, monkeypatch, devices, device, message):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: devices > 0)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: devices)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder, device, TinyEncoder())


def test_a_second_save_replaces_the_first_and_leaves_other_files(folder, model):
    (folder / 'README.md').write_text('the card')
    other = tiny_world_model(seed=1)
    save_checkpoint(other, folder)
    loaded = load_checkpoint(folder, encoder=TinyEncoder())
    assert same(other, loaded) and not same(model, loaded)
    assert (folder / 'README.md').read_text() == 'the card'


@pytest.mark.parametrize('limit', [0, 2000, 20_000])
def test_a_full_disk_leaves_the_old_model_whole(folder, model, limit):
    """The kernel refuses to write past a size, as it does when a disk is full."""
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert len(before['model.safetensors']) > limit
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(CheckpointError, match='What was there before is unchanged'):
                save_checkpoint(tiny_world_model(seed=1), folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    finally:
        signal.signal(signal.SIGXFSZ, previous)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert same(model, load_checkpoint(folder, encoder=TinyEncoder()))
