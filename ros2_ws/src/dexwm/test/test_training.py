"""Trainings of a tiny model, of all kinds, killed, resumed and shared out."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dexwm.cli import main
from dexwm.data.datasets import open_dataset
from dexwm.data.latent_cache import LatentCache
from dexwm.data.recording import RecordingDataset
from dexwm.model.checkpoint import load_checkpoint
from dexwm.model.encoders.registry import build_encoder
from dexwm.training import trainer
from dexwm.training.state import read_state

from . import egodex_writer
from .tiny_recordings import write_recording

SMOKE = Path(__file__).parents[4] / 'models' / 'recipes' / 'smoke.yaml'
WEIGHTS = 'model/model.safetensors'


@pytest.fixture(scope='module', autouse=True)
def _one_thread(_threads):
    torch.set_num_threads(1)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Recordings, and caches of their two splits."""
    folder = tmp_path_factory.mktemp('data')
    recordings = folder / 'recordings'
    recordings.mkdir()
    for seed in range(7, 21):
        write_recording(recordings, seed)
    encoder = build_encoder('efficientnet_lite0', {'image_size': [64, 96]})
    for split in ('train', 'held_out'):
        dataset = RecordingDataset(recordings, split)
        LatentCache.build(dataset, encoder, folder / split, picture_size=(64, 96))
    return folder


def arguments(data, output, name, *changes, recipe=SMOKE, cached=True):
    defaults = [f'name={name}']
    if cached:
        defaults += [
            f'data.0.cache={data / "train"}',
            f'validation.data.0.cache={data / "held_out"}',
        ]
    else:
        keys = ('data', 'validation.data')
        defaults += [f'{key}.0.path={data / "recordings"}' for key in keys]
    sets = [word for change in (*defaults, *changes) for word in ('--set', change)]
    return ['train', str(recipe), '--output', str(output), *sets]


def train(data, output, name, *changes, **options):
    """Trains in this process; returns the folder."""
    assert main(arguments(data, output, name, *changes, **options)) == 0
    return output / name


def figures(folder, group='train'):
    lines = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    return [line for line in lines if line['group'] == group]


def differences(first, second):
    a, b = (load_file(folder / WEIGHTS) for folder in (first, second))
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.fixture(scope='module')
def plain(data, tmp_path_factory):
    """The smoke recipe from caches, uninterrupted."""
    return train(data, tmp_path_factory.mktemp('plain'), 'plain')


def test_a_training_leaves_a_model_its_figures_and_what_it_was(plain, data):
    model = load_checkpoint(plain / 'model')
    assert model.config.name == 'plain' and model.config.action.absolute
    images = torch.from_numpy(open_dataset('recording', data / 'recordings')[0].images([0, 1]))
    latents = model.encode(images)
    predicted = model.predict_window(latents[None], torch.zeros(1, 1, 258))
    assert predicted.shape == (1, 1, 6, 768) and torch.isfinite(predicted).all()
    assert not torch.equal(predicted[:, 0], latents[None, 0])

    steps = figures(plain)
    assert [line['step'] for line in steps] == [4, 8, 12]
    for line in steps:
        parts = (
            line['state'] + 0.1 * line['hand_consistency'] + 0.1 * line['hands_in_true_latents']
        )
        assert line['loss'] == pytest.approx(parts, rel=1e-5)
        assert line['windows_per_second'] > 0 and 0 < line['utilisation'] < 10
    assert [line['step'] for line in figures(plain, 'validation')] == [4, 8, 12]
    last = figures(plain, 'validation')[-1]
    assert 0.5 < last['window_ratio'] < 1.0
    assert 0 <= last['rollout_pck20'] <= 1
    about = json.loads((plain / 'training.json').read_text())
    assert about['recipe']['phases'][1]['rollout_steps'] == 2
    assert 'CPU' in about['machine']
    assert read_state(plain)['step'] == 12


def test_training_lowers_the_loss(data, tmp_path):
    folder = train(
        data,
        tmp_path,
        'longer',
        'phases.0.steps=60',
        'phases.0.learning_rate=3e-3',
        'log_every_steps=20',
        'validation.every_steps=60',
    )
    # The other losses differ more from batch to batch than so few steps change them.
    for name in ('hand_consistency', 'hands_in_true_latents'):
        losses = [line[name] for line in figures(folder)]
        assert losses[2] < 0.9 * losses[0]
    assert figures(folder, 'validation')[-1]['window_ratio'] < 1


