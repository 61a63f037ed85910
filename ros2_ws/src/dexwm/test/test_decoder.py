import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import save_file

from dexwm.data.batch import FrameBatch
from dexwm.model.decoder import Decoder, DecoderConfig, DecoderError
from dexwm.model.encoders.efficientnet_lite import EfficientNetLite
from dexwm.model.encoders.torchvision_operators import define_missing_torchvision_operators
from dexwm.model.encoders.weights import (
    WeightsError,
    WeightsNotFoundError,
    find_weights,
    read_weights,
)
from dexwm.training.decoder import DecoderObjective, DecoderObjectiveConfig
from dexwm.training.discriminator import PatchDiscriminator, hinge_loss
from dexwm.training.objective import ObjectiveError
from dexwm.training.perceptual import EfficientNetDistance, LpipsVgg16

SMALL = DecoderConfig(6, (2, 3), patch=16, dim=16, depth=1, heads=2)


def decoder(config=SMALL):
    torch.manual_seed(0)
    return Decoder(config)


def frames(count=4, seed=0, size=SMALL.image_size):
    """Plain pictures whose colour is in their latents."""
    generator = torch.Generator().manual_seed(seed)
    colour = torch.rand(count, 3, generator=generator)
    latents = torch.cat([colour, torch.zeros(count, 3)], 1)[:, None].repeat(1, 6, 1)
    pictures = (colour * 255).to(torch.uint8)[:, None, None].expand(-1, *size, -1)
    nothing = torch.zeros(count, 0)
    return FrameBatch(
        features=latents.half(),
        pictures=pictures,
        keypoint_pixels=nothing,
        keypoint_valid=nothing,
        keypoint_depths=nothing,
        keypoint_supervised=nothing,
        object_pixels=nothing,
        object_valid=nothing,
        object_contact=nothing,
    )


@pytest.fixture(scope='module')
def perceptual():
    path = find_weights('efficientnet_lite0')
    return EfficientNetDistance(
        EfficientNetLite.from_state('efficientnet_lite0', read_weights(path), str(path))
    )


@pytest.mark.parametrize('output', ['linear', 'convolutions'])
@pytest.mark.parametrize(('grid', 'patch'), [((2, 3), 8), ((4, 5), 1), ((1, 2), 32)])
def test_a_decoder_draws_pictures_of_its_size(output, grid, patch):
    config = replace(SMALL, grid=grid, patch=patch, output=output)
    tokens = grid[0] * grid[1]
    images = decoder(config)(torch.randn(2, 3, tokens, 6) * 10)
    assert images.shape == (2, 3, 3, grid[0] * patch, grid[1] * patch)
    assert images.min() >= 0 and images.max() <= 1
    assert config.image_size == tuple(images.shape[-2:])


def test_the_papers_grid_takes_patches_of_14():
    config = DecoderConfig(8, (16, 28), 14, 16, 1, 2, output='linear')
    assert decoder(config)(torch.zeros(1, 448, 8)).shape == (1, 3, 224, 392)
    with pytest.raises(DecoderError, match='power of 2'):
        replace(config, output='convolutions')


def test_the_default_is_small():
    model = Decoder(DecoderConfig(128, (7, 12)))
    assert sum(p.numel() for p in model.parameters()) < 3e6
    assert model.config.image_size == (112, 192)


def test_a_linear_output_puts_each_token_where_it_belongs():
    model = decoder(replace(SMALL, output='linear', patch=4, depth=0))
    latents = torch.randn(1, 6, 6)
    changed = latents.clone()
    changed[0, 4] += 1
    difference = (model(latents) - model(changed)).abs().sum((0, 1)) > 0
    expected = torch.zeros(8, 12, dtype=torch.bool)
    expected[4:8, 4:8] = True
    assert torch.equal(difference, expected)


def test_a_configuration_survives_json():
    assert DecoderConfig(**json.loads(json.dumps(asdict(SMALL)))) == SMALL


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'heads': 3}, 'do not divide'),
        ({'patch': 0}, 'patch must be'),
        ({'grid': (0, 2)}, 'grid'),
        ({'output': 'paint'}, 'linear, convolutions'),
        ({'depth': -1}, 'depth'),
    ],
)
def test_a_decoder_that_cannot_be_is_refused(change, words):
    with pytest.raises(DecoderError, match=words):
        replace(SMALL, **change)


