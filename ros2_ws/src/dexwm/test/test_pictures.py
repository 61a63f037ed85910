import argparse

import cv2
import numpy as np
import pytest
import torch

from dexwm.commands import eval as eval_command
from dexwm.data.actions import ActionOptions
from dexwm.data.recording import RecordingDataset
from dexwm.evaluation.errors import EvaluationError
from dexwm.evaluation.pictures import (
    ATOMIC_ACTIONS,
    PictureMaker,
    atomic_actions,
    choose_windows,
    follow,
    load_window,
    told,
)
from dexwm.model.checkpoint import save_checkpoint
from dexwm.model.encoders.registry import build_encoder
from dexwm.model.world_model import WorldModel, WorldModelConfig

from .blob_recordings import CAMERA, write_recording


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('recordings')
    for seed in (0, 1, 10, 20):
        write_recording(folder, seed)
    return folder


@pytest.fixture(scope='module')
def dataset(folder):
    return RecordingDataset(folder, 'held_out')


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    encoder = build_encoder('efficientnet_lite0', {'image_size': [64, 96]})
    written = {
        'name': 'tiny',
        'predictor': {'dim': 16, 'depth': 1, 'heads': 2, 'residual': True},
        'keypoint_head': {'dim': 16, 'depth': 0, 'heads': 2, 'stride': 8},
        'action': {'absolute': True},
        'decoder': {
            'latent_dim': encoder.dim,
            'grid': encoder.grid,
            'patch': 8,
            'dim': 16,
            'depth': 0,
            'heads': 2,
        },
    }
    return WorldModel(WorldModelConfig.for_encoder(written, encoder), encoder).eval()


@pytest.fixture(scope='module')
def windows(dataset, model):
    return choose_windows(dataset, model, 3, seed=0)


def test_windows_are_drawn_with_their_pictures(dataset, model, windows):
    again = choose_windows(dataset, model, 3, seed=0)
    assert [window.name for window in windows] == [window.name for window in again]
    assert len({window.batch.episode.item() for window in windows}) == 3
    for window in windows:
        frames = window.batch.frame_indices[0].numpy()
        recording = dataset[window.batch.episode.item()]
        np.testing.assert_array_equal(window.images, recording.images(frames))
    with pytest.raises(EvaluationError, match='only 3'):
        choose_windows(dataset, model, 4, seed=0)


def test_windows_in_which_an_object_moves_come_first(model, tmp_path):
    write_recording(tmp_path, 10)
    write_recording(tmp_path, 20, still=True)
    dataset = RecordingDataset(tmp_path, 'held_out')
    for seed in range(4):
        (window,) = choose_windows(dataset, model, 1, seed)
        assert window.batch.episode.item() == 0


def test_an_atomic_action_moves_the_right_hand_a_centimetre_a_frame():
    up = atomic_actions(ATOMIC_ACTIONS['up'], 20)
    assert up.shape == (20, 44, 3)
    start = np.random.default_rng(0).normal(size=(42, 3)).astype(np.float32)
    where = follow(start, up)
    assert where.shape == (21, 42, 3)
    np.testing.assert_array_equal(where[:, :21], np.tile(start[:21], (21, 1, 1)))
    np.testing.assert_allclose(where[20, 21:] - start[21:], np.tile([0, -0.2, 0], (21, 1)), 1e-4)
    assert not up[:, 42:].any()
    ahead = np.array([[0.0, 0.0, 1.0]])
    for name, (axis, sign) in {'up': (1, -1), 'right': (0, 1)}.items():
        moved = CAMERA.project(ahead + 0.1 * np.array(ATOMIC_ACTIONS[name]))
        assert np.sign(moved - CAMERA.project(ahead))[0, axis] == sign


def test_all_windows_can_be_followed(windows):
    for window in windows:
        where = follow(
            window.batch.keypoints_camera[0, 0].numpy(), window.batch.action_rows[0].numpy()
        )
        np.testing.assert_allclose(where, window.batch.keypoints_camera[0].numpy(), atol=1e-5)


@pytest.mark.parametrize('subset', ['full', 'peva'])
def test_the_same_is_told_of_actions_as_of_the_window_they_are_from(dataset, subset):
    options = ActionOptions(absolute=True, pixels=True, subset=subset)
    window = load_window(dataset, 0, np.arange(0, 12, 3), (16, 24), options)
    actions = told(window, window.batch.action_rows[0].numpy(), options)
    torch.testing.assert_close(actions, window.batch.actions, atol=1e-3, rtol=1e-4)
    assert (actions[..., -6 * len(options.keypoint_rows) :] != 0).any()
    with pytest.raises(EvaluationError, match='first_camera'):
        told(window, actions, ActionOptions(pixels=True, camera_frame='world'))


def test_pictures_show_what_the_model_predicts(model, windows, tmp_path):
    maker = PictureMaker(model, columns=3)
    maker.rollouts(windows[:1], tmp_path / 'one.png')
    maker.rollouts(windows[:2], tmp_path / 'two.png')
    maker.rollouts(windows[:1], tmp_path / 'again.png')
    one, two = (cv2.imread(str(tmp_path / name)) for name in ('one.png', 'two.png'))
    assert one.shape[1] == two.shape[1] and abs(2 * one.shape[0] - two.shape[0]) <= 2
    assert (tmp_path / 'one.png').read_bytes() == (tmp_path / 'again.png').read_bytes()
    PictureMaker(model, columns=3, dots=True).rollouts(windows[:1], tmp_path / 'dots.png')
    dots = cv2.imread(str(tmp_path / 'dots.png'))
    lime = (dots == [0, 255, 0]).all(-1)
    assert lime[: len(lime) // 3].any() and lime[-len(lime) // 3 :].any()
    assert not (one == [0, 255, 0]).all(-1).any()


def test_a_model_that_says_nothing_moves_shows_the_same_picture(model, windows, tmp_path):
    maker = PictureMaker(model)
    latents = maker._rollout(windows[0], windows[0].batch.actions)
    assert latents.shape == (21, model.encoder.tokens, model.encoder.dim)
    torch.testing.assert_close(latents[20], latents[0])
    maker.counterfactuals(windows[0], tmp_path / 'still.png')
    with torch.no_grad():
        for parameter in model.predictor.parameters():
            parameter.add_(0.1)
    try:
        maker.counterfactuals(windows[0], tmp_path / 'moving.png')
    finally:
        with torch.no_grad():
            for parameter in model.predictor.parameters():
                parameter.sub_(0.1)
    assert (tmp_path / 'still.png').read_bytes() != (tmp_path / 'moving.png').read_bytes()


def test_command(model, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(model, 'tiny')
    parser = argparse.ArgumentParser()
    eval_command.add_parser(parser.add_subparsers())
    args = parser.parse_args(['eval', 'pictures', 'tiny', '--data', str(folder), '--dots'])
    assert eval_command.run(args) == 0
    made = sorted(path.name for path in (tmp_path / 'runs' / 'eval' / 'tiny').iterdir())
    assert made == ['counterfactuals.png', 'rollouts.png', 'transfer.png']
