"""The parts together: configuration, rollouts, keypoints, and errors that say what is wrong."""

import dataclasses
import json

import pytest
import torch

from dexwm.data.actions import ActionOptions
from dexwm.model.encoders.encoder import EncoderError
from dexwm.model.hand_maps import HandMapsConfig
from dexwm.model.losses import rollout_loss
from dexwm.model.world_model import WorldModel, WorldModelConfig, WorldModelError

from .tiny_world_model import WRITTEN, TinyEncoder, tiny_world_model


@pytest.fixture(scope='module')
def model():
    return tiny_world_model()


def pictures(count):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 16, 24, 3), dtype=torch.uint8, generator=generator)


def test_a_recipes_settings_are_completed_from_the_encoder():
    encoder = TinyEncoder()
    written = {
        'name': 'a',
        'predictor': {'size': 'tiny', 'depth': 3, 'residual': True},
        'keypoint_head': {'dim': 8, 'heads': 2},
        'action': {'absolute': True},
        'heatmap_loss': 'cross_entropy',
    }
    config = WorldModelConfig.for_encoder(written, encoder)
    predictor, head = config.predictor, config.keypoint_head
    assert (predictor.depth, predictor.dim, predictor.heads) == (3, 192, 4)
    assert (predictor.latent_dim, predictor.tokens, predictor.action_dim) == (6, 6, 258)
    assert (head.latent_dim, head.grid, head.patch, head.stride) == (6, (2, 3), 8, 1)
    assert config.action == ActionOptions(absolute=True)
    assert config.encoder.name == 'tiny' and config.decoder is None


def test_hand_maps_are_completed_from_encoder_and_action():
    predictor = {**WRITTEN['predictor'], 'hand_maps': {'width': 0.5}}
    action = {'pixels': True, 'subset': 'peva'}
    written = {**WRITTEN, 'predictor': predictor, 'action': action}
    config = WorldModelConfig.for_encoder(written, TinyEncoder())
    assert config.predictor.hand_maps == HandMapsConfig((2, 3), 8, 2, width=0.5)
    assert WorldModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(WorldModelError, match=r'hand_maps and action\.pixels .* go together'):
        action = {'absolute': True, 'subset': 'peva'}
        WorldModelConfig.for_encoder({**written, 'action': action}, TinyEncoder())
    with pytest.raises(WorldModelError, match=r'too short for hand maps .* action\.pixels'):
        WorldModelConfig.for_encoder({**written, 'action': {}}, TinyEncoder())
    with pytest.raises(WorldModelError, match='tells none goes without maps'):
        action = {'pixels': True, 'subset': 'nwm'}
        WorldModelConfig.for_encoder({**written, 'action': action}, TinyEncoder())


def test_a_configuration_survives_json(model):
    text = json.dumps(model.config.to_dict())
    assert WorldModelConfig.from_dict(json.loads(text)) == model.config


def change(settings, path, value):
    *outer, last = path.split('.')
    for key in outer:
        settings = settings[key]
    if value is None:
        del settings[last]
    else:
        settings[last] = value


@pytest.mark.parametrize(
    ('path', 'value', 'message'),
    [
        ('extra', 1, 'model has no key extra; it has name, encoder'),
        ('predictor.extra', 1, 'model.predictor has no key extra; it has latent_dim'),
        ('action', None, 'model lacks action'),
        ('keypoint_head.stride', None, 'model.keypoint_head lacks stride'),
        ('predictor', 3, 'model.predictor must be a mapping, got 3'),
        ('predictor.heads', 3, '3 heads do not divide dim=8'),
        ('predictor.dim', 'wide', 'model.predictor: '),
        ('predictor.action_dim', 66, 'predictor.action_dim is 66, .* need 132'),
        ('keypoint_head.grid', [2, 4], 'tokens of keypoint_head.grid is 8, .* need 6'),
        ('decoder.latent_dim', 5, 'decoder.latent_dim is 5, .* need 6'),
        ('action.subset', 'hands', 'subset must be one of full, nwm, peva'),
        ('heatmap_loss', 'l1', 'heatmap_loss must be one of mse, cross_entropy'),
    ],
)
def test_wrong_settings_are_named(model, path, value, message):
    settings = json.loads(json.dumps(model.config.to_dict()))
    change(settings, path, value)
    with pytest.raises(WorldModelError, match=message):
        WorldModelConfig.from_dict(settings)


