"""Planning: a rollout that recomputes everything against the cached one, and whole plans.

Both rollouts of a pair have the same weights and candidates, and take turns. The naive one encodes
the picture for every candidate and puts the whole window through the predictor at every step;
"picture once" encodes it once an iteration instead, so that the predictor alone is compared.
Weights are random: their values change no time. The default is as its recipe says; the paper's
sizes go without encoder, and on a CPU with few candidates. FLOPs are those of matrix products and
convolutions; the utilisation is of what large products reach on the same device.

Whole plans are the product's: the shipped model, the cell's boxes, start and goal of an episode of
the simulated cell, and in grasp the dummy motion.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
import yaml
from torch import Tensor

from benchmarks.measurement import BenchmarkError, Goal, Measurement, Settings
from dexwm.model.checkpoint import CheckpointError, load_checkpoint
from dexwm.model.encoders.encoder import Encoder, EncoderError
from dexwm.model.encoders.projected import ProjectedEncoder
from dexwm.model.encoders.registry import build_encoder
from dexwm.model.predictor import SIZES
from dexwm.model.world_model import WorldModel, WorldModelConfig
from dexwm.planning.goal import PictureGoal
from dexwm.planning.observation import Observation
from dexwm.planning.planner import Planner, PlanResult
from dexwm.planning.preset import default_preset, find_preset
from dexwm.planning.rollout import CachedRollout, NaiveRollout, Rollout
from dexwm.robot.model import RobotModel
from dexwm.training.flops import count_flops, measure_peak_flops
from dexwm_franka_bringup.cell_config import load_cell_config
from dexwm_franka_bringup.description import robot_description
from dexwm_sim.episode_maker import EpisodeMaker

SECONDS = 5.0
CANDIDATES = 64
_MODELS = Path(__file__).resolve().parents[1] / 'models'
_TASKS = ('reach', 'grasp', 'push')
_EPISODE = 10_000
_HORIZONS = (1, 3)
# Candidates of the paper's sizes on a CPU, and tokens and channels of the paper's encoder.
_FEW = {'S': 4, 'B': 2, 'L': 1, 'XL': 1}
_PAPER_GRID, _PAPER_PATCH, _PAPER_DIM = (16, 28), 14, 1024


def run(settings: Settings) -> list[Measurement]:
    """Measures."""
    seconds = settings.seconds or SECONDS
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    settings.console.print(f'  {device}, {torch.get_num_threads()} threads, {seconds:g} s each')
    model = _default_model().to(device)
    with torch.no_grad():
        measurements = _rollouts('default', model, CANDIDATES, _HORIZONS, seconds, goal=20.0)
        # The large sizes take minutes on a CPU: a short run does without.
        is_short = device.type == 'cpu' and seconds < SECONDS
        for size in _FEW if not is_short else ('S',):
            count = _FEW[size] if device.type == 'cpu' else CANDIDATES
            paper = _paper_model(size).to(device)
            measurements += _rollouts(size, paper, count, _HORIZONS[:1], seconds)
            del paper
    return measurements + _plans(device, seconds)


class _Latents(Encoder):
    """Stands where an encoder would, and gives latents of its shape at no cost."""

    def __init__(self) -> None:
        height, width = (_PAPER_PATCH * side for side in _PAPER_GRID)
        super().__init__(
            'none', (height, width), _PAPER_GRID, _PAPER_DIM, mean=[0.0] * 3, std=[1.0] * 3
        )
        generator = torch.Generator().manual_seed(0)
        self.register_buffer('_tokens', torch.randn(self.tokens, self.dim, generator=generator))

    def _encode(self, pixels: Tensor) -> Tensor:
        return self._tokens.expand(len(pixels), -1, -1)


def _default_model() -> WorldModel:
    """The shipped default's shape, with random weights behind the encoder's public ones."""
    adapter, recipe = (
        yaml.safe_load((_MODELS / 'recipes' / f'{name}.yaml').read_text())
        for name in ('default_adapter', 'default')
    )
    try:
        encoder = build_encoder(recipe['encoder']['name'], adapter['encoder']['options'])
    except EncoderError as error:
        raise BenchmarkError(str(error)) from error
    assert isinstance(encoder, ProjectedEncoder)
    torch.manual_seed(0)
    encoder.load_trained_state(encoder.trained_state())
    written = {'name': 'default', **recipe['model']}
    return WorldModel(WorldModelConfig.for_encoder(written, encoder), encoder).eval()


def _paper_model(size: str) -> WorldModel:
    encoder = _Latents()
    written = {'name': size, 'predictor': {**asdict(SIZES[size])}}
    torch.manual_seed(0)
    return WorldModel(WorldModelConfig.for_encoder(written, encoder), encoder).eval()


def _rollouts(
    name: str,
    model: WorldModel,
    count: int,
    horizons: Sequence[int],
    seconds: float,
    goal: float | None = None,
) -> list[Measurement]:
    """Naive against cached, from one observed frame."""
    device = next(model.predictor.parameters()).device
    generator = torch.Generator().manual_seed(0)
    size = (1, *model.encoder.image_size, 3)
    images = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator).to(device)
    past = torch.zeros(0, model.config.action.dim, device=device)
    observed = model.encode(images)
    rollouts: dict[str, Rollout] = {
        'cached': CachedRollout(model, observed, past),
        'naive, picture once': NaiveRollout(model, images, past, encode_per_candidate=False),
    }
    if not isinstance(model.encoder, _Latents):
        rollouts['naive'] = NaiveRollout(model, images, past)
    # The same in other arithmetic, which is not exactly the same.
    quicker: dict[str, Rollout] = {
        'cached, bfloat16': CachedRollout(model, observed, past, precision='bfloat16')
    }
    if seconds >= SECONDS and (device.type == 'cuda' or shutil.which('g++')):
        quicker['cached, compiled'] = CachedRollout(model, observed, past, compiled=True)
    measurements = []
    for horizon in horizons:
        what = f'{name}, N {count}, T {horizon}'
        actions = 0.02 * torch.randn(count, horizon, past.shape[1], generator=generator)
        actions = actions.to(device)
        _check_equal([rollout(actions) for rollout in rollouts.values()], what)
        calls = {key: _on(rollout, actions) for key, rollout in rollouts.items()}
        flops = {key: count_flops(call) for key, call in calls.items()}
        calls |= {key: _on(rollout, actions) for key, rollout in quicker.items()}
        for rollout in quicker.values():
            # Not timed: what is compiled is compiled now.
            rollout(actions)
        times = _alternating(calls, seconds)
        for key in calls:
            label = f'{what}: {key}'
            measurements.append(Measurement(label, times[key] * 1e3, 'ms'))
            if key in flops:
                arithmetic = flops[key] / 1e9
                measurements.append(Measurement(f'{label}, arithmetic', arithmetic, 'GFLOP'))
        for key in list(calls)[1:]:
            asked = Goal(goal) if goal is not None and key == 'naive' and horizon == 1 else None
            ratio = times[key] / times['cached']
            measurements.append(Measurement(f'{what}: {key} over cached', ratio, 'x', asked))
    return measurements


def _plans(device: torch.device, seconds: float) -> list[Measurement]:
    """Whole plans of the tasks' default presets: time, where it goes, arithmetic."""
    cell = load_cell_config()
    try:
        model = load_checkpoint(_MODELS / 'default', device)
    except CheckpointError as error:
        raise BenchmarkError(str(error)) from error
    robot = RobotModel.from_urdf(robot_description(cell))
    maker = EpisodeMaker(cell)
    peak = measure_peak_flops(device, torch.float32)
    measurements = []
    for task in _TASKS:
        episode = maker.make(task, _EPISODE)
        observation = Observation(
            episode.start_image,
            episode.start.command,
            cell.camera.intrinsics,
            cell.camera.T_base_from_camera,
        )
        goal = PictureGoal(episode.goal.image)
        preset = find_preset(default_preset(task))
        planner = Planner(model, robot, preset, device=device, boxes=cell.boxes)
        plan = partial(planner.plan, observation, goal, task=task, seed=0)
        measurements += _plan(f'plan, {preset.name}, {task}', plan, seconds, peak)
    return measurements


