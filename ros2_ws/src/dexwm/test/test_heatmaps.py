"""Heat maps drawn as the published training draws them, and read back."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dexwm.geometry.heatmaps import (
    HEATMAP_KEYPOINTS,
    HeatmapError,
    cell_distances,
    gaussian_heatmaps,
    hard_argmax,
    soft_argmax,
)


def by_hand(pixel, height, width, sigma=2.0):
    """One map cell by cell: peak 1 at the nearest pixel, zero beyond 2 sigma or at the border."""
    column, row = (round(v) for v in pixel)
    reach = int(2 * sigma)
    cells = torch.zeros(height, width)
    inside = reach <= column <= width - 1 - reach and reach <= row <= height - 1 - reach
    if inside:
        for i in range(row - reach, row + reach + 1):
            for j in range(column - reach, column + reach + 1):
                square = (i - row) ** 2 + (j - column) ** 2
                cells[i, j] = math.exp(-square / (2 * sigma**2))
    return cells


def test_the_heatmap_keypoints_are_wrist_and_tips_of_either_hand():
    from dexwm.robot.keypoints import KEYPOINTS

    names = [KEYPOINTS[i % 21] for i in HEATMAP_KEYPOINTS]
    assert names[:6] == names[6:]
    assert names[0] == 'wrist'
    assert all(name.endswith('_tip') for name in names[1:6])
    assert [i // 21 for i in HEATMAP_KEYPOINTS] == [0] * 6 + [1] * 6


@settings(deadline=None)
@given(st.floats(-3, 34), st.floats(-3, 22))
def test_maps_are_those_drawn_cell_by_cell(x, y):
    if abs(x % 1 - 0.5) < 1e-3 or abs(y % 1 - 0.5) < 1e-3:
        return  # which way a half is rounded in float32 is nobody's business
    maps = gaussian_heatmaps(torch.tensor([[x, y]]), torch.tensor([True]), 20, 32)
    torch.testing.assert_close(maps[0], by_hand((x, y), 20, 32))


def test_batches_and_invalid_keypoints():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(3, 2, 12, 2, generator=generator) * torch.tensor([32.0, 20.0])
    valid = torch.rand(3, 2, 12, generator=generator) < 0.5
    pixels[~valid] = float('nan')
    maps = gaussian_heatmaps(pixels, valid, 20, 32)
    assert maps.shape == (3, 2, 12, 20, 32)
    assert not maps[~valid].any()
    for pixel, drawn in zip(pixels[valid], maps[valid], strict=True):
        torch.testing.assert_close(drawn, by_hand(pixel.tolist(), 20, 32))


def test_a_coarse_map_is_the_fine_gaussian_at_the_middle_of_its_cells():
    pixel = torch.tensor([[17.3, 9.6]])
    maps = gaussian_heatmaps(
        pixel,
        torch.tensor([True]),
        24,
        40,
        stride=4,
        sigma=5.0,
        round_to_pixel=False,
        radius=None,
        zero_at_border=False,
    )
    for row in range(6):
        for column in range(10):
            square = (1.5 + 4 * column - 17.3) ** 2 + (1.5 + 4 * row - 9.6) ** 2
            assert maps[0, row, column] == pytest.approx(math.exp(-square / 50), abs=1e-6)


@pytest.mark.parametrize('stride', [1, 2, 4])
def test_what_was_drawn_is_read_back(stride):
    generator = torch.Generator().manual_seed(1)
    pixels = 12 + torch.rand(50, 2, generator=generator) * torch.tensor([40.0, 24.0])
    maps = gaussian_heatmaps(
        pixels,
        torch.ones(50),
        48,
        64,
        stride,
        sigma=float(stride),
        round_to_pixel=False,
        radius=None,
        zero_at_border=False,
    )
    # Of logits whose softmax is the Gaussian, the soft argmax is its mean.
    read = soft_argmax(maps.clamp(min=1e-30).log(), stride)
    torch.testing.assert_close(read, pixels, atol=0.02 * stride, rtol=0)
    read = hard_argmax(maps, stride)
    assert (read - pixels).abs().max() <= stride / 2 + 1e-4


def test_soft_argmax_of_probabilities_written_out():
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(4, 3, 5, generator=generator)
    p = torch.exp(logits / 0.7)
    p = p / p.sum((1, 2), keepdim=True)
    expected = torch.zeros(4, 2)
    for i in range(3):
        for j in range(5):
            expected += p[:, i, j, None] * torch.tensor([2 * j + 0.5, 2 * i + 0.5])
    torch.testing.assert_close(soft_argmax(logits, 2, temperature=0.7), expected)


def test_soft_argmax_has_gradients():
    logits = torch.zeros(1, 6, 6, requires_grad=True)
    soft_argmax(logits)[0, 0].backward()
    # Raising a cell on the right moves the mean to the right.
    assert (logits.grad[0, :, 3:] > 0).all() and (logits.grad[0, :, :3] < 0).all()


def test_distances_of_cells_written_out():
    points = torch.tensor([[0.5, 4.5], [torch.nan, torch.nan]])
    away = cell_distances(points, (6, 8), 2)
    assert away.shape == (2, 3, 4)
    for i in range(3):
        for j in range(4):
            expected = math.hypot(2 * i + 0.5 - 4.5, 2 * j)
            assert float(away[0, i, j]) == pytest.approx(expected, abs=1e-6)
    assert away[1].isnan().all()


@pytest.mark.parametrize(
    ('arguments', 'options', 'message'),
    [
        ((torch.zeros(3, 2), torch.ones(2), 20, 20), {}, r'valid \(\.\.\., K\)'),
        ((torch.zeros(3, 3), torch.ones(3), 20, 20), {}, r'pixels must be \(\.\.\., K, 2\)'),
        ((torch.zeros(3, 2), torch.ones(3), 20, 20, 3), {}, 'stride 3 does not divide'),
        ((torch.zeros(3, 2), torch.ones(3), 20, 20, 1, 0.0), {}, 'sigma must be positive'),
        ((torch.zeros(3, 2), torch.ones(3), 20, 20), {'radius': None}, 'needs a radius'),
    ],
)
def test_what_does_not_fit_is_refused(arguments, options, message):
    with pytest.raises(HeatmapError, match=message):
        gaussian_heatmaps(*arguments, **options)


def test_no_map_is_refused():
    for read in (soft_argmax, hard_argmax):
        with pytest.raises(HeatmapError, match='rows, columns'):
            read(torch.zeros(5))