@pytest.mark.parametrize(
    ('written', 'message'),
    [
        ({'encoder': {'name': 'dinov2_l'}}, 'is dinov2_l, the encoder is tiny'),
        ({'predictor': {'size': 'XXL'}}, 'must be one of tiny, .*XL, got .XXL.'),
        ({'predictor': {**WRITTEN['predictor'], 'tokens': 5}}, 'need 5'),
        ({'keypoint_head': {'patch': 7}}, 'for patch 7, the encoder given .* has 8'),
        ({'heads': 3}, 'model has no key heads'),
    ],
)
def test_settings_that_do_not_suit_the_encoder_are_refused(written, message):
    with pytest.raises(WorldModelError, match=message):
        WorldModelConfig.for_encoder({**WRITTEN, **written}, TinyEncoder())


def test_another_encoder_is_refused(model):
    with pytest.raises(WorldModelError, match=r'latent_dim 6, the encoder given \(tiny\) has 7'):
        WorldModel(model.config, TinyEncoder(dim=7))


def test_encoding_has_no_gradients_and_checks_pictures(model):
    latents = model.encode(pictures(2))
    assert latents.shape == (2, 6, 6) and not latents.requires_grad
    with pytest.raises(EncoderError, match=r'\(B, 16, 24, 3\)'):
        model.encode(pictures(2)[:, :8])
    with pytest.raises(EncoderError, match='uint8'):
        model.encode(pictures(2).float())
    with pytest.raises(EncoderError, match='channel-first'):
        model.encode(pictures(2).permute(0, 3, 1, 2))


@torch.no_grad()
@pytest.mark.parametrize('known', [1, 2, 4])
def test_a_rollout_feeds_predictions_back(model, known):
    # Frame by frame with the training form, whose window slides over more than its 4 frames.
    latents = model.encode(pictures(3 * known)).unflatten(0, (3, known))
    generator = torch.Generator().manual_seed(1)
    actions = torch.randn(3, known - 1 + 7, 132, generator=generator)
    past, future = actions[:, : known - 1], actions[:, known - 1 :]
    predicted = model.rollout(latents, past, future)
    assert predicted.shape == (3, 7, 6, 6)
    frames = latents
    for t in range(7):
        window = torch.cat([frames[:, -4:], torch.zeros_like(frames[:, :1])], 1)
        taken = actions[:, : known + t][:, -(window.shape[1] - 1) :]
        expected = model.predict_window(window, taken)[:, -1]
        torch.testing.assert_close(predicted[:, t], expected, atol=1e-5, rtol=1e-5)
        frames = torch.cat([frames, expected[:, None]], 1)


@torch.no_grad()
def test_one_start_serves_many_rollouts(model):
    start = model.encode(pictures(2))[None]
    actions = torch.randn(5, 3, 132, generator=torch.Generator().manual_seed(2))
    past = actions[:1, :1]
    many = model.rollout(start, past, actions)
    for i in range(5):
        alone = model.rollout(start, past, actions[i : i + 1])
        torch.testing.assert_close(many[i : i + 1], alone, atol=1e-5, rtol=1e-5)


def test_rollout_loss_reaches_every_weight_of_the_predictor():
    model = tiny_world_model()
    latents = model.encode(pictures(10)).unflatten(0, (2, 5))
    actions = torch.randn(2, 4, 132, generator=torch.Generator().manual_seed(3))
    loss, _ = rollout_loss(model, latents, actions, 4)
    loss.backward()
    missing = [
        n for n, p in model.predictor.named_parameters() if p.grad is None or not p.grad.any()
    ]
    assert missing == []


