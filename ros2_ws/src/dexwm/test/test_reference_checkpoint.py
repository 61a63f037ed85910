"""The converter, on files written here in the layout that is assumed of the published one."""

import argparse

import pytest
import torch

from dexwm.commands import convert, params
from dexwm.model.checkpoint import load_checkpoint
from dexwm.model.encoders.registry import build_encoder
from dexwm.model.reference_checkpoint import (
    NamingTable,
    ReferenceCheckpointError,
    convert_reference,
    read_reference_weights,
    reference_config,
)
from dexwm.model.world_model import WorldModel

from .tiny_world_model import TinyEncoder, tiny_world_model

BLOCK = {
    'adaln': 'adaLN_modulation.1',
    'attention.qkv': 'attn.qkv',
    'attention.proj': 'attn.proj',
    'cross_attention.qkv': 'cross_attn.qkv',
    'cross_attention.proj': 'cross_attn.proj',
    'mlp.0': 'mlp.fc1',
    'mlp.2': 'mlp.fc2',
}
HEAD_BLOCK = {
    'norm1': 'norm1',
    'norm2': 'norm2',
    'qkv': 'attn.qkv',
    'proj': 'attn.proj',
    'mlp.0': 'mlp.fc1',
    'mlp.2': 'mlp.fc2',
}


def reference_state(model, prefix='module._orig_mod.'):
    """The weights of a model as the reference would have saved them, written out by hand."""
    state = {}

    def linear(module, name):
        for kind, tensor in module.state_dict().items():
            state[f'{prefix}{name}.{kind}'] = tensor

    predictor, head = model.predictor, model.keypoint_head
    state[f'{prefix}predictor.pos_embed'] = predictor.pos_embed.detach()
    linear(predictor.input_proj, 'predictor.input_proj')
    linear(predictor.output_proj, 'predictor.output_proj')
    linear(predictor.final.adaln, 'predictor.final_layer.adaLN_modulation.1')
    linear(predictor.final.linear, 'predictor.final_layer.linear')
    for i, block in enumerate(predictor.blocks):
        for ours, theirs in BLOCK.items():
            linear(block.get_submodule(ours), f'predictor.blocks.{i}.{theirs}')
    state[f'{prefix}keypoint_model.pos_embed'] = head.pos_embed.detach()
    linear(head.input_proj, 'keypoint_model.embed')
    linear(head.norm, 'keypoint_model.norm')
    linear(head.output, 'keypoint_model.head')
    for i, block in enumerate(head.blocks):
        for ours, theirs in HEAD_BLOCK.items():
            linear(block.get_submodule(ours), f'keypoint_model.blocks.{i}.{theirs}')
    return state


@pytest.fixture(scope='module')
def model():
    return tiny_world_model(decoder=None)


def write(path, **entries):
    torch.save({'epoch': 7, 'optimizer': {'state': {}, 'param_groups': []}, **entries}, path)
    return path


def predictions(model):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 5, 6, 6, generator=generator)
    predicted = model.predict_window(latents, torch.randn(2, 4, 132, generator=generator))
    return predicted, model.heatmaps(predicted)


@pytest.mark.parametrize(
    ('entry', 'prefix'),
    [
        ('model', ''),
        ('state_dict', 'module.'),
        ('ema', '_orig_mod.'),
        ('model', 'module._orig_mod.'),
        ('model', '_fsdp_wrapped_module.'),
    ],
)
def test_a_converted_model_predicts_what_the_original_did(tmp_path, model, entry, prefix):
    path = write(tmp_path / 'x.pth.tar', **{entry: reference_state(model, prefix)})
    converted = convert_reference(read_reference_weights(path), model.config, TinyEncoder())
    for a, b in zip(predictions(model), predictions(converted), strict=True):
        assert torch.equal(a, b)


def test_weights_of_half_precision_become_float32(tmp_path, model):
    state = {k: v.bfloat16() for k, v in reference_state(model).items()}
    path = write(tmp_path / 'x.pth.tar', model=state)
    converted = convert_reference(read_reference_weights(path), model.config, TinyEncoder())
    assert all(p.dtype == torch.float32 for p in converted.parameters())
    expected = model.predictor.pos_embed.bfloat16().float()
    assert torch.equal(converted.predictor.pos_embed, expected)


def test_two_sets_of_weights_need_a_choice(tmp_path, model):
    state = reference_state(model)
    other = {k: v + 1 for k, v in state.items()}
    path = write(tmp_path / 'x.pth.tar', model=state, ema=other)
    with pytest.raises(ReferenceCheckpointError, match=r'say which .*\(model, ema found\)'):
        read_reference_weights(path)
    weights = read_reference_weights(path, 'ema')
    assert torch.equal(weights['predictor.pos_embed'], model.predictor.pos_embed + 1)
    with pytest.raises(ReferenceCheckpointError, match='epoch, optimizer, model, ema'):
        read_reference_weights(path, 'weights')


