"""The keypoint head: sizes as the paper's, every patch in its place, and it can learn."""

import pytest
import torch

from dexwm.geometry.heatmaps import gaussian_heatmaps, soft_argmax
from dexwm.model.keypoint_head import KeypointHead, KeypointHeadConfig, KeypointHeadError
from dexwm.model.losses import hand_consistency_loss


def parameters(**options):
    with torch.device('meta'):
        head = KeypointHead(KeypointHeadConfig(1024, (16, 28), 14, **options))
    return sum(p.numel() for p in head.parameters())


def test_parameters_of_the_papers_and_the_published_head():
    blocks = 6 * (12 * 256**2 + 13 * 256)
    ends = 1024 * 256 + 256 + 2 * 256 + 257 * 14 * 14 * 12
    assert parameters() == blocks + ends + 448 * 256
    assert parameters(token_grid=(16, 16)) == blocks + ends + 256 * 256
    assert round(parameters(token_grid=(16, 16)) / 1e6, 2) == 5.67
    # The one the paper's evaluation trains separately.
    assert round(parameters(token_grid=(16, 16), dim=512, depth=12) / 1e6, 1) == 39.7


@pytest.mark.parametrize('stride', [1, 2, 4])
def test_maps_have_the_input_pictures_size_over_the_stride(stride):
    config = KeypointHeadConfig(6, (2, 3), 8, dim=8, depth=1, heads=2, stride=stride)
    head = KeypointHead(config)
    latents = torch.randn(4, 5, 6, 6)
    maps = head(latents)
    assert maps.shape == (4, 5, 12, 16 // stride, 24 // stride)
    torch.testing.assert_close(maps[1, 2], head(latents[1, 2]))


def test_a_token_draws_its_own_patch():
    # Without blocks a token sees only itself, so its change shows where it lies.
    config = KeypointHeadConfig(6, (2, 3), 8, dim=8, depth=0, heads=2, stride=2)
    head = KeypointHead(config)
    latents = torch.randn(1, 6, 6)
    for token in range(6):
        changed = latents.clone()
        changed[0, token] += 1
        difference = (head(changed) - head(latents)).detach()[0].abs().amax(0) > 0
        expected = torch.zeros(8, 12, dtype=torch.bool)
        row, column = divmod(token, 3)
        expected[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = True
        assert torch.equal(difference, expected)


def test_the_published_heads_maps_are_stretched_to_the_picture():
    config = KeypointHeadConfig(6, (2, 4), 8, dim=8, depth=1, heads=2, token_grid=(2, 2))
    assert KeypointHead(config)(torch.randn(3, 8, 6)).shape == (3, 12, 16, 32)


def test_it_learns_to_find_keypoints():
    # Latents that say where the keypoint is; only the way through the head is to be learnt.
    torch.manual_seed(0)
    head = KeypointHead(KeypointHeadConfig(4, (3, 4), 8, dim=32, depth=1, heads=4, stride=4))
    optimiser = torch.optim.AdamW(head.parameters(), 1e-2)
    for _ in range(150):
        pixels = torch.rand(16, 1, 2) * torch.tensor([31.0, 23.0])
        latents = torch.cat([pixels / 10 - 1, torch.ones_like(pixels)], -1).expand(-1, 12, -1)
        pixels = pixels.expand(-1, 12, -1)
        valid = torch.ones(16, 12)
        target = gaussian_heatmaps(
            pixels,
            valid,
            24,
            32,
            stride=4,
            sigma=4.0,
            round_to_pixel=False,
            radius=None,
            zero_at_border=False,
        )
        maps = head(latents)
        loss = hand_consistency_loss(maps, target, valid, 'cross_entropy')
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    error = (soft_argmax(maps, 4) - pixels).norm(dim=-1).mean()
    spread = (pixels - pixels.mean(0)).norm(dim=-1).mean()
    assert error < 0.3 * spread


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'stride': 3}, 'stride 3 does not divide the patch of 14'),
        ({'heads': 7}, '7 heads do not divide'),
        ({'grid': (16,)}, 'grid must be'),
        ({'token_grid': (0, 4)}, 'token_grid must be'),
        ({'depth': -1}, 'depth'),
    ],
)
def test_impossible_configurations_are_refused(options, message):
    with pytest.raises(KeypointHeadError, match=message):
        KeypointHeadConfig(**{'latent_dim': 6, 'grid': (2, 3), 'patch': 14, **options})


def test_latents_of_another_encoder_are_refused():
    head = KeypointHead(KeypointHeadConfig(6, (2, 3), 8, dim=8, depth=1, heads=2))
    with pytest.raises(KeypointHeadError, match=r'6, 6\), got \(4, 6, 7\)'):
        head(torch.randn(4, 6, 7))
