from dataclasses import replace

import numpy as np
import pytest
import torch

from dexwm.data.batch import FrameBatch
from dexwm.model.adapter import Adapter, AdapterConfig
from dexwm.model.keypoint_head import TYPICAL_DEPTH
from dexwm.training.adapter import AdapterObjective, AdapterObjectiveConfig
from dexwm.training.objective import ObjectiveError

GRID, TOKEN, DIM, KINDS = (2, 3), 32, 10, 2
IMAGE = (GRID[0] * TOKEN, GRID[1] * TOKEN)
HAND = (21, 25, 41)
SMALL = AdapterObjectiveConfig(keypoints=HAND, hidden=16, feature_noise=0.0, latent_noise=0.0)


def adapter(upsample=1):
    torch.manual_seed(0)
    fine = 4 if upsample == 2 else 0
    config = AdapterConfig(DIM, GRID, 8, 12, 1, upsample, fine)
    return Adapter(config)


def objective(config=SMALL, **changes):
    return AdapterObjective(adapter(), replace(config, **changes), IMAGE, KINDS)


def frames(count=4, seed=0):
    """A batch in which the features show where a keypoint is, as its offset from each token."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([IMAGE[1], IMAGE[0]])
    spread = torch.rand(count, 42, 2, generator=generator)
    keypoints = (spread * (size - 1)).float()
    rows, columns = torch.meshgrid(torch.arange(2), torch.arange(3), indexing='ij')
    centres = torch.stack([columns, rows], -1).reshape(1, 6, 2) * TOKEN + TOKEN / 2
    offset = (keypoints[:, None, HAND[0]] - centres) / 50
    features = torch.cat([offset, torch.zeros(count, 6, DIM - 2)], -1)
    valid = torch.zeros(count, 42, dtype=torch.bool)
    valid[:, 21:] = True
    return FrameBatch(
        features=features.half(),
        pictures=torch.randint(0, 256, (count, 16, 24, 3), dtype=torch.uint8, generator=generator),
        keypoint_pixels=keypoints,
        keypoint_valid=valid,
        keypoint_depths=torch.full((count, 42), 0.9),
        keypoint_supervised=torch.ones(count, dtype=torch.bool),
        object_pixels=torch.rand(count, KINDS, 2, generator=generator) * 60,
        object_valid=torch.tensor([[True, False]]).repeat(count, 1),
        object_contact=torch.zeros(count, KINDS, dtype=torch.bool),
    )


def test_the_loss_is_the_weighted_sum_of_its_parts():
    losses = objective()(frames())
    assert set(losses) == {'keypoints', 'depth', 'objects', 'picture', 'loss'}
    expected = (
        losses['keypoints'] + 5 * losses['depth'] + 0.5 * losses['objects'] + 5 * losses['picture']
    )
    torch.testing.assert_close(losses['loss'], expected)


def test_heat_maps_that_are_equal_everywhere_cost_their_entropy():
    model = objective()
    torch.nn.init.zeros_(model._output[0].weight)
    torch.nn.init.zeros_(model._output[0].bias)
    batch = frames()
    losses = model(batch)
    # 8 x 12 cells of 8 pixels: log of their number, whatever the truth; depth and picture as far
    # off as they are from where they start.
    uniform = torch.tensor(96.0).log()
    torch.testing.assert_close(losses['keypoints'], uniform)
    torch.testing.assert_close(losses['objects'], uniform)
    torch.testing.assert_close(losses['depth'], torch.tensor(0.9 - TYPICAL_DEPTH))
    # A cell of the picture is the mean of 2 x 2 small pixels.
    cells = batch.pictures.numpy().reshape(4, 8, 2, 12, 2, 3).mean((2, 4)) / 255
    assert losses['picture'].item() == pytest.approx(float(np.square(cells).mean()), rel=1e-5)


def test_what_is_not_known_does_not_count():
    model = objective(picture_weight=0.0)
    batch = frames()
    nothing = replace(
        batch,
        keypoint_supervised=torch.zeros(4, dtype=torch.bool),
        object_valid=torch.zeros(4, KINDS, dtype=torch.bool),
        keypoint_pixels=torch.full((4, 42, 2), float('nan')),
        keypoint_depths=torch.full((4, 42), float('nan')),
    )
    losses = model(nothing)
    assert losses['loss'].item() == 0.0
    losses['loss'].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    # One unknown keypoint leaves the mean over the others.
    valid = batch.keypoint_valid.clone()
    valid[0, 21] = False
    moved = batch.keypoint_pixels.clone()
    moved[0, 21] = 1000.0
    first = model(replace(batch, keypoint_valid=valid))
    second = model(replace(batch, keypoint_valid=valid, keypoint_pixels=moved))
    assert torch.equal(first['loss'], second['loss'])


@pytest.mark.parametrize(
    ('switch', 'name'),
    [
        ('keypoint_weight', 'keypoints'),
        ('depth_weight', 'depth'),
        ('object_weight', 'objects'),
        ('picture_weight', 'picture'),
    ],
)
def test_each_part_can_be_left_out(switch, name):
    assert name not in objective(**{switch: 0.0})(frames())


def test_training_finds_the_keypoint_in_the_features():
    torch.manual_seed(0)
    model = objective(
        keypoints=(HAND[0],), depth_weight=5.0, object_weight=0.0, picture_weight=0.0
    )
    model.adapter.fit_standardisation(frames(64, seed=1).features)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    held_out = frames(64, seed=2)

    def figures():
        sums = {name: float(value) for name, value in model.eval().errors(held_out).items()}
        model.train()
        return {
            name: sums[name] / sums['keypoints']
            for name in ('keypoint_pixels', 'keypoints_near', 'depth')
        }

    before = figures()
    for step in range(150):
        optimiser.zero_grad()
        model(frames(32, seed=100 + step))['loss'].backward()
        optimiser.step()
    after = figures()
    assert after['keypoint_pixels'] < before['keypoint_pixels'] / 3
    assert after['keypoints_near'] > 0.9 > before['keypoints_near']
    assert after['depth'] < before['depth'] / 2


def test_errors_are_sums_over_what_is_known():
    model = objective()
    torch.nn.init.zeros_(model._output[0].weight)
    torch.nn.init.zeros_(model._output[0].bias)
    batch = frames()
    contact = torch.zeros(4, KINDS, dtype=torch.bool)
    contact[1] = True
    sums = model.errors(replace(batch, object_contact=contact))
    # Equal maps point at the middle of the picture.
    middle = torch.tensor([IMAGE[1] - 1, IMAGE[0] - 1]) / 2
    distance = (batch.keypoint_pixels[:, list(HAND)] - middle).norm(dim=-1)
    assert int(sums['keypoints']) == 12
    torch.testing.assert_close(sums['keypoint_pixels'], distance.sum(), rtol=1e-3, atol=0)
    assert int(sums['keypoints_near']) == int((distance <= 20).sum())
    assert int(sums['objects']) == 4 and int(sums['objects_in_contact']) == 1
    away = (batch.object_pixels[1, 0] - middle).norm()
    torch.testing.assert_close(sums['objects_in_contact_pixels'], away, rtol=1e-3, atol=0)


def test_noise_is_for_training_only():
    model = objective(feature_noise=0.1, latent_noise=0.1)
    batch = frames()
    torch.manual_seed(1)
    first = model.train()(batch)['loss']
    assert not torch.equal(first, model(batch)['loss'])
    torch.manual_seed(1)
    assert torch.equal(first, model(batch)['loss'])
    assert torch.equal(model.eval()(batch)['loss'], model(batch)['loss'])


def test_a_finer_grid_has_the_same_heat_maps():
    model = AdapterObjective(adapter(upsample=2), SMALL, IMAGE, KINDS)
    assert torch.isfinite(model(frames())['loss'])


def test_batches_and_settings_that_do_not_fit_are_refused():
    with pytest.raises(ObjectiveError, match='--pictures'):
        objective()(replace(frames(), pictures=None))
    with pytest.raises(ObjectiveError, match='2 kinds'):
        objective()(replace(frames(), object_pixels=torch.zeros(4, 3, 2)))
    with pytest.raises(ObjectiveError, match='does not divide'):
        objective(stride=12)
    with pytest.raises(ObjectiveError, match='0 to 41'):
        replace(SMALL, keypoints=(42,))
    with pytest.raises(ObjectiveError, match='weights'):
        replace(SMALL, keypoint_weight=0.0, depth_weight=0.0, object_weight=0.0, picture_weight=0)