def test_latents_of_another_encoder_are_refused():
    with pytest.raises(DecoderError, match='another encoder'):
        decoder()(torch.zeros(1, 6, 7))


# Training


def make(perceptual=None, seed=0, **settings):
    config = DecoderObjectiveConfig(
        **{'perceptual_weight': 0.0 if perceptual is None else 1.0, **settings}
    )
    model = decoder()
    torch.manual_seed(seed)
    discriminator = PatchDiscriminator(8, 2) if config.adversarial_weight else None
    return DecoderObjective(model, config, perceptual, discriminator)


@pytest.mark.parametrize(('output', 'rate'), [('linear', 3e-3), ('convolutions', 5e-4)])
def test_training_learns_colours(output, rate):
    config = replace(SMALL, patch=4, dim=64, output=output)
    objective = DecoderObjective(decoder(config), DecoderObjectiveConfig(perceptual_weight=0.0))
    optimiser = torch.optim.Adam(objective.parameters(), rate)
    held_out = frames(16, seed=1, size=config.image_size)
    before = objective.errors(held_out)
    for step in range(150):
        optimiser.zero_grad()
        objective(frames(8, seed=10 + step, size=config.image_size))['loss'].backward()
        optimiser.step()
    after = objective.errors(held_out)
    assert int(after['pictures']) == 16
    assert after['l1'] < before['l1'] / 2 and after['square'] < before['square'] / 4


def test_the_loss_is_the_weighted_sum_of_its_parts(perceptual):
    objective = make(
        perceptual, l1_weight=2.0, perceptual_weight=0.5, adversarial_weight=0.75, balance_limit=5
    )
    losses = objective(frames())
    assert set(losses) == {'l1', 'perceptual', 'adversarial', 'balance', 'loss'}
    reconstruction = 2 * losses['l1'] + 0.5 * losses['perceptual']
    torch.testing.assert_close(
        losses['loss'], reconstruction + 0.75 * losses['balance'] * losses['adversarial']
    )


def test_the_adversarial_loss_is_balanced_at_the_last_layer():
    objective = make(adversarial_weight=1.0)
    losses = objective(frames())
    weight = objective.decoder.last_layer
    pulls = []
    for name in ('l1', 'adversarial'):
        objective.zero_grad()
        losses[name].backward(retain_graph=True)
        pulls.append(weight.grad.norm())
    torch.testing.assert_close(losses['balance'], pulls[0] / pulls[1], rtol=1e-3, atol=0)
    limited = make(adversarial_weight=1.0, balance_limit=1e-6)(frames())
    assert float(limited['balance']) == pytest.approx(1e-6)
    with torch.no_grad():
        assert float(objective(frames())['balance']) == 1.0


def test_the_discriminator_learns_to_tell_drawn_from_real():
    objective = make(adversarial_weight=1.0)
    optimiser = torch.optim.Adam(objective.discriminator.parameters(), 1e-2)
    first = objective.discriminator_losses(frames())['loss'].item()
    for step in range(40):
        optimiser.zero_grad()
        loss = objective.discriminator_losses(frames(8, seed=step))['loss']
        loss.backward()
        optimiser.step()
    assert all(p.grad is None for p in objective.decoder.parameters())
    assert loss.item() < 0.2 < first


def test_hinge_loss_by_hand():
    real, drawn = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    assert float(hinge_loss(real, drawn)) == pytest.approx(0.5 * (0.25 + 0.5))


def test_latent_noise_is_for_training_only():
    objective = make(latent_noise=0.8)
    torch.manual_seed(3)
    first = objective(frames())['loss']
    assert not torch.equal(first, objective(frames())['loss'])
    objective.eval()
    assert torch.equal(objective(frames())['loss'], objective(frames())['loss'])


