import json

import numpy as np
import pytest
import torch

from dexwm.data.actions import ActionOptions, conditioning
from dexwm.data.episode import DatasetError
from dexwm.data.latent_cache import LatentCache
from dexwm.data.recording import RecordingDataset
from dexwm.data.selection import some_episodes
from dexwm.evaluation.encoding import encode
from dexwm.evaluation.errors import EvaluationError
from dexwm.evaluation.forecast import ModelForecast
from dexwm.evaluation.frames import EncodedFrames
from dexwm.evaluation.open_loop import OpenLoopConfig, draw_windows, evaluate_models
from dexwm.evaluation.probe import ProbeTraining
from dexwm.evaluation.probe_store import KEYPOINT_NAMES, obtain_probe
from dexwm.evaluation.report import Report
from dexwm.model.encoders.registry import build_encoder
from dexwm.model.world_model import WorldModel, WorldModelConfig

from .blob_recordings import OBJECTS, write_recording

CONFIG = OpenLoopConfig(windows_per_episode=2, batch=2)
ABSOLUTE = ActionOptions(absolute=True)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('recordings')
    for seed in (*range(9), 10, 20):
        write_recording(folder, seed)
    return folder


@pytest.fixture(scope='module')
def encoder():
    return build_encoder('efficientnet_lite0', {'image_size': [64, 96]})


@pytest.fixture(scope='module')
def caches(folder, encoder, tmp_path_factory):
    out = tmp_path_factory.mktemp('latents')
    return {
        split: encode(RecordingDataset(folder, split), encoder, out)
        for split in ('train', 'held_out')
    }


@pytest.fixture(scope='module')
def held_out(caches, encoder):
    return EncodedFrames(caches['held_out'], encoder)


@pytest.fixture(scope='module')
def probes(tmp_path_factory):
    return tmp_path_factory.mktemp('probes')


@pytest.fixture(scope='module')
def probe(caches, encoder, probes):
    train = EncodedFrames(caches['train'], encoder)
    return obtain_probe(encoder, [train], 200, ProbeTraining(steps=120, batch=32), probes)[0]


def tiny_model(encoder, action=ABSOLUTE, seed=0, cls=WorldModel):
    torch.manual_seed(seed)
    written = {
        'name': 'tiny',
        'predictor': {'dim': 16, 'depth': 1, 'heads': 2, 'residual': True},
        'keypoint_head': {'dim': 16, 'depth': 0, 'heads': 2, 'stride': 8},
        'action': vars(action),
    }
    return cls(WorldModelConfig.for_encoder(written, encoder), encoder).eval()


def shaken(model):
    """A model whose predictions are not those of its initial weights, which say nothing moves."""
    with torch.no_grad():
        for parameter in model.predictor.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


class Oracle(WorldModel):
    """Knows what happened."""

    def rollout(self, latents, past_actions, actions):
        matches = (self.known == latents[:, -1:]).flatten(2).all(-1)
        rows = matches.int().argmax(1)[:, None] + torch.arange(1, actions.shape[1] + 1)
        return self.known[0][rows]


def test_an_oracle_is_as_good_as_the_true_frame(held_out, probe, encoder):
    oracle = tiny_model(encoder, cls=Oracle)
    oracle.known = held_out.latents(np.arange(len(held_out.cache.table)))[None]
    windows = draw_windows(held_out, CONFIG)
    still, true, found = evaluate_models({'oracle': oracle}, held_out, windows, probe, CONFIG)
    assert (still.name, true.name, found.name) == ('persistence', 'true frame', 'oracle')
    # By text: what was not counted is nan, which is not equal to itself.
    assert repr(found.figures) == repr(true.figures)
    assert found.figures.latent_mse_ratio.mean.value == 0
    assert repr(found.head.predicted) == repr(found.head.true_frame)