def test_rollouts_may_be_longer_than_what_the_model_knows(data, tmp_path):
    folder = train(
        data,
        tmp_path,
        'longer',
        'model.predictor.context=2',
        'windows.frames=6',
        'phases=[{steps: 2, batch_size: 4, learning_rate: 1.0e-3, final_learning_rate: 1.0e-4, '
        'loss: rollout, rollout_steps: 5}]',
        'validation.every_steps=2',
    )
    (last,) = figures(folder, 'validation')
    assert last['window_ratio'] > 0 and last['rollout_ratio'] > 0


OBJECTS = ('loss.object_consistency={weight: 0.5, true_latents_weight: 0.25, moved_weight: 2.0}',)


def test_objects_are_learned_by_a_head_that_is_kept(plain, data, tmp_path, monkeypatch):
    # These recordings' objects move little.
    monkeypatch.setattr('dexwm.training.world_model_task.MOVED_PIXELS', 0.01)
    folder = train(data, tmp_path, 'objects', *OBJECTS)
    for line in figures(folder):
        parts = (
            line['state']
            + 0.1 * line['hand_consistency']
            + 0.1 * line['hands_in_true_latents']
            + 0.5 * line['object_consistency']
            + 0.25 * line['objects_in_true_latents']
        )
        assert line['loss'] == pytest.approx(parts, rel=1e-5)
    last = figures(folder, 'validation')[-1]
    assert {'still_object_px', 'rollout_object_px', 'encoder_object_px'} <= last.keys()
    assert last['still_object_px'] > 0.01
    weights, without = (load_file(f / 'model' / 'model.safetensors') for f in (folder, plain))
    heads = {name for name in weights if name.startswith('object_head.')}
    assert heads and weights.keys() - heads == without.keys()
    assert any((weights[name] != without[name]).any() for name in without)
    assert load_checkpoint(folder / 'model').config.objects == ('can', 'mug')


def test_objects_need_a_head_that_knows_true_ones(data, tmp_path, capsys):
    change = 'loss.object_consistency={weight: 0.5}'
    assert main(arguments(data, tmp_path, 'blind', change)) == 1
    assert 'object_consistency.weight needs a true_latents_weight' in capsys.readouterr().err


def test_the_same_recipe_gives_the_same_weights_and_another_seed_others(plain, data, tmp_path):
    assert differences(plain, train(data, tmp_path, 'plain')) == 0
    assert differences(plain, train(data, tmp_path, 'other', 'seed=1')) > 0


def test_a_finished_training_is_left_alone_and_another_recipe_refused(
    plain, data, capsys, tmp_path
):
    before = (plain / WEIGHTS).read_bytes()
    train(data, plain.parent, 'plain')
    assert (plain / WEIGHTS).read_bytes() == before
    # On what it runs may change, what it does may not.
    train(data, plain.parent, 'plain', 'engine.peak_flops=1e12', 'saving.every_steps=5')
    assert main(arguments(data, plain.parent, 'plain', 'phases.0.batch_size=6')) == 1
    error = capsys.readouterr().err
    assert 'phases.0.batch_size was 4 and is 6' in error and '--restart' in error
    assert (plain / WEIGHTS).read_bytes() == before


def test_parts_of_a_batch_and_recomputed_activations_change_rounding_only(plain, data, tmp_path):
    changes = ('engine.micro_batch_size=3', 'engine.activation_checkpointing=true')
    assert differences(plain, train(data, tmp_path, 'plain', *changes)) < 1e-5


def test_pictures_instead_of_a_cache_give_the_same_up_to_its_half_precision(plain, data, tmp_path):
    folder = train(data, tmp_path, 'plain', cached=False)
    first, second = figures(plain)[0], figures(folder)[0]
    assert first['loss'] == pytest.approx(second['loss'], rel=2e-3)
    folder = train(data, tmp_path, 'colour', 'windows.augment=true', cached=False)
    assert figures(folder)[0]['loss'] != pytest.approx(first['loss'], rel=2e-3)


