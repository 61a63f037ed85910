"""The one preprocessing: sizes as the paper's, and K that follows to a fraction of a pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dexwm.geometry.camera import CameraIntrinsics
from dexwm.geometry.preprocess import PreprocessError, ResizeAndCrop, resize_and_crop


@pytest.mark.parametrize(
    ('source', 'scaled', 'corner'),
    [
        ((1920, 1080), (398, 224), (3, 0)),  # EgoDex
        ((1280, 720), (398, 224), (3, 0)),  # DROID
        ((392, 224), (392, 224), (0, 0)),
        ((784, 448), (392, 224), (0, 0)),
        ((640, 480), (392, 294), (0, 35)),  # narrower than the target: rows go
        ((100, 50), (448, 224), (28, 0)),  # smaller than the target: enlarged
    ],
)
def test_sizes_of_the_papers_pictures(source, scaled, corner):
    step = ResizeAndCrop.to_cover(*source, 224, 392)
    assert (step.scaled_width, step.scaled_height) == scaled
    assert (step.x, step.y) == corner


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 600), st.integers(1, 600))
def test_any_picture_covers_any_target(source_width, source_height, height, width):
    step = ResizeAndCrop.to_cover(source_width, source_height, height, width)
    assert 0 <= step.x <= step.scaled_width - width
    assert 0 <= step.y <= step.scaled_height - height
    # One side fits exactly; the other keeps the aspect ratio to half a pixel.
    assert step.scaled_width == width or step.scaled_height == height
    scale = max(height / source_height, width / source_width)
    assert abs(step.scaled_width - source_width * scale) <= 0.5 + 1e-9
    assert abs(step.scaled_height - source_height * scale) <= 0.5 + 1e-9


def test_matrix_maps_the_camera_to_the_cropped_one():
    camera = CameraIntrinsics(1280, 721, 901.0, 899.0, 640.25, 350.5)
    step = ResizeAndCrop.to_cover(1280, 721, 224, 392)
    expected = step.apply_to_intrinsics(camera).K
    np.testing.assert_allclose(step.matrix @ camera.K, expected, atol=1e-9)


def blob_picture(intrinsics, points_camera, radius):
    """A black picture with a soft white blob where a point projects, drawn from the ray side.

    Each pixel's ray is intersected with the point's depth plane, so that neither `project` nor
    any formula for the picture's scale is in it.
    """
    rows, columns = np.mgrid[: intrinsics.height, : intrinsics.width]
    rays = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ np.linalg.inv(intrinsics.K).T
    picture = np.zeros((intrinsics.height, intrinsics.width))
    for x, y, z in points_camera:
        distance = np.hypot(rays[..., 0] * z - x, rays[..., 1] * z - y)
        picture += np.exp(-0.5 * (distance / radius) ** 2)
    return np.repeat((255 * picture).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def centroid_near(image, pixel, reach=16):
    column, row = np.rint(pixel).astype(int)
    window = image[row - reach : row + reach + 1, column - reach : column + reach + 1, 0]
    weights = window.astype(float)
    rows, columns = np.mgrid[row - reach : row + reach + 1, column - reach : column + reach + 1]
    return np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()


@pytest.mark.parametrize('source', [(1280, 720), (784, 448), (960, 600), (300, 200)])
def test_points_in_the_picture_stay_where_k_says(source):
    width, height = source
    camera = CameraIntrinsics(width, height, 0.9 * width, 0.9 * width, 0.48 * width, 0.53 * height)
    spots = np.array([[-0.25, -0.12, 1.0], [0.3, 0.15, 1.2], [0.02, 0.01, 0.7]])
    image, cropped = resize_and_crop(blob_picture(camera, spots, 0.008), camera, 224, 392)
    assert image.shape == (224, 392, 3) and image.dtype == np.uint8
    assert (cropped.width, cropped.height) == (392, 224)
    for pixel in cropped.project(spots):
        np.testing.assert_allclose(centroid_near(image, pixel), pixel, atol=0.05)


def test_a_picture_of_the_right_size_is_copied_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (224, 392, 3), dtype=np.uint8)
    camera = CameraIntrinsics(392, 224, 300, 300, 195.5, 111.5)
    same, same_camera = resize_and_crop(image, camera, 224, 392)
    np.testing.assert_array_equal(same, image)
    assert same_camera == camera
    assert not np.shares_memory(same, image)


def test_halving_averages_blocks_of_four():
    image = np.random.default_rng(1).integers(0, 256, (448, 784, 3), dtype=np.uint8)
    half = ResizeAndCrop.to_cover(784, 448, 224, 392).apply(image)
    blocks = image.reshape(224, 2, 392, 2, 3).mean(axis=(1, 3))
    assert np.abs(half - blocks).max() <= 0.5


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((720, 1280), np.uint8),
        np.zeros((720, 1280, 4), np.uint8),
        np.zeros((720, 1280, 3), np.float32),
        np.zeros((0, 1280, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(image):
    camera = CameraIntrinsics(1280, 720, 900, 900, 639.5, 359.5)
    with pytest.raises(PreprocessError):
        resize_and_crop(image, camera, 224, 392)


def test_intrinsics_of_another_size_are_refused():
    camera = CameraIntrinsics(1920, 1080, 900, 900, 639.5, 359.5)
    with pytest.raises(PreprocessError, match=r'1920x1080.*1280x720'):
        resize_and_crop(np.zeros((720, 1280, 3), np.uint8), camera, 224, 392)