def test_a_model_that_says_nothing_moves_is_persistence(held_out, probe, encoder):
    windows = draw_windows(held_out, CONFIG)
    still, true, found = evaluate_models(
        {'still': tiny_model(encoder)}, held_out, windows, probe, CONFIG
    )
    assert found.figures.latent_mse_ratio.mean.value == pytest.approx(1)
    ratio = found.figures.objects.parts['all']['mean'].ratio
    assert ratio.value == pytest.approx(1) and ratio.count > 50
    # The probe sees the can go; persistence can't.
    assert true.figures.objects.parts['all']['mean'].ratio.high < 0.5
    assert true.figures.keypoints.error.last.value < 0.5 * still.figures.keypoints.error.last.value


def test_truth_is_that_of_the_recordings(held_out, folder):
    windows = draw_windows(held_out, CONFIG)
    truth = windows.truth
    recordings = RecordingDataset(folder, 'held_out')
    assert truth.object_names == tuple(sorted(OBJECTS))
    for n, (number, frames) in enumerate(
        zip(windows.episodes, windows.frame_indices, strict=True)
    ):
        recording = recordings[int(number)]
        np.testing.assert_array_equal(frames, frames[0] + np.arange(21))
        for k, name in enumerate(truth.object_names):
            column = recording.objects.names.index(name)
            expected = recording.intrinsics.project(recording.objects.centres_world[:, column])
            np.testing.assert_allclose(truth.object_pixels[n, :, k], expected[frames], atol=1e-4)
            np.testing.assert_array_equal(
                truth.object_contact[n, :, k], recording.objects.in_contact[frames, column]
            )
        thumb = recording.intrinsics.project(recording.keypoints_world[frames, 21 + 4])
        place = KEYPOINT_NAMES.index('right thumb')
        np.testing.assert_allclose(truth.keypoint_pixels[n, :, place], thumb, atol=1e-4)
    assert not truth.keypoint_visible[..., :6].any()
    np.testing.assert_allclose(truth.times, np.arange(1, 21) * 0.2)


def test_windows_are_seeded(held_out):
    first, second = draw_windows(held_out, CONFIG), draw_windows(held_out, CONFIG)
    assert first.digest() == second.digest()
    other = draw_windows(held_out, OpenLoopConfig(windows_per_episode=2, seed=1))
    assert other.digest() != first.digest()


def test_forecast_starts(held_out, encoder):
    model = shaken(tiny_model(encoder))
    windows = draw_windows(held_out, CONFIG)
    episodes, frames = windows.episodes[:2], windows.frame_indices[:2]
    observed = held_out.latents(held_out.cache.rows(episodes, frames))[:, 0]
    batch = held_out.actions(episodes, frames, ABSOLUTE)
    single = ModelForecast(model)(observed, batch)
    repeat = ModelForecast(model, 'repeat')(observed, batch)
    with torch.no_grad():
        by_hand = observed
        assert torch.allclose(
            single[:, 0],
            model.predict_window(torch.stack([by_hand] * 2, 1), batch.actions[:, :1])[:, 0],
            atol=1e-5,
        )
        keypoints = batch.keypoints_camera[:, [0, 0]].numpy()
        waiting = torch.from_numpy(
            conditioning(np.zeros((2, 1, 44, 3)), keypoints, keypoints, ABSOLUTE)
        )
        told = torch.cat([*[waiting] * 7, batch.actions[:, :1]], 1)
        window = observed[:, None].expand(-1, 9, -1, -1)
        assert torch.allclose(repeat[:, 0], model.predict_window(window, told)[:, -1], atol=1e-5)
    assert single.shape == (2, 20, encoder.tokens, encoder.dim)
    with pytest.raises(EvaluationError, match='single, repeat'):
        ModelForecast(model, 'thrice')


def test_predictions_that_are_not_numbers_are_refused(held_out, probe, encoder):
    model = tiny_model(encoder)
    with torch.no_grad():
        model.predictor.pos_embed.fill_(float('nan'))
    with pytest.raises(EvaluationError, match='broken predicts numbers that are not finite'):
        evaluate_models({'broken': model}, held_out, draw_windows(held_out, CONFIG), probe, CONFIG)