def test_a_damaged_file_is_passed_over_and_named_at_the_end(data, tmp_path, capsys):
    for number in range(3):
        egodex_writer.write_episode(tmp_path / f'train/pour/{number}.hdf5', frames=20, seed=number)
    first = tmp_path / 'train/pour/0.hdf5'
    first.write_bytes(first.read_bytes()[:2000])
    changes = ('data.0.kind=egodex', f'data.0.path={tmp_path}', 'validation=null')
    folder = train(data, tmp_path, 'damaged', *changes, cached=False)
    assert len(figures(folder)) == 3
    printed = capsys.readouterr().out.replace('\n', '')
    assert '1 episodes could not be read' in printed and printed.count(str(first)) == 1


def test_bfloat16_stays_near_float32(plain, data, tmp_path):
    folder = train(data, tmp_path, 'plain', 'engine.precision=bf16-mixed')
    for first, second in zip(figures(plain), figures(folder), strict=True):
        assert first['loss'] == pytest.approx(second['loss'], rel=0.02)
    assert all(value.dtype == torch.float32 for value in load_file(folder / WEIGHTS).values())


def test_a_finetune_starts_from_a_checkpoint(plain, data, tmp_path):
    folder = train(
        data,
        tmp_path,
        'tuned',
        f'start_from={plain / "model"}',
        'encoder=null',
        'model=null',
        'phases.0.learning_rate=1e-9',
        'phases.0.final_learning_rate=0',
        'phases.1.learning_rate=1e-9',
        'optimiser.weight_decay=0',
    )
    assert 0 < differences(plain, folder) < 1e-6


SLOW = ('phases.0.steps=80', 'validation.every_steps=30', 'log_every_steps=1')