def _plan(
    name: str, plan: Callable[[], PlanResult], seconds: float, peak: float
) -> list[Measurement]:
    plan()
    plans, limit = [plan()], time.perf_counter() + seconds
    while time.perf_counter() < limit:
        plans.append(plan())
    total = statistics.median(p.seconds['total'] for p in plans)
    flops = count_flops(plan)
    shares = []
    parts = {
        'encoder': 'encoder',
        'start': 'start, but for its kinematics and terms',
        'kinematics': 'kinematics, gradients and start included',
        'predictor': 'predictor',
        'terms': 'cost terms, keypoint head included',
        'optimiser': 'optimiser, but for what it has judged',
    }
    for part, label in parts.items():
        share = statistics.median(p.seconds[part] / p.seconds['total'] for p in plans)
        asked = Goal(2.0, at_least=False) if part == 'kinematics' else None
        shares.append(Measurement(f'{name}, share of {label}', 100 * share, '%', asked))
    return [
        Measurement(name, total, 's', Goal(5.0, at_least=False)),
        *shares,
        Measurement(f'{name}, arithmetic', flops / 1e9, 'GFLOP'),
        Measurement(f'{name}, utilisation', 100 * flops / total / peak, '%'),
    ]


def _on(rollout: Rollout, actions: Tensor) -> Callable[[], Tensor]:
    return lambda: rollout(actions)


def _alternating(calls: dict[str, Callable[[], Tensor]], seconds: float) -> dict[str, float]:
    """Median duration of each call (s), taken in turns at least once each."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    while not samples['cached'] or time.perf_counter() < end:
        for name, call in calls.items():
            begin = time.perf_counter()
            result = call()
            if result.device.type == 'cuda':
                torch.cuda.synchronize()
            samples[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in samples.items()}


def _check_equal(results: list[Tensor], what: str) -> None:
    """Times of things that do different work are not compared."""
    for result in results[1:]:
        if not torch.allclose(results[0], result, atol=1e-3, rtol=1e-3):
            raise BenchmarkError(f'{what}: the rollouts differ, which they must not')
