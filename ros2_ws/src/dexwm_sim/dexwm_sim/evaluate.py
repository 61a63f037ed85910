"""Evaluates planners in closed loop: `make eval`.

Every method attempts the same held-out episodes. What is interrupted goes on where it stopped when
the same command is given again; episodes and methods can be added.

Held out: the exploratory data of the default model are scenes 0 to 4999, drawn with
``SceneConfig.sample(seed)``. `EpisodeMaker` draws the seeds of its scenes from 2**31, so that it
meets one of those once in three million scenes; so do stills. The default first seed of the
episodes, 10000, is one that no other command uses.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
from rich.console import Console

from dexwm.evaluation.attempt_strip import attempt_strip
from dexwm.evaluation.closed_loop import Method, PlanningMethod, Trial, attempt_episode
from dexwm.evaluation.code_version import code_version
from dexwm.evaluation.errors import EvaluationError
from dexwm.evaluation.success_table import UNKNOWN_CODE, SuccessTable
from dexwm.evaluation.trial_log import TrialLog
from dexwm.model.checkpoint import CheckpointError, load_checkpoint
from dexwm.planning.closing import ClosingRule
from dexwm.planning.planner import Planner, PlanResult
from dexwm.planning.preset import (
    PRESETS,
    Preset,
    PresetError,
    default_preset,
    find_preset,
    parse_preset,
)
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.cell_config import load_cell_config
from dexwm_franka_bringup.description import robot_description
from dexwm_sim.attempt import SimulatedAttempt, plan_checker
from dexwm_sim.episode_maker import EpisodeError, EpisodeMaker
from dexwm_sim.expert_method import ExpertMethod
from dexwm_sim.render import RenderError
from dexwm_sim.tasks import TASKS, holds_strictly
from dexwm_sim.told_method import ToldMethod
from dexwm_sim.worker_process import end_with_parent

FIRST_SEED = 10_000
REFERENCE = 'keypoints'
"""The method that others are compared with. It uses no prediction of the world model, nor does
keypoints-cem, which searches as hybrid does: only what hybrid is ahead of both is the model's."""

_METHODS = (
    REFERENCE,
    'random',
    'cpu',
    'cpu-icem',
    'cpu-mppi',
    'cpu-gradient',
    'keypoints-cem',
    'hybrid',
)
TRIALS = 'trials.jsonl'


def default_methods(task: str) -> tuple[str, ...]:
    """What a task is evaluated with unless other methods are asked for, its own preset too."""
    return tuple(dict.fromkeys((*_METHODS, default_preset(task), ExpertMethod.name)))


@dataclass(frozen=True)
class MethodSettings:
    """What methods are made of.

    Attributes:
        names: Presets of the planner, as `parse_preset` reads them, 'told' or 'expert'.
        model: Folder of the world model.
        closing: Whether a grasp ends with the closing rule.
        device: Where planners compute.
    """

    names: tuple[str, ...]
    model: Path
    closing: bool = True
    device: str = 'cpu'

    def build(self) -> list[Method]:
        """Makes the methods.

        Raises:
            PresetError: If a name is not known.
            CheckpointError: If the model cannot be loaded.
        """
        others = (ExpertMethod.name, ToldMethod.name)
        presets = [parse_preset(name) for name in self.names if name not in others]
        closing = ClosingRule() if self.closing else None
        methods: dict[str, Method] = {ExpertMethod.name: ExpertMethod()}
        if presets or ToldMethod.name in self.names:
            world_model = load_checkpoint(self.model, self.device)
            cell = load_cell_config()
            robot = RobotModel.from_urdf(robot_description(cell))

            def planner(preset: Preset) -> Planner:
                return Planner(world_model, robot, preset, device=self.device, boxes=cell.boxes)

            for preset in presets:
                methods[preset.name] = PlanningMethod(planner(preset), closing)
            if ToldMethod.name in self.names:
                told = planner(find_preset(ToldMethod.preset))
                methods[ToldMethod.name] = ToldMethod(told, closing)
        return [methods[name] for name in dict.fromkeys(self.names)]