def start(*words):
    return subprocess.Popen(
        [sys.executable, '-m', 'dexwm.cli', *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_step(process, folder, step):
    """Waits until a training has logged a step."""
    path = folder / 'metrics.jsonl'
    while not path.exists() or len(path.read_text().splitlines()) < step:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.005)


@pytest.fixture(scope='module')
def longer(data, tmp_path_factory):
    return train(data, tmp_path_factory.mktemp('longer'), 'longer', *SLOW)


def test_a_training_killed_at_random_and_resumed_ends_with_the_same_weights(
    longer, data, tmp_path
):
    words = arguments(data, tmp_path, 'longer', *SLOW)
    process = start(*words)
    wait_for_step(process, tmp_path / 'longer', random.randrange(4, 60))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    state = read_state(tmp_path / 'longer')
    assert state['step'] % 3 == 0 and state['step'] < 84
    # A file that was being written when the power went.
    (tmp_path / 'longer' / 'state.part').write_bytes(b'half of a state')
    assert main(words) == 0
    assert differences(longer, tmp_path / 'longer') == 0
    for group in ('train', 'validation'):
        first, second = (figures(folder, group) for folder in (longer, tmp_path / 'longer'))
        assert [line['step'] for line in first] == [line['step'] for line in second]
        for a, b in zip(first, second, strict=True):
            assert a.get('loss') == b.get('loss') and a.get('window_mse') == b.get('window_mse')


def test_a_training_that_ends_while_it_saves_does_not_count_as_finished(
    plain, data, tmp_path, monkeypatch
):
    def end(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer, 'write_state', end)
        with pytest.raises(KeyboardInterrupt):
            main(arguments(data, tmp_path, 'plain'))
    # The model is written before the state, which would say that all is done.
    assert load_checkpoint(tmp_path / 'plain' / 'model').config.name == 'plain'
    assert main(arguments(data, tmp_path, 'plain')) == 0
    assert read_state(tmp_path / 'plain')['step'] == 12
    assert differences(plain, tmp_path / 'plain') == 0


def test_a_training_asked_to_stop_saves_and_goes_on(longer, data, tmp_path):
    words = arguments(data, tmp_path, 'longer', *SLOW, 'saving.every_steps=1000')
    process = start(*words)
    wait_for_step(process, tmp_path / 'longer', 5)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate()
    assert process.returncode == 3, output
    assert 'the same command goes on' in output
    assert 5 <= read_state(tmp_path / 'longer')['step'] < 84
    assert load_checkpoint(tmp_path / 'longer' / 'model').config.name == 'longer'
    assert main(words) == 0
    assert differences(longer, tmp_path / 'longer') == 0


@pytest.mark.parametrize('strategy', ['ddp', 'fsdp'])
def test_two_processes_do_what_one_does(strategy, plain, data, tmp_path):
    words = arguments(data, tmp_path, 'plain', 'engine.devices=2', f'engine.strategy={strategy}')
    launcher = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
    result = subprocess.run(
        [*launcher, '--nproc-per-node', '2', '-m', 'dexwm.cli', *words],
        capture_output=True,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    folder = tmp_path / 'plain'
    assert re.search(rf'2 x CPU.*{strategy}', result.stdout)
    assert differences(plain, folder) < 1e-5
    for group, names in (
        ('train', ('loss', 'gradient_norm')),
        ('validation', ('window_mse', 'rollout_keypoint_px')),
    ):
        for a, b in zip(figures(plain, group), figures(folder, group), strict=True):
            assert [a[name] for name in names] == pytest.approx(
                [b[name] for name in names], rel=1e-4
            )
    # One process goes on with what two began, and finds it done.
    train(data, tmp_path, 'plain')


def test_inputs_that_are_not_finite_stop_the_training_and_are_named(data, tmp_path, capsys):
    broken = tmp_path / 'broken'
    encoder = build_encoder('efficientnet_lite0', {'image_size': [64, 96]})
    cache = LatentCache.build(RecordingDataset(data / 'recordings', 'held_out'), encoder, broken)
    latents = np.memmap(broken / 'latents.f16', np.float16, 'r+', shape=cache.latents.shape)
    latents[5:] = np.nan
    latents.flush()
    words = arguments(data, tmp_path, 'nan', f'data.0.cache={broken}', 'seed=3')
    assert main(words) == 1
    error = capsys.readouterr().err
    assert re.search(r'step 1: loss, state.* not finite', error)
    assert re.search(r'inputs: latents of windows \[.*source 0, episode \d, frame_indices', error)
    assert not (tmp_path / 'nan' / 'model').exists()


def test_a_loss_that_runs_away_keeps_the_state_before(data, tmp_path, capsys):
    changes = ('phases.0.learning_rate=1e18', 'phases.0.warmup_steps=0', 'saving.every_steps=1')
    words = arguments(data, tmp_path, 'wild', *changes)
    assert main(words) == 1
    error = capsys.readouterr().err
    kept = re.search(r'step (\d+): .* not finite. All inputs were.*state of step (\d+)', error)
    assert int(kept[2]) == int(kept[1]) - 1 == read_state(tmp_path / 'wild')['step']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ('engine.device=cuda', 'no CUDA device'),
        ('data.0.cache=/nowhere', '/nowhere'),
        ('encoder.name=resnet', 'resnet'),
        ('encoder.options.image_size=[32, 64]', 'encoder'),
        ('model.predictor.width=3', 'width'),
        ('model.heatmap_loss=mse', 'hand_consistency.kind is cross_entropy'),
        ('model.keypoint_head.depths=false', 'depth_weight and model.keypoint_head.depths go'),
        ('windows.moved_share=1.5', 'moved_share'),
        ('windows.frames=10', 'phases.0.loss is window, of at most 9 frames'),
        ('data.0.options={fps: 3}', 'a cache was read with its own'),
    ],
)
def test_what_cannot_be_had_is_said(change, message, data, tmp_path, capsys):
    if change == 'engine.device=cuda' and torch.cuda.is_available():
        pytest.skip('there is a CUDA device')
    words = arguments(data, tmp_path, 'wrong')
    assert main([*words, '--set', change]) == 1
    assert message in capsys.readouterr().err


def test_windows_in_which_objects_move_need_caches_that_tell_of_objects(data, tmp_path, capsys):
    words = arguments(data, tmp_path, 'pictures', cached=False)
    assert main([*words, '--set', 'windows.moved_share=0.5']) == 1
    assert 'windows.moved_share needs caches' in capsys.readouterr().err
    recordings = tmp_path / 'recordings'
    recordings.mkdir()
    write_recording(recordings, 7, names=())
    encoder = build_encoder('efficientnet_lite0', {'image_size': [64, 96]})
    LatentCache.build(RecordingDataset(recordings), encoder, tmp_path / 'cache')
    words = arguments(data, tmp_path, 'no_objects', 'validation=null')
    changes = (f'data.0.cache={tmp_path / "cache"}', 'windows.moved_share=0.5')
    assert main([*words, *(word for change in changes for word in ('--set', change))]) == 1
    assert 'tell where objects are' in capsys.readouterr().err


