"""Windows of the public data sets side by side, as a recipe draws them."""

import numpy as np
import pytest

from dexwm.data.actions import ActionOptions
from dexwm.data.droid import DroidDataset
from dexwm.data.egodex import EGODEX_JOINTS, EgoDexDataset
from dexwm.data.robocasa import RoboCasaDataset
from dexwm.data.window_source import ImageWindows
from dexwm.data.windows import WindowSampler
from dexwm.geometry.camera import CameraIntrinsics

from . import droid_writer, egodex_writer, robocasa_writer

SIZE = (56, 98)
SAMPLER = WindowSampler(frames=5, max_seconds=0.3)


def draw(dataset, episode, segment=9):
    rngs = [np.random.default_rng(4)]
    return ImageWindows(dataset, SIZE).draw([episode], [segment], rngs, SAMPLER, ActionOptions())


@pytest.fixture(scope='module')
def egodex(tmp_path_factory):
    root = tmp_path_factory.mktemp('egodex')
    truth = egodex_writer.write_episode(root / 'train/pour/0.hdf5', frames=20)
    egodex_writer.write_episode(root / 'train/pour/1.hdf5', frames=20, seed=1)
    return root, truth


def test_egodex(egodex):
    root, truth = egodex
    batch = draw(EgoDexDataset(root), 0)
    assert batch.images.shape == (1, 5, *SIZE, 3)
    assert bool(batch.keypoint_supervised[0])
    frames = batch.frame_indices[0].numpy()
    # The wrist's motion in the axes of the first frame's camera.
    axes = truth.transforms['camera'][frames[0], :3, :3].astype(float)
    wrist = truth.transforms['rightHand'][frames, :3, 3].astype(float)
    row = EGODEX_JOINTS.index('rightHand')
    actions = batch.actions[0].numpy().reshape(4, 44, 3)
    np.testing.assert_allclose(actions[:, row], np.diff(wrist, axis=0) @ axes, atol=1e-5)


def test_droid(tmp_path):
    droid_writer.write_episode(tmp_path)
    camera = CameraIntrinsics(droid_writer.WIDTH, droid_writer.HEIGHT, 26.5, 26.5, 31.5, 17.5)
    batch = draw(DroidDataset(tmp_path, intrinsics=camera), 0)
    assert not bool(batch.keypoint_supervised[0])
    actions = batch.actions[0].numpy().reshape(4, 44, 3)
    assert not actions[:, :21].any() and not actions[:, 42:].any()
    assert np.linalg.norm(actions[:, 21], axis=-1).min() > 0.001  # the arm moves all the time


def test_robocasa(tmp_path):
    robocasa_writer.write_file(tmp_path / 'a.hdf5')
    camera = CameraIntrinsics(robocasa_writer.WIDTH, robocasa_writer.HEIGHT, 36, 36, 47.5, 29.5)
    batch = draw(RoboCasaDataset(tmp_path, intrinsics=camera), 2)
    assert bool(batch.keypoint_supervised[0])
    actions = batch.actions[0].numpy().reshape(4, 44, 3)
    # The ring finger's rows are the little finger's rows.
    np.testing.assert_array_equal(actions[:, 34:38], actions[:, 38:42])


def test_a_damaged_episode_is_replaced_and_named(tmp_path, egodex):
    for number in (0, 1):
        for ending in ('.hdf5', '.mp4'):
            source = egodex[0] / f'train/pour/{number}{ending}'
            target = tmp_path / f'train/pour/{number}{ending}'
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes()[: 3000 if number == 0 else None])
    dataset = EgoDexDataset(tmp_path)
    batch = draw(dataset, 0)
    assert batch.episode.tolist() == [1]
    assert any('pour/0' in str(problem) for problem in batch.problems)
    assert [problem.file for problem in dataset.problems] == [str(tmp_path / 'train/pour/0.hdf5')]
