"""The pinhole camera against independent projections and against a drawn picture."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dexwm.geometry.camera import CameraIntrinsics, CameraIntrinsicsError

HEAD = CameraIntrinsics(392, 224, 230.0, 229.0, 190.0, 113.5)


def points(count=200, seed=3):
    rng = np.random.default_rng(seed)
    return rng.uniform([-1, -1, 0.3], [1, 1, 3], (count, 3))


def test_projection_equals_opencvs():
    expected, _ = cv2.projectPoints(points(), np.zeros(3), np.zeros(3), HEAD.K, None)
    np.testing.assert_allclose(HEAD.project(points()), expected[:, 0], atol=1e-9)


def test_projection_keeps_leading_axes_and_marks_what_is_behind():
    batch = points(24).reshape(2, 3, 4, 3)
    batch[0, 1, 2, 2] = 0.0
    batch[1, 0, 0, 2] = -1.0
    pixels = HEAD.project(batch)
    assert pixels.shape == (2, 3, 4, 2)
    behind = np.isnan(pixels).all(axis=-1)
    assert behind.sum() == np.isnan(pixels).any(axis=-1).sum() == 2
    assert behind[0, 1, 2] and behind[1, 0, 0]


@given(
    width=st.integers(1, 2000),
    height=st.integers(1, 2000),
    u=st.floats(0, 1),
    v=st.floats(0, 1),
)
def test_resize_keeps_each_points_place_between_the_edges(width, height, u, v):
    resized = HEAD.resized(width, height)
    # The point that HEAD sees at the fractions (u, v) of its picture, from edge to edge.
    ray = np.linalg.solve(HEAD.K, [u * 392 - 0.5, v * 224 - 0.5, 1.0])
    expected = [u * width - 0.5, v * height - 0.5]
    np.testing.assert_allclose(resized.project(ray), expected, atol=1e-6)


def test_crop_moves_the_origin():
    cropped = HEAD.cropped(10, 20, 300, 200)
    assert (cropped.width, cropped.height) == (300, 200)
    np.testing.assert_allclose(
        cropped.project(points()) + np.array([10, 20]), HEAD.project(points())
    )


def test_matrix_round_trip():
    assert CameraIntrinsics.from_matrix(392, 224, HEAD.K) == HEAD


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        ((0, 224, 1, 1, 0, 0), '0x224 pixels has no content'),
        ((392, 224, 0, 1, 0, 0), 'focal lengths must be positive'),
        ((392, 224, 1, -1, 0, 0), 'focal lengths must be positive'),
        ((392, 224, math.nan, 1, 0, 0), 'must be finite, got fx=nan'),
        ((392, 224, 1, 1, 0, math.inf), 'must be finite, got cy=inf'),
    ],
)
def test_impossible_cameras_are_refused(arguments, reason):
    with pytest.raises(CameraIntrinsicsError, match=reason):
        CameraIntrinsics(*arguments)


@pytest.mark.parametrize('K', [np.eye(4), [[1, 0.1, 0], [0, 1, 0], [0, 0, 1]], np.zeros((3, 3))])
def test_matrices_that_are_no_camera_matrix_are_refused(K):
    with pytest.raises(CameraIntrinsicsError):
        CameraIntrinsics.from_matrix(392, 224, K)


@pytest.mark.parametrize('box', [(-1, 0, 10, 10), (0, 0, 393, 10), (0, 220, 10, 5), (0, 0, 0, 5)])
def test_crops_outside_the_picture_are_refused(box):
    with pytest.raises(CameraIntrinsicsError):
        HEAD.cropped(*box)


def test_points_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r'\(\.\.\., 3\)'):
        HEAD.project([[1.0, 2.0]])