ADAPTER = """
name: adapter
kind: adapter
encoder:
  name: efficientnet_lite0_adapter
  options: {image_size: [64, 96], dim: 16, hidden: 16, blocks: 1}
objective: {hidden: 16}
data: [{kind: recording}]
phases: [{steps: 40, batch_size: 16, learning_rate: 3.0e-3, final_learning_rate: 0}]
validation: {data: [{kind: recording}], every_steps: 20, batches: 2, batch_size: 12}
engine: {device: cpu, threads: 1}
log_every_steps: 20
"""

DECODER = """
name: decoder
kind: decoder
start_from: MODEL
decoder: {patch: 32, dim: 16, depth: 1, heads: 2}
objective: {adversarial_weight: 0.1}
data: [{kind: recording}]
phases: [{steps: 30, batch_size: 8, learning_rate: 3.0e-3, final_learning_rate: 0}]
validation: {data: [{kind: recording}], every_steps: 15, batches: 2, batch_size: 12}
engine: {device: cpu, threads: 1}
log_every_steps: 15
"""

HEADS = """
name: heads
kind: heads
start_from: MODEL
loss:
  heatmaps: {sigma: 8.0, round_to_pixel: false, radius: null, zero_at_border: false}
  depth_weight: 1.0
  object_weight: 0.5
data: [{kind: recording}]
phases: [{steps: 40, batch_size: 16, learning_rate: 3.0e-3, final_learning_rate: 0}]
validation: {data: [{kind: recording}], every_steps: 20, batches: 2, batch_size: 12}
engine: {device: cpu, threads: 1}
log_every_steps: 20
"""


def test_an_adapter_is_trained_and_used(data, tmp_path):
    recipe = tmp_path / 'adapter.yaml'
    recipe.write_text(ADAPTER)
    folder = train(data, tmp_path, 'adapter', recipe=recipe)
    first, last = figures(folder, 'validation')
    assert last['loss'] < first['loss'] and last['keypoint_px'] > 0
    path = folder / 'model' / 'adapter.safetensors'
    options = {'image_size': [64, 96], 'projection': str(path)}
    encoder = build_encoder('efficientnet_lite0_adapter', options)
    derived = LatentCache(data / 'train').derive(encoder, tmp_path / 'latents')
    assert derived.dim == 16
    latents = torch.from_numpy(np.array(derived.latents)).float()
    assert latents.std() == pytest.approx(1, abs=0.1)


def test_an_adapter_is_trained_on_several_caches(data, tmp_path, capsys):
    def words(name, second):
        recipe = tmp_path / f'{name}.yaml'
        both = f'data: [{{kind: recording}}, {{kind: recording, cache: {second}}}]'
        short = ADAPTER.replace('data: [{kind: recording}]', both, 1).replace(
            'steps: 40', 'steps: 2'
        )
        recipe.write_text(short)
        return arguments(data, tmp_path, name, recipe=recipe)

    assert main(words('both', data / 'held_out')) == 0
    encoder = build_encoder('efficientnet_lite0', {'image_size': [64, 96]})
    dataset = RecordingDataset(data / 'recordings', 'held_out')
    LatentCache.build(dataset, encoder, tmp_path / 'without', picture_size=None)
    capsys.readouterr()
    assert main(words('wrong', tmp_path / 'without')) == 1
    assert 'small pictures of different sizes ((64, 96), None)' in capsys.readouterr().err