def test_keypoints_are_read_in_pixels_of_the_input_picture(model):
    latents = model.encode(pictures(4)).unflatten(0, (2, 2))
    maps = model.heatmaps(latents)
    assert maps.shape == (2, 2, 12, 8, 12)
    soft, hard = (model.keypoint_pixels(latents, decode) for decode in ('soft', 'hard'))
    assert soft.shape == hard.shape == (2, 2, 12, 2)
    flat = maps.flatten(-2)
    best = flat.argmax(-1)
    expected = torch.stack([best % 12, best // 12], -1) * 2 + 0.5
    torch.testing.assert_close(hard, expected)
    # Maps of the squared error are sharpened: the mean is near the largest cell, not the middle.
    weights = (flat / 0.01).softmax(-1)
    cells = torch.stack([torch.arange(96) % 12, torch.arange(96) // 12], -1) * 2 + 0.5
    torch.testing.assert_close(soft, weights @ cells)
    with pytest.raises(WorldModelError, match="'soft' or 'hard'"):
        model.keypoint_pixels(latents, 'mean')


def test_depths_are_read_where_the_heat_map_says_that_the_keypoint_is(model):
    latents = model.encode(pictures(2))
    assert model.keypoints(latents)[2] is None
    head = {'dim': 8, 'depth': 1, 'heads': 2, 'stride': 2, 'depths': True}
    deep = tiny_world_model(keypoint_head=head, heatmap_loss='cross_entropy')
    latents.requires_grad_()
    maps = deep.keypoint_head(latents)
    heatmaps, pixels, depths = deep.keypoints(latents)
    torch.testing.assert_close(heatmaps, maps[:, :12])
    torch.testing.assert_close(deep.heatmaps(latents), heatmaps)
    torch.testing.assert_close(deep.keypoint_pixels(latents), pixels)
    expected = 0.6 + torch.einsum(
        'bkc,bkc->bk', maps[:, :12].flatten(2).softmax(-1), maps[:, 12:].flatten(2)
    )
    torch.testing.assert_close(depths, expected)
    # Depths leave the heat maps alone: weights of a heat map's cell have no gradient of theirs.
    (gradient,) = torch.autograd.grad(depths.sum(), deep.keypoint_head.output.weight)
    # Rows of the output are maps by cells of a token.
    by_map = gradient.unflatten(0, (24, 16)).abs().sum(dim=(1, 2))
    assert not by_map[:12].any() and by_map[12:].all()


def test_objects_are_read_by_a_head_that_is_for_them():
    model = tiny_world_model()
    latents = model.encode(pictures(4)).unflatten(0, (2, 2))
    with pytest.raises(WorldModelError, match='tiny does not read where objects are'):
        model.object_maps(latents)
    with pytest.raises(WorldModelError, match='object head for none; it cannot have one for none'):
        model.add_object_head([])
    model.add_object_head(['ball', 'cube'])
    maps = model.object_maps(latents)
    assert maps.shape == (2, 2, 2, 8, 12)
    torch.testing.assert_close(maps.sum(dim=(-2, -1)), torch.ones(2, 2, 2))
    logits = model.object_head(latents)
    torch.testing.assert_close(maps.log().diff(dim=-1), logits.diff(dim=-1))
    head = model.object_head
    model.add_object_head(('ball', 'cube'))
    assert model.object_head is head
    with pytest.raises(WorldModelError, match='head for ball, cube; it cannot have one for mug'):
        model.add_object_head(['mug'])
    assert tiny_world_model(objects=('ball', 'cube')).config == model.config


def test_pictures_of_latents(model):
    images = model.decode(model.encode(pictures(2)))
    assert images.shape == (2, 3, 8, 12)
    without = tiny_world_model(decoder=None)
    with pytest.raises(WorldModelError, match='tiny has no decoder'):
        without.decode(without.encode(pictures(2)))


def test_the_same_seed_makes_the_same_model(model):
    assert dataclasses.asdict(model.config) == dataclasses.asdict(tiny_world_model().config)
    for a, b in zip(model.parameters(), tiny_world_model().parameters(), strict=True):
        assert torch.equal(a, b)
