import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dexwm.data.actions import ActionOptions, camera_path, conditioning, window_actions
from dexwm.data.episode import DatasetError
from dexwm.geometry.rotations import relative_pose

FRAMES = 4


@pytest.fixture
def motion():
    """Keypoints in the first camera, and a camera that turns and moves."""
    rng = np.random.default_rng(0)
    keypoints = rng.normal(size=(2, FRAMES, 42, 3))
    poses = np.tile(np.eye(4), (2, FRAMES, 1, 1))
    first = Rotation.random(2, rng).as_matrix()
    for b in range(2):
        for k in range(FRAMES):
            small = Rotation.from_euler('xyz', [-0.01 * k, 0.02 * k, 0.005 * k]).as_matrix()
            poses[b, k, :3, :3] = first[b] @ small
            poses[b, k, :3, 3] = rng.normal(size=3)
    return keypoints, np.ones((2, FRAMES, 42), bool), poses


def test_keypoints_and_camera_of_the_first_frame(motion):
    keypoints, known, poses = motion
    actions = window_actions(keypoints, known, poses, ActionOptions())
    assert actions.shape == (2, FRAMES - 1, 44, 3) and actions.dtype == np.float32
    for b in range(2):
        for k in range(FRAMES - 1):
            np.testing.assert_allclose(
                actions[b, k, :42], keypoints[b, k + 1] - keypoints[b, k], atol=1e-6
            )
            R = poses[b, 0, :3, :3]
            moved = R.T @ (poses[b, k + 1, :3, 3] - poses[b, k, :3, 3])
            np.testing.assert_allclose(actions[b, k, 42], moved, atol=1e-6)
            np.testing.assert_allclose(actions[b, k, 43], [-0.01, 0.02, 0.005], atol=1e-6)


def test_the_published_codes_choices_are_switches(motion):
    keypoints, known, poses = motion
    world = window_actions(keypoints, known, poses, ActionOptions(camera_frame='world'))
    angles = Rotation.from_matrix(poses[..., :3, :3].reshape(-1, 3, 3)).as_euler('xyz')
    turns = np.diff(angles.reshape(2, FRAMES, 3), axis=1)
    np.testing.assert_allclose(world[..., 42, :], np.diff(poses[..., :3, 3], axis=1), atol=1e-6)
    np.testing.assert_allclose(np.cos(world[..., 43, :]), np.cos(turns), atol=1e-6)
    assert np.abs(world[..., 43, :]).max() <= np.pi + 1e-6

    reference = window_actions(keypoints, known, poses, ActionOptions(euler='reference'))
    np.testing.assert_allclose(reference[..., 43, 0], 2 * np.pi - 0.01, atol=1e-5)
    np.testing.assert_allclose(reference[..., 43, 1], 0.02, atol=1e-5)


@pytest.mark.parametrize('euler', ['wrapped', 'reference'])
def test_actions_lead_the_camera_where_it_went(motion, euler):
    keypoints, known, poses = motion
    actions = window_actions(keypoints, known, poses, ActionOptions(euler=euler))
    expected = relative_pose(poses[0, :1], poses[0])
    np.testing.assert_allclose(camera_path(actions[0]), expected, atol=1e-5)


def test_a_step_to_or_from_an_unknown_keypoint_is_zero(motion):
    keypoints, known, poses = motion
    known[0, 1, 5] = False
    actions = window_actions(keypoints, known, poses, ActionOptions())
    assert not actions[0, :2, 5].any()
    assert actions[0, 2, 5].all() and actions[0, :, 6].all() and actions[1, :, 5].all()


@pytest.mark.parametrize(
    ('options', 'dim'),
    [
        (ActionOptions(), 132),
        (ActionOptions(absolute=True), 258),
        (ActionOptions(pixels=True), 384),
        (ActionOptions(absolute=True, pixels=True), 510),
        (ActionOptions(subset='nwm'), 6),
        (ActionOptions(subset='nwm', absolute=True), 6),
        (ActionOptions(subset='peva'), 12),
        (ActionOptions(subset='peva', absolute=True), 18),
        (ActionOptions(subset='peva', pixels=True), 24),
    ],
)
def test_what_the_model_is_told(options, dim):
    actions = np.arange(2 * 44 * 3, dtype=np.float32).reshape(2, 44, 3)
    keypoints = -np.arange(3 * 42 * 3, dtype=np.float32).reshape(3, 42, 3)
    seen = keypoints - 1000
    told = conditioning(actions, keypoints, seen, options)
    assert told.shape == (2, dim) and options.dim == dim
    rows = {'full': list(range(42)), 'nwm': [], 'peva': [0, 21]}[options.subset]
    expected = [actions[:, row] for row in [*rows, 42, 43]]
    if options.absolute:
        expected += [keypoints[:-1, row] for row in rows]
    if options.pixels:
        expected += [seen[:-1, row] for row in rows] + [seen[1:, row] for row in rows]
    np.testing.assert_array_equal(told, np.concatenate(expected, axis=1))


def test_unknown_names_are_refused():
    with pytest.raises(DatasetError, match='wrapped, reference'):
        ActionOptions(euler='degrees')