def test_heads_are_trained_on_frames_and_nothing_else_changes(plain, data, tmp_path):
    recipe = tmp_path / 'heads.yaml'
    recipe.write_text(HEADS.replace('MODEL', str(plain / 'model')))
    folder = train(data, tmp_path, 'heads', recipe=recipe)
    first, last = figures(folder)
    for line in (first, last):
        assert line['loss'] == pytest.approx(line['hands'] + 0.5 * line['objects'], rel=1e-5)
    assert last['hands'] < first['hands'] and last['objects'] < first['objects']
    for name in ('keypoint_px', 'object_px', 'depth_m'):
        assert figures(folder, 'validation')[-1][name] > 0
    weights, before = (load_file(f / WEIGHTS) for f in (folder, plain))
    heads = {name for name in weights if name.startswith(('object_head.', 'keypoint_head.'))}
    assert weights.keys() - heads == before.keys() - heads
    for name in before:
        assert torch.equal(weights[name], before[name]) is (name not in heads), name
    assert load_checkpoint(folder / 'model').config.objects == ('can', 'mug')
    # A head that is new has no weights to keep.
    kept = load_file(train(data, tmp_path, 'kept', 'start_share=1', recipe=recipe) / WEIGHTS)
    for name in weights:
        as_before = not name.startswith('object_head.')
        assert torch.equal(kept[name], (before if as_before else weights)[name]), name


def test_heads_may_keep_a_share_of_their_weights(data, tmp_path):
    start = train(data, tmp_path, 'known', *OBJECTS)
    recipe = tmp_path / 'heads.yaml'
    recipe.write_text(HEADS.replace('MODEL', str(start / 'model')))
    trained, both, nothing = (
        train(data, tmp_path, name, f'start_share={share}', recipe=recipe)
        for name, share in (('trained', 0), ('both', 0.25), ('nothing', 1))
    )
    assert differences(nothing, start) == 0 < differences(both, trained)
    mean, before, after = (load_file(folder / WEIGHTS) for folder in (both, start, trained))
    for name in mean:
        assert torch.equal(mean[name], after[name].lerp(before[name], 0.25)), name
    assert figures(both)[-1]['loss'] == figures(trained)[-1]['loss']
    read = {figures(folder, 'validation')[-1]['object_px'] for folder in (trained, both, nothing)}
    assert len(read) == 3


def test_heads_learn_from_data_that_know_less_and_have_no_pictures(data, tmp_path, capsys):
    recordings = tmp_path / 'recordings'
    recordings.mkdir()
    write_recording(recordings, 7, names=('can',))
    encoder = build_encoder('efficientnet_lite0', {'image_size': [64, 96]})
    cans = LatentCache.build(RecordingDataset(recordings), encoder, tmp_path / 'cans').folder
    known = train(data, tmp_path, 'known', *OBJECTS) / 'model'
    text = HEADS.replace('MODEL', str(known)).replace('steps: 40', 'steps: 2')
    both = text.replace('recording}]', f'recording}}, {{kind: recording, cache: {cans}}}]', 1)
    for name, content, *changes in (
        ('both', both),
        ('cans', text, f'data.0.cache={cans}', 'validation=null'),
    ):
        recipe = tmp_path / f'{name}.yaml'
        recipe.write_text(content)
        folder = train(data, tmp_path, name, *changes, recipe=recipe)
        assert load_checkpoint(folder / 'model').config.objects == ('can', 'mug')
    capsys.readouterr()
    for change, message in (
        ('loss.depth_weight=0', 'loss.depth_weight must be above 0 where'),
        ('start_from=/nowhere', '/nowhere'),
    ):
        words = arguments(data, tmp_path, 'wrong', change, recipe=recipe)
        assert main(words) == 1
        assert message in capsys.readouterr().err


def test_a_decoder_is_trained_against_its_discriminator_and_kept_with_the_model(
    plain, data, tmp_path
):
    recipe = tmp_path / 'decoder.yaml'
    recipe.write_text(DECODER.replace('MODEL', str(plain / 'model')))
    folder = train(data, tmp_path, 'decoder', recipe=recipe)
    first, last = figures(folder, 'validation')
    assert last['psnr_db'] > first['psnr_db']
    assert {'model/adversarial', 'discriminator/loss'} <= figures(folder)[0].keys()
    old, new = load_checkpoint(plain / 'model'), load_checkpoint(folder / 'model')
    assert new.decode(torch.randn(2, 6, 768)).shape == (2, 3, 64, 96)
    for name, value in old.predictor.state_dict().items():
        assert torch.equal(value, new.predictor.state_dict()[name])
