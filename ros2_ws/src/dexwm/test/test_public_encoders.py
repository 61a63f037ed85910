"""Encoders out of timm and transformers, with weights written by the test itself."""

import pytest
import torch
from safetensors.torch import save_file

from dexwm.model.encoders.encoder import EncoderError
from dexwm.model.encoders.registry import build_encoder
from dexwm.model.encoders.timm_encoder import (
    TIMM_ARCHITECTURES,
    TimmEncoder,
    resize_dinov2_positions,
)
from dexwm.model.encoders.torchvision_operators import define_missing_torchvision_operators
from dexwm.model.encoders.transformers_encoder import TRANSFORMERS_ARCHITECTURES
from dexwm.model.encoders.weights import WeightsError, read_weights

define_missing_torchvision_operators()
import timm  # noqa: E402
from transformers import Dinov2Config, Dinov2Model, VJEPA2Config, VJEPA2Model  # noqa: E402

IMAGENET = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
HALF = torch.full((2, 3), 0.5)
# The architecture's depth is cut: what is tested is how weights and pictures go in.
DEPTH = 2


def pictures(height, width):
    generator = torch.Generator().manual_seed(0)
    shape = (1, height, width, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def normalised(images, statistics):
    mean, std = statistics.view(2, 3, 1, 1)
    return (images.permute(0, 3, 1, 2) / 255 - mean) / std


def randomised(model, seed=0):
    """Replace weights that start at zero or one, so that each of them shows in the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model.eval()


@pytest.mark.parametrize(
    ('name', 'size', 'prefix', 'statistics'),
    [
        ('dinov2_s', (518, 518), 1, IMAGENET),
        ('dinov3_s', (224, 384), 5, IMAGENET),
        ('siglip2_b', (256, 256), 0, HALF),
    ],
)
def test_a_timm_encoder_gives_the_networks_patch_tokens(tmp_path, name, size, prefix, statistics):
    architecture = TIMM_ARCHITECTURES[name]
    published = randomised(timm.create_model(architecture.model, depth=DEPTH, num_classes=0))
    path = tmp_path / 'weights.safetensors'
    save_file(published.state_dict(), path)

    encoder = TimmEncoder(name, architecture, size, depth=DEPTH)
    encoder.load_weights(read_weights(path), str(path))
    images = pictures(*size)
    with torch.no_grad():
        expected = timm.create_model(architecture.model, depth=DEPTH, num_classes=0, img_size=size)
        expected.load_state_dict(published.state_dict())
        tokens = expected.eval().forward_features(normalised(images, statistics))
    assert encoder.dim == tokens.shape[-1]
    assert encoder.grid == (size[0] // architecture.patch, size[1] // architecture.patch)
    torch.testing.assert_close(encoder(images), tokens[:, prefix:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('name', 'grid', 'dim'),
    [('dinov2_s', (16, 28), 384), ('dinov3_s', (14, 24), 384), ('siglip2_b', (14, 24), 768)],
)
def test_the_wide_picture_is_the_default(name, grid, dim):
    architecture = TIMM_ARCHITECTURES[name]
    published = randomised(timm.create_model(architecture.model, depth=1, num_classes=0))
    encoder = TimmEncoder(name, architecture, depth=1)
    encoder.load_weights(published.state_dict(), 'the state')
    height, width = grid[0] * architecture.patch, grid[1] * architecture.patch
    assert encoder.image_size == (height, width)
    tokens = encoder(pictures(height, width))
    assert tokens.shape == (1, grid[0] * grid[1], dim) and torch.isfinite(tokens).all()


def test_a_whole_dinov2_is_built_by_name_from_a_file_of_its_authors_form(tmp_path):
    model = randomised(timm.create_model('vit_small_patch14_dinov2', num_classes=0))
    # Their file has a mask token besides.
    torch.save({**model.state_dict(), 'mask_token': torch.zeros(1, 384)}, tmp_path / 'w.pth')
    encoder = build_encoder('dinov2_s', {'weights': tmp_path / 'w.pth', 'image_size': [56, 70]})
    assert encoder(pictures(56, 70)).shape == (1, 20, 384)
    again = build_encoder('dinov2_s', {'weights': tmp_path / 'w.pth', **encoder.options})
    assert again.digest() == encoder.digest()
    with pytest.raises(EncoderError, match='multiples of 14'):
        build_encoder('dinov2_s', {'weights': tmp_path / 'w.pth', 'image_size': [56, 71]})
    with pytest.raises(WeightsError, match=r'lacks .*reg_token'):
        build_encoder('dinov3_s', {'weights': tmp_path / 'w.pth'})


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda s: s.pop('blocks.1.norm1.weight'), r'lacks blocks\.1\.norm1\.weight'),
        (lambda s: s.update({'norm.weight': torch.zeros(3)}), r'norm\.weight is \(3,\)'),
        (lambda s: s.update({'blocks.7.norm1.weight': torch.zeros(3)}), 'does not have'),
    ],
)
def test_timm_weights_of_another_shape_are_refused(change, words):
    architecture = TIMM_ARCHITECTURES['dinov2_s']
    encoder = TimmEncoder('dinov2_s', architecture, (28, 28), depth=DEPTH)
    state = timm.create_model(architecture.model, depth=DEPTH, num_classes=0).state_dict()
    change(state)
    with pytest.raises(WeightsError, match=words):
        encoder.load_weights(state, 'the file')


def test_dinov2_positions_are_sampled_as_its_authors_do():
    old, rows, columns = 8, 5, 6
    generator = torch.Generator().manual_seed(2)
    positions = torch.randn(1, 1 + old * old, 3, generator=generator)
    resized = resize_dinov2_positions(positions, (rows, columns))
    assert torch.equal(resized[:, :1], positions[:, :1])

    def kernel(x):
        # Keys' cubic with a = -0.75, which PyTorch uses.
        x, a = abs(x), -0.75
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0

    def matrix(new):
        weights = torch.zeros(new, old)
        for i in range(new):
            centre = (i + 0.5) * old / (new + 0.1) - 0.5
            first = int(centre // 1) - 1
            for j in range(first, first + 4):
                weights[i, min(max(j, 0), old - 1)] += kernel(centre - j)
        return weights

    grid = positions[0, 1:].view(old, old, 3)
    expected = torch.einsum('ra,cb,abd->rcd', matrix(rows), matrix(columns), grid)
    torch.testing.assert_close(resized[0, 1:].view(rows, columns, 3), expected)


@pytest.fixture
def webssl(tmp_path):
    model = Dinov2Model(
        Dinov2Config(
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=56,
            patch_size=14,
        )
    )
    randomised(model).save_pretrained(tmp_path / 'webssl')
    return tmp_path / 'webssl', model


@pytest.fixture
def vjepa2(tmp_path):
    model = VJEPA2Model(
        VJEPA2Config(
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            patch_size=16,
            crop_size=32,
            frames_per_clip=4,
            pred_hidden_size=24,
            pred_num_attention_heads=2,
            pred_num_hidden_layers=1,
        )
    )
    randomised(model).save_pretrained(tmp_path / 'vjepa2')
    return tmp_path / 'vjepa2', model


def test_webssl_gives_the_networks_patch_tokens(webssl):
    folder, model = webssl
    encoder = build_encoder('webssl_300m', {'weights': folder})
    assert (encoder.image_size, encoder.grid, encoder.dim) == ((224, 392), (16, 28), 24)
    images = pictures(224, 392)
    with torch.no_grad():
        expected = model(normalised(images, IMAGENET)).last_hidden_state[:, 1:]
    torch.testing.assert_close(encoder(images), expected, rtol=1e-4, atol=1e-5)


def test_vjepa2_encodes_a_square_still_clip_as_the_network_does(vjepa2):
    folder, model = vjepa2
    encoder = build_encoder('vjepa2_l', {'weights': folder, 'image_size': [32, 32]})
    images = pictures(32, 32)
    clip = normalised(images, IMAGENET)[:, None].repeat(1, 2, 1, 1, 1)
    with torch.no_grad():
        expected = model(clip, skip_predictor=True).last_hidden_state
    assert expected.shape == (1, 4, 24)
    torch.testing.assert_close(encoder(images), expected, rtol=1e-4, atol=1e-5)


def test_vjepa2_reads_rows_and_columns_of_a_wide_picture(vjepa2):
    encoder = build_encoder('vjepa2_l', {'weights': vjepa2[0]})
    assert (encoder.image_size, encoder.grid, encoder.dim) == ((224, 384), (14, 24), 24)
    images = pictures(224, 384)
    tokens = encoder(images)
    assert tokens.shape == (1, 336, 24)
    attention = encoder.encoder.layer[0].attention
    frame, row, column = attention.get_position_ids(tokens, encoder._positions)
    assert frame.unique().tolist() == [0]
    assert torch.equal(row[0, 0], torch.arange(14).repeat_interleave(24))
    assert torch.equal(column[0, 0], torch.arange(24).repeat(14))


def test_a_folder_of_another_network_is_refused(webssl, vjepa2, tmp_path):
    with pytest.raises(WeightsError, match='type dinov2'):
        build_encoder('vjepa2_l', {'weights': webssl[0]})
    file = vjepa2[0] / 'model.safetensors'
    state = read_weights(file)
    state.pop('encoder.layer.1.mlp.fc1.weight')
    save_file(state, file, {'format': 'pt'})
    with pytest.raises(WeightsError, match=r'lacks encoder\.layer\.1\.mlp\.fc1\.weight'):
        build_encoder('vjepa2_l', {'weights': vjepa2[0]})
    (tmp_path / 'empty').mkdir()
    with pytest.raises(WeightsError, match=r'config\.json'):
        build_encoder('webssl_1b', {'weights': tmp_path / 'empty'})


def test_the_architectures_are_known_to_their_libraries():
    for architecture in TIMM_ARCHITECTURES.values():
        config = timm.get_pretrained_cfg(f'{architecture.model}.{architecture.tag}')
        assert torch.allclose(torch.tensor(config.mean) * 255, torch.tensor(architecture.mean))
        assert torch.allclose(torch.tensor(config.std) * 255, torch.tensor(architecture.std))
    assert {a.model_type for a in TRANSFORMERS_ARCHITECTURES.values()} == {'dinov2', 'vjepa2'}