def test_the_perceptual_distance_grows_with_blur(perceptual):
    generator = torch.Generator().manual_seed(0)
    real = torch.rand(2, 3, 32, 48, generator=generator)
    blurred = [torch.nn.functional.avg_pool2d(real, k, 1, k // 2) for k in (3, 9)]
    distances = [perceptual(image, real) for image in (real, *blurred)]
    assert torch.equal(distances[0], torch.zeros(2))
    assert (distances[2] > distances[1]).all() and (distances[1] > 0.01).all()


def test_the_perceptual_distance_moves_the_picture_and_not_its_network(perceptual):
    image = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
    perceptual(image, torch.rand(1, 3, 32, 32)).sum().backward()
    assert image.grad.abs().sum() > 0
    assert all(p.grad is None for p in perceptual.parameters())


def test_the_perceptual_distance_by_hand(perceptual):
    generator = torch.Generator().manual_seed(0)
    drawn, real = torch.rand(2, 1, 3, 32, 48, generator=generator)
    network, expected = perceptual.network, 0.0
    for block in perceptual.BLOCKS:
        a, b = (
            network.maps_after((image * 255 - 127) / 128, [block])[0].double()
            for image in (drawn, real)
        )
        a, b = (x / x.square().sum(1, keepdim=True).sqrt() for x in (a, b))
        expected += float((a - b).square().sum(1).mean())
    assert float(perceptual(drawn, real)) == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope='module')
def vgg_files(tmp_path_factory):
    define_missing_torchvision_operators()
    from torchvision.models.vgg import cfgs, make_layers

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('vgg')
    features = make_layers(cfgs['D'])
    state = {f'features.{name}': tensor for name, tensor in features.state_dict().items()}
    state['classifier.0.weight'] = torch.zeros(2)
    save_file(state, folder / 'vgg16.safetensors')
    weights = {
        f'lin{i}.model.1.weight': torch.rand(1, c, 1, 1) for i, c in enumerate(LpipsVgg16.CHANNELS)
    }
    torch.save(weights, folder / 'vgg.pth')
    return folder, features, list(weights.values())


def test_lpips_is_the_published_formula(vgg_files):
    folder, features, weights = vgg_files
    distance = LpipsVgg16(folder / 'vgg16.safetensors', folder / 'vgg.pth')
    drawn, real = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
    # After the activations conv1_2, conv2_2, conv3_3, conv4_3 and conv5_3.
    expected = 0.0
    for end, weight in zip((4, 9, 16, 23, 30), weights, strict=True):
        with torch.no_grad():
            a, b = (features[:end]((2 * x - 1 - shift) / scale) for x in (drawn, real))
        a, b = (x / x.square().sum(1, keepdim=True).sqrt().clamp(min=1e-10) for x in (a, b))
        expected += float((weight * (a - b).square()).sum(1).mean())
    assert float(distance(drawn, real)) == pytest.approx(expected, rel=1e-3)


def test_lpips_wants_its_weights(vgg_files, tmp_path):
    folder = vgg_files[0]
    with pytest.raises(WeightsNotFoundError, match='VGG16'):
        LpipsVgg16(tmp_path / 'nothing.pth', folder / 'vgg.pth')
    with pytest.raises(WeightsError, match='LPIPS'):
        LpipsVgg16(folder / 'vgg16.safetensors', folder / 'vgg16.safetensors')


def test_parts_and_batches_that_do_not_fit_are_refused(perceptual):
    with pytest.raises(ObjectiveError, match='perceptual must be given'):
        DecoderObjective(decoder(), DecoderObjectiveConfig())
    with pytest.raises(ObjectiveError, match='perceptual must not be given'):
        DecoderObjective(decoder(), DecoderObjectiveConfig(perceptual_weight=0), perceptual)
    with pytest.raises(ObjectiveError, match='both be 0'):
        DecoderObjectiveConfig(l1_weight=0, perceptual_weight=0)
    with pytest.raises(ObjectiveError, match='--pictures 32x48'):
        make()(frames(size=(16, 24)))
    with pytest.raises(ObjectiveError, match='no discriminator'):
        make().discriminator_losses(frames())
