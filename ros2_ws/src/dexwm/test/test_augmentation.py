import colorsys

import cv2
import numpy as np

from dexwm.data.augmentation import ClipAugmentation

NEVER = {'jitter_probability': 0.0, 'grey_probability': 0.0, 'blur_probability': 0.0}
FLAT = {'brightness': 0.0, 'contrast': 0.0, 'saturation': 0.0, 'hue': 0.0}


def clip(n=3):
    return np.random.default_rng(0).integers(0, 256, (n, 8, 10, 3), np.uint8)


def apply(images, seed=0, **settings):
    augmentation = ClipAugmentation(**{**NEVER, **settings})
    return augmentation(images, np.random.default_rng(seed))


def test_nothing_changes_nothing():
    np.testing.assert_array_equal(apply(clip()), clip())
    unchanged = apply(clip(), **FLAT, jitter_probability=1.0)
    assert np.abs(unchanged.astype(int) - clip()).max() <= 1


def test_one_draw_for_the_whole_clip():
    same = np.repeat(clip(1), 4, axis=0)
    for seed in range(8):
        out = ClipAugmentation()(same, np.random.default_rng(seed))
        assert out.dtype == np.uint8 and out.shape == same.shape
        assert (out == out[:1]).all()


def test_grey_pictures_have_equal_channels():
    out = apply(clip(), grey_probability=1.0)
    np.testing.assert_array_equal(out[..., 0], out[..., 2])
    expected = clip() @ [0.299, 0.587, 0.114]
    assert np.abs(out[..., 1] - expected).max() <= 0.51


def test_brightness_scales():
    out = apply(clip(), **{**FLAT, 'brightness': 0.4}, jitter_probability=1.0, seed=3)
    images = clip().astype(float)
    inside = (out > 20) & (out < 250)
    ratios = out[inside] / images[inside]
    assert np.ptp(ratios) < 0.1 and 0.6 <= np.median(ratios) <= 1.4 and np.median(ratios) != 1


def test_hue_turns_by_one_angle_and_keeps_value():
    colours = np.array([[[[200, 40, 40], [40, 200, 40], [90, 60, 180], [220, 220, 30]]]], np.uint8)
    out = apply(colours, **{**FLAT, 'hue': 0.1}, jitter_probability=1.0, seed=5)
    turns = []
    for before, after in zip(colours.reshape(-1, 3), out.reshape(-1, 3), strict=True):
        old, new = (colorsys.rgb_to_hsv(*(c / 255 for c in x)) for x in (before, after))
        turns.append((new[0] - old[0] + 0.5) % 1 - 0.5)
        assert abs(new[2] - old[2]) < 0.01
    assert np.ptp(turns) < 0.01 and 0.005 < abs(turns[0]) <= 0.11


def test_blur_is_a_3x3_gaussian():
    rng = np.random.default_rng(2)
    [rng.random() for _ in range(3)]
    sigma = float(rng.uniform(0.1, 2.0))
    out = apply(clip(1), blur_probability=1.0, seed=2)
    weights = np.exp(-np.array([1.0, 0.0, 1.0]) / (2 * sigma**2))
    weights /= weights.sum()
    padded = np.pad(clip(1)[0].astype(float), ((1, 1), (1, 1), (0, 0)), mode='reflect')
    kernel = np.outer(weights, weights)
    expected = sum(
        kernel[i, j] * padded[i : i + 8, j : j + 10] for i in range(3) for j in range(3)
    )
    assert np.abs(out[0] - expected).max() <= 0.51
    assert cv2.Laplacian(out[0], cv2.CV_64F).std() < cv2.Laplacian(clip(1)[0], cv2.CV_64F).std()


def test_the_same_seed_gives_the_same_pictures():
    a, b, c = (ClipAugmentation()(clip(), np.random.default_rng(seed)) for seed in (1, 1, 4))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