def test_everything_that_does_not_match_is_listed(tmp_path, model):
    state = reference_state(model, '')
    state['predictor.blocks.1.mlp.w1.weight'] = state.pop('predictor.blocks.1.mlp.fc1.weight')
    state['predictor.pos_embed'] = torch.zeros(9, 6, 8)
    state['image_encoder.cls'] = torch.zeros(3)
    with pytest.raises(ReferenceCheckpointError) as error:
        convert_reference(state, model.config, TinyEncoder())
    message = str(error.value)
    assert 'missing: predictor.blocks.1.mlp.fc1.weight (16, 8)' in message
    assert 'left over: predictor.blocks.1.mlp.w1.weight (16, 8)' in message
    assert 'left over: image_encoder.cls (3,)' in message
    assert 'other shape: predictor.pos_embed is (9, 6, 8) and must be (5, 6, 8)' in message
    assert message.count('\n') == 4


def test_a_table_of_names_is_followed(tmp_path, model):
    state = {
        name.replace('cross_attn', 'cttn').replace('keypoint_model.head', 'keypoint_model.out'): v
        for name, v in reference_state(model, '').items()
    }
    state['image_encoder.cls'] = torch.zeros(3)
    table = tmp_path / 'names.yaml'
    table.write_text(
        'names:\n'
        '  predictor.blocks.{i}.cross_attention.qkv: predictor.blocks.{i}.cttn.qkv\n'
        '  predictor.blocks.{i}.cross_attention.proj: predictor.blocks.{i}.cttn.proj\n'
        '  keypoint_head.output: keypoint_model.out\n'
        "ignore: ['image_encoder.*']\n"
    )
    converted = convert_reference(state, model.config, TinyEncoder(), NamingTable.from_yaml(table))
    for a, b in zip(predictions(model), predictions(converted), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('names: {predictor.head: x}', r'names has no predictor\.head; it has predictor\.input'),
        ('name: {}', 'mapping with names and ignore'),
        ('ignore: x', 'ignore a list'),
        ('names: [', 'cannot be read'),
    ],
)
def test_wrong_tables_are_refused(tmp_path, text, message):
    (tmp_path / 'names.yaml').write_text(text)
    with pytest.raises(ReferenceCheckpointError, match=message):
        NamingTable.from_yaml(tmp_path / 'names.yaml')


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save({'model': argparse.Namespace()}, tmp_path / 'x.pth.tar')
    with pytest.raises(ReferenceCheckpointError, match='cannot be read'):
        read_reference_weights(tmp_path / 'x.pth.tar')


@pytest.mark.parametrize('content', [b'', b'no checkpoint'])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / 'x.pth.tar').write_bytes(content)
    with pytest.raises(ReferenceCheckpointError, match='cannot be read'):
        read_reference_weights(tmp_path / 'x.pth.tar')


def test_the_configuration_is_the_papers_with_the_published_codes_ways():
    config = reference_config('S', TinyEncoder())
    assert (config.predictor.depth, config.predictor.dim, config.predictor.heads) == (12, 384, 6)
    assert config.predictor.context == 8 and not config.predictor.residual
    assert config.keypoint_head.token_grid == (2, 2) and config.heatmap_stride == 1
    assert (config.action.euler, config.action.camera_frame) == ('reference', 'world')
    with pytest.raises(ReferenceCheckpointError, match='S, B, L, XL'):
        reference_config('tiny', TinyEncoder())


def parse(command, *arguments):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return parser.parse_args(list(arguments))


def test_the_command_writes_a_model_that_loads(tmp_path):
    encoder = build_encoder('efficientnet_lite0')
    torch.manual_seed(0)
    original = WorldModel(reference_config('S', encoder), encoder)
    path = write(tmp_path / 'x.pth.tar', model=reference_state(original))
    options = ['--size', 'S', '--encoder', 'efficientnet_lite0']
    arguments = parse(convert, 'convert', str(path), str(tmp_path / 'model'), *options)
    assert convert.run(arguments) == 0
    loaded = load_checkpoint(tmp_path / 'model')
    assert loaded.config == original.config
    state = loaded.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in original.state_dict().items())


def test_the_table_of_parameters(capsys):
    assert params.run(parse(params, 'params')) == 0
    text = capsys.readouterr().out
    for number in ('30,611,968', '103,985,152', '343,665,664', '456,403,968'):
        assert number in text
    assert 'keypoint head' in text