def test_a_projection_is_applied_to_its_backbones_cache(caches, held_out, encoder, tmp_path):
    projected = build_encoder('efficientnet_lite0_pca', {'image_size': [64, 96], 'dim': 8})
    projected.projection.fit(torch.from_numpy(caches['train'].latents[:200].astype('float32')))
    projected.load_trained_state(projected.trained_state())
    seen = EncodedFrames(caches['held_out'], projected)
    rows = np.array([[0, 5], [9, 1]])
    assert seen.latents(rows).shape == (2, 2, 6, 8)
    torch.testing.assert_close(
        seen.latents(rows)[1, 0], projected.project(held_out.latents(np.array([9])))[0]
    )
    other = build_encoder('efficientnet_lite0', {'image_size': [64, 128]})
    with pytest.raises(DatasetError, match='with digest'):
        EncodedFrames(caches['held_out'], other)


def test_a_probe_is_trained_once(caches, encoder, probe, probes):
    train = EncodedFrames(caches['train'], encoder)
    training = ProbeTraining(steps=120, batch=32)

    def fail(step):
        raise AssertionError('it is trained again')

    again, record = obtain_probe(encoder, [train], 200, training, probes, fail)
    assert all(map(torch.equal, probe.state_dict().values(), again.state_dict().values()))
    assert record['train_frames'] == 200 and record['encoder_digest'] == encoder.digest()
    (kept,) = probes.glob('*.safetensors')
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EvaluationError, match='delete it'):
        obtain_probe(encoder, [train], 200, training, probes, fail)
    kept.write_bytes(whole)


def test_a_probe_learns_from_all_of_its_data(caches, encoder, tmp_path):
    names = caches['train'].object_names
    parts = [EncodedFrames(LatentCache(caches['train'].folder), encoder) for _ in range(2)]
    training = ProbeTraining(steps=1, batch=4)
    frames = len(parts[0].cache.table)
    one, _ = obtain_probe(encoder, parts[:1], 2 * frames, training, tmp_path)
    both, record = obtain_probe(encoder, parts, 2 * frames, training, tmp_path)
    assert record['train_frames'] == 2 * frames and len(record['train_digests']) == 2
    assert both.config.points == one.config.points == (*KEYPOINT_NAMES, *names)
    # The same frames twice have the same mean.
    torch.testing.assert_close(both.mean, one.mean)
    # Two hundred of them are drawn from both.
    half, record = obtain_probe(encoder, parts, 200, training, tmp_path)
    assert record['train_frames'] == 200 and not torch.equal(half.mean, one.mean)


def test_some_episodes_are_seeded_and_enough(folder):
    dataset = RecordingDataset(folder, 'train')
    names = [[e.name for e in some_episodes(dataset, 100, seed)] for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
    assert len(names[0]) == 4 and names[0] == sorted(names[0])
    assert len(some_episodes(dataset, 10**6, 0)) == len(dataset)


def test_report_is_json_and_tables(held_out, probe, encoder, tmp_path):
    windows = draw_windows(held_out, CONFIG)
    entries = evaluate_models({'still': tiny_model(encoder)}, held_out, windows, probe, CONFIG)
    report = Report({}, {}, {}, tuple(windows.truth.times.tolist()), tuple(entries))
    report.save(tmp_path / 'open_loop.json')
    content = json.loads((tmp_path / 'open_loop.json').read_text())
    assert [entry['name'] for entry in content['entries']] == [
        'persistence',
        'true frame',
        'still',
    ]
    figures = content['entries'][2]['figures']
    # The box never moves: nothing that was not touched has.
    assert figures['objects']['parts']['untouched']['4 s']['ratio']['value'] is None
    assert figures['keypoints']['pck']['visible']['20']['last']['value'] == pytest.approx(
        entries[2].figures.keypoints.pck_curve(20).last.value
    )
    assert [table.row_count for table in report.tables()] == [3, 3]