class Evaluator:
    """Lets methods attempt episodes, and keeps what comes of it in a folder."""

    def __init__(
        self, task: str, folder: Path, methods: Sequence[Method], quality: str = 'standard'
    ) -> None:
        """Prepares.

        Args:
            task: One of ``TASKS``.
            folder: Where trials and pictures go; made if need be.
            methods: The methods.
            quality: Quality of the pictures, see ``scene_config.QUALITIES``.
        """
        self._task = task
        self._folder = folder
        self._methods = {method.name: method for method in methods}
        self._cell_config = load_cell_config()
        self._maker = EpisodeMaker(self._cell_config, quality)
        self._checker = plan_checker(self._cell_config)
        self._code = code_version()
        self._log = TrialLog(folder / TRIALS)

    def attempt(self, seed: int, names: Sequence[str]) -> list[Trial]:
        """Makes the episode of a seed and lets these methods attempt it, one after the other.

        Raises:
            EpisodeError: If there is no episode of this seed.
        """
        episode = self._maker.make(self._task, seed)
        trials = []
        for name in names:
            method = self._methods[name]
            with SimulatedAttempt(episode, self._cell_config, self._checker) as attempt:
                trial = self._attempt(attempt, method, seed)
            # The picture first: a trial in the log is one that has everything.
            self._log.append(trial)
            trials.append(trial)
        return trials

    def _attempt(self, attempt: SimulatedAttempt, method: Method, seed: int) -> Trial:
        # By the motions before it: the plan that replaces a refused one takes its place.
        plans: dict[int, PlanResult] = {}

        def take(plan: PlanResult) -> None:
            plans[len(attempt.motions)] = plan

        trial = attempt_episode(attempt, method, self._task, seed, take, self._code)
        self._draw(attempt, method, seed, list(plans.values()))
        return trial

    def _draw(
        self, attempt: SimulatedAttempt, method: Method, seed: int, plans: Sequence[PlanResult]
    ) -> None:
        executed = method.executed if isinstance(method, PlanningMethod) else 1
        strip = attempt_strip(attempt.goal.image, attempt.pictures, plans, executed)
        path = self._folder / 'pictures' / method.name / f'{seed}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(path), cv2.cvtColor(strip, cv2.COLOR_RGB2BGR)):
            raise EvaluationError(f'{path} cannot be written')


_evaluator: Evaluator | None = None


def _prepare(task: str, folder: Path, settings: MethodSettings) -> None:
    global _evaluator
    end_with_parent()
    _evaluator = Evaluator(task, folder, settings.build())


def _attempt(seed: int, names: Sequence[str]) -> list[Trial]:
    assert _evaluator is not None
    return _evaluator.attempt(seed, names)


def evaluate(
    task: str,
    seeds: Sequence[int],
    settings: MethodSettings,
    folder: Path,
    workers: int,
    console: Console,
) -> SuccessTable:
    """Lets every method attempt every episode, those that it attempted already excepted.

    A seed of which no episode can be made is named at the end, and does not count.

    Args:
        task: One of ``TASKS``.
        seeds: Seeds of the episodes.
        settings: What to evaluate.
        folder: Where the results go: trials as JSON lines, a picture of each, and the table.
        workers: Number of processes.
        console: Where progress is shown.

    Raises:
        EvaluationError: If the arguments make no evaluation, or the folder has trials with other
            settings, or none of the seeds has an episode.
        PresetError: If a method is not known.
        CheckpointError: If the model cannot be loaded.
    """
    if task not in TASKS:
        raise EvaluationError(f'unknown task {task!r}; there are {", ".join(TASKS)}')
    if workers < 1 or not seeds or not settings.names:
        raise EvaluationError('at least one worker, one episode and one method are needed')
    folder.mkdir(parents=True, exist_ok=True)
    log = TrialLog(folder / TRIALS)
    methods = settings.build()
    pending = log.pending(methods, seeds)
    count = sum(map(len, pending.values()))
    console.print(
        f'{task}: {count} of {len(methods)} x {len(seeds)} attempts to make, into {folder}'
    )
    if pending:
        _warn_of_other_code(log.read(), task, methods, seeds, console)
    without_episode: dict[int, str] = {}
    for seed, trials in _trials(task, folder, settings, methods, pending, workers):
        if isinstance(trials, EpisodeError):
            without_episode[seed] = str(trials)
            count -= len(pending[seed])
            console.print(f'{seed}: {trials}; {count} left')
            continue
        for trial in trials:
            count -= 1
            console.print(f'{_line(trial)}; {count} left')
    table = SuccessTable.of(
        task,
        log.read(),
        [method.name for method in methods],
        seeds,
        REFERENCE,
        {
            'first_seed': seeds[0],
            'episodes': len(seeds),
            'model': str(settings.model),
            'closing_rule': settings.closing,
            'methods': {method.name: method.digest for method in methods},
        },
        dict(sorted(without_episode.items())),
        partial(holds_strictly, task),
    )
    table.save(folder / 'table.json')
    (folder / 'table.md').write_text(table.to_markdown())
    return table


def _warn_of_other_code(
    trials: Sequence[Trial],
    task: str,
    methods: Sequence[Method],
    seeds: Sequence[int],
    console: Console,
) -> None:
    """Says so where the table to come will have trials of other code beside those to come."""
    names, here = {method.name for method in methods}, code_version()
    counted = [t for t in trials if t.task == task and t.method in names and t.seed in set(seeds)]
    others = sorted({t.code or UNKNOWN_CODE for t in counted if t.code != here})
    if others:
        console.print(
            f'warning: {sum(t.code != here for t in counted)} attempts here were made by '
            f'{"; ".join(others)}, the others will be by {here}. If that makes a difference, give '
            'another folder (--out)'
        )


def _trials(
    task: str,
    folder: Path,
    settings: MethodSettings,
    methods: Sequence[Method],
    pending: Mapping[int, Sequence[str]],
    workers: int,
) -> Iterator[tuple[int, list[Trial] | EpisodeError]]:
    """Yields each seed and its trials when they are done, or why it has no episode."""
    if workers == 1:
        evaluator = Evaluator(task, folder, methods)
        for seed, names in pending.items():
            try:
                yield seed, evaluator.attempt(seed, names)
            except EpisodeError as error:
                yield seed, error
        return
    # Processes of their own: forked ones would share what OpenGL keeps.
    executor = ProcessPoolExecutor(
        workers,
        multiprocessing.get_context('spawn'),
        initializer=_prepare,
        initargs=(task, folder, settings),
    )
    try:
        futures = {executor.submit(_attempt, seed, names): seed for seed, names in pending.items()}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except EpisodeError as error:
                yield futures[future], error
    finally:
        executor.shutdown(cancel_futures=True)


def _line(trial: Trial) -> str:
    verdict = 'strict' if trial.strict_success else 'yes' if trial.success else 'no'
    time = f', {trial.seconds:.0f} s'
    if trial.refusals:
        time += f', {len(trial.refusals)} refused'
    if trial.failure:
        time += f', {trial.failure}'
    return f'{trial.seed} {trial.method}: {verdict}, {100 * trial.measure:.1f} cm{time}'


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='make eval',
        description='Lets planners attempt held-out episodes in the simulated cell.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('--task', choices=TASKS, default='reach', help='what is to be done')
    add('--episodes', type=int, default=50, help='number of episodes')
    add('--seed', type=int, default=FIRST_SEED, help='seed of the first; the others follow')
    add(
        '--methods',
        nargs='+',
        metavar='METHOD',
        help=f'of {", ".join((*PRESETS, ToldMethod.name, ExpertMethod.name))}; '
        'with other settings as in hybrid,horizon=1,weights.latent=0 '
        "(default: all but the paper's and other tasks')",
    )
    add('--model', type=Path, default=Path('models/default'), help='folder of the world model')
    add('--no-closing', action='store_true', help='end a grasp with the last plan')
    add('--device', default='cpu', help='where planners compute')
    add('--workers', type=int, default=len(os.sched_getaffinity(0)), help='processes')
    add('--out', type=Path, help='folder of the results (default: runs/eval/closed_loop/<task>)')
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    options = _parser().parse_args(arguments)
    # The processes share the cores among them; each alone must not take all.
    threads = max(1, len(os.sched_getaffinity(0)) // max(1, options.workers))
    for library in ('OMP', 'OPENBLAS', 'MKL'):
        os.environ.setdefault(f'{library}_NUM_THREADS', str(threads))
    methods = tuple(options.methods or default_methods(options.task))
    settings = MethodSettings(methods, options.model, not options.no_closing, options.device)
    seeds = range(options.seed, options.seed + options.episodes)
    folder = options.out or Path('runs/eval/closed_loop') / options.task
    console = Console(highlight=False, soft_wrap=True)
    try:
        table = evaluate(options.task, seeds, settings, folder, options.workers, console)
    except (
        EvaluationError,
        PresetError,
        CheckpointError,
        RenderError,
        OSError,
    ) as error:
        print(f'make eval: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('make eval: stopped; the same command goes on', file=sys.stderr)
        return 130
    console.print(table.to_markdown(), end='')
    return 0


if __name__ == '__main__':
    sys.exit(main())
