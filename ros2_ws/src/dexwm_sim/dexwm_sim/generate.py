"""Makes exploratory data in parallel: `make data`.

One file an episode. What is interrupted, in whatever way, goes on where it stopped when the same
command is given again; episodes can be added by asking for more.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dexwm.data.episode import DatasetError
from dexwm.data.recording import FORMAT_VERSION, MANIFEST, recording_name
from dexwm_sim.episode_maker import EpisodeError
from dexwm_sim.generate_worker import (
    EpisodeSettings,
    EpisodeSummary,
    GenerateError,
    make_recording,
)
from dexwm_sim.render import RenderError
from dexwm_sim.worker_process import end_with_parent

SETTINGS = 'settings.json'
_LOCK = '.lock'
# Of what the data depends on beside this project's code.
_PACKAGES = ('mujoco', 'numpy', 'opencv-python-headless', 'h5py')
# Where no progress bar can be shown, a line is printed this often (s).
_LINE_INTERVAL = 60.0


@dataclass(frozen=True)
class Failure:
    """A seed that has no episode.

    Attributes:
        seed: The seed.
        reason: Why.
    """

    seed: int
    reason: str


def generate(
    folder: Path,
    seeds: Sequence[int],
    settings: EpisodeSettings,
    workers: int,
    console: Console,
) -> tuple[list[EpisodeSummary], list[Failure]]:
    """Makes the episodes of these seeds, those that are there already excepted.

    A seed that has no episode is not replaced by another.

    Args:
        folder: Where the files go; made if need be.
        seeds: Seeds, each of one episode.
        settings: What episodes are like.
        workers: Number of processes.
        console: Where progress is shown.

    Returns:
        Summaries in the order of the seeds, and failures.

    Raises:
        GenerateError: If the folder is in use, or holds data made with other settings.
        DatasetError: If a file is there that cannot be used.
    """
    if workers < 1 or not seeds:
        raise GenerateError('at least one worker and one episode are needed')
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise GenerateError(f'{folder} is in use by another run') from None
        _check_settings(folder / SETTINGS, settings)
        for part in folder.glob('*.part'):
            part.unlink()
        summaries, failures = _run(folder, seeds, settings, workers, console)
        _write_manifest(folder, settings, summaries, failures)
    return summaries, failures


def _check_settings(path: Path, settings: EpisodeSettings) -> None:
    ours = json.loads(json.dumps(dataclasses.asdict(settings)))
    try:
        there = json.loads(path.read_text())
    except FileNotFoundError:
        _write(path, ours)
        return
    except ValueError as error:
        raise GenerateError(f'{path} is not JSON: {error}') from error
    if there != ours:
        different = [
            f'{key}: {there.get(key)} there, {ours.get(key)} now'
            for key in sorted({*there, *ours})
            if there.get(key) != ours.get(key)
        ]
        raise GenerateError(
            f'{path.parent} holds episodes made with other settings ({"; ".join(different)}): '
            'give the same, or another folder'
        )


def _run(
    folder: Path,
    seeds: Sequence[int],
    settings: EpisodeSettings,
    workers: int,
    console: Console,
) -> tuple[list[EpisodeSummary], list[Failure]]:
    done: dict[int, EpisodeSummary] = {}
    failed: dict[int, Failure] = {}
    there = sum((folder / recording_name(seed)).exists() for seed in seeds)
    console.print(f'{len(seeds)} episodes of {settings.frames} frames into {folder}')
    if there:
        console.print(f'{there} of them are there already')
    # Processes of their own: forked ones would share what OpenGL keeps.
    context = multiprocessing.get_context('spawn')
    executor = ProcessPoolExecutor(workers, context, initializer=end_with_parent)
    try:
        futures: dict[Future[EpisodeSummary], int] = {
            executor.submit(make_recording, folder, seed, settings): seed for seed in seeds
        }
        with _Display(console, len(seeds), there) as display:
            pending = set(futures)
            while pending:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    seed = futures[future]
                    try:
                        done[seed] = future.result()
                        frames = done[seed].frames
                    except EpisodeError as error:
                        failed[seed] = Failure(seed, str(error))
                        frames = 0
                    display.update(len(done) + len(failed), frames)
    finally:
        executor.shutdown(cancel_futures=True)
    return [done[seed] for seed in seeds if seed in done], [
        failed[seed] for seed in seeds if seed in failed
    ]


class _Display:
    """A progress bar; lines where there is no terminal."""

    def __init__(self, console: Console, episodes: int, there: int) -> None:
        self._console = console
        self._episodes = episodes
        self._there = there
        self._frames = 0
        self._begun = self._printed = time.monotonic()
        self._progress = Progress(
            TextColumn('episodes'),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('{task.fields[rate]}'),
            TimeElapsedColumn(),
            TextColumn('left'),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task('', total=episodes, rate='')

    def update(self, episodes: int, frames: int) -> None:
        """Takes in that so many episodes are done, the last of so many frames."""
        now = time.monotonic()
        # Those that were there are summarised first and quickly.
        if episodes <= self._there:
            self._begun = now
        else:
            self._frames += frames
        rate = self._frames / max(now - self._begun, 1e-3) * 3600
        text = f'{rate:,.0f} pictures/h'
        self._progress.update(self._task, completed=episodes, rate=text)
        is_last = episodes == self._episodes
        if not self._console.is_terminal and (is_last or now - self._printed > _LINE_INTERVAL):
            self._printed = now
            left = (self._episodes - episodes) * (now - self._begun)
            left /= max(1, episodes - self._there)
            self._console.print(
                f'{episodes}/{self._episodes} episodes, {text}, {left / 60:.0f} min left'
            )

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _write_manifest(
    folder: Path,
    settings: EpisodeSettings,
    summaries: Sequence[EpisodeSummary],
    failures: Sequence[Failure],
) -> None:
    strategies = sorted({summary.strategy for summary in summaries})
    manifest = {
        'format_version': FORMAT_VERSION,
        'settings': dataclasses.asdict(settings),
        'software': {package: version(package) for package in _PACKAGES},
        'total': _totals(summaries),
        'strategies': {
            name: _totals([summary for summary in summaries if summary.strategy == name])
            for name in strategies
        },
        'failed': [dataclasses.asdict(failure) for failure in failures],
        'files': {
            summary.name: {
                'sha256': summary.sha256,
                'strategy': summary.strategy,
                'frames': summary.frames,
            }
            for summary in summaries
        },
    }
    _write(folder / MANIFEST, manifest)


def _totals(summaries: Sequence[EpisodeSummary]) -> dict[str, float]:
    frames = sum(summary.frames for summary in summaries)
    totals: dict[str, float] = {'episodes': len(summaries), 'frames': frames}
    for share in ('contact', 'moves_1s', 'moves_4s', 'touched_or_moves'):
        count = sum(getattr(summary, share) for summary in summaries)
        totals[f'{share}_share'] = round(count / frames, 4) if frames else 0.0
    return totals


def _write(path: Path, content: Any) -> None:
    part = path.with_suffix('.part')
    part.write_text(json.dumps(content, indent=1) + '\n')
    os.replace(part, path)


def _print_result(
    console: Console, summaries: Sequence[EpisodeSummary], failures: Sequence[Failure]
) -> None:
    total = _totals(summaries)
    console.print(
        f'{total["episodes"]} episodes, {total["frames"]} pictures; the hand touches an object '
        f'in {total["contact_share"]:.0%} of them, an object moves within 1 s of '
        f'{total["moves_1s_share"]:.0%}'
    )
    if failures:
        console.print(f'{len(failures)} seeds have no episode:')
        for failure in failures:
            console.print(f'  {failure.reason}')


def _shares(text: str) -> tuple[tuple[str, float], ...]:
    """Reads ``noisy_expert=0.5,random_targets=0.5``."""
    pairs = [item.partition('=') for item in text.split(',')]
    try:
        return tuple((name.strip(), float(value)) for name, _, value in pairs)
    except ValueError:
        raise argparse.ArgumentTypeError(f'expected NAME=SHARE,..., got {text!r}') from None


def _parser() -> argparse.ArgumentParser:
    default = EpisodeSettings()
    shares = ','.join(f'{name}={share:g}' for name, share in default.shares)
    parser = argparse.ArgumentParser(
        prog='make data',
        description='Makes exploratory data in the simulated cell.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('--output', type=Path, default=Path('runs/data/exploration'), help='folder of the files')
    # As many of such a length as the default model is trained on (tools/train_default.sh).
    add('--episodes', type=int, default=1000, help='number of episodes')
    add('--first-seed', type=int, default=0, help='seed of the first; the others follow')
    add('--workers', type=int, default=len(os.sched_getaffinity(0)), help='processes')
    add('--frames', type=int, default=40, help='frames of an episode')
    add('--fps', type=float, default=default.fps, help='frames per second')
    add('--lead', type=float, default=default.lead, help='longest motion before the first, s')
    add('--quality', default=default.quality, help='fast, standard, fine or mixed')
    add('--shares', type=_shares, default=shares, help='probability of each strategy')
    add('--permute', type=float, default=default.permute, help='share of misplaced grasps')
    add('--largest-count', type=int, default=default.largest_count, help='most objects')
    add('--jpeg-quality', type=int, default=default.jpeg_quality, help='of the pictures')
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    options = _parser().parse_args(arguments)
    # The processes share the cores among them; each alone must not take all.
    for library in ('OMP', 'OPENBLAS', 'MKL'):
        os.environ.setdefault(f'{library}_NUM_THREADS', '1')
    console = Console(highlight=False)
    names = [field.name for field in dataclasses.fields(EpisodeSettings)]
    try:
        settings = EpisodeSettings(**{name: getattr(options, name) for name in names})
        seeds = range(options.first_seed, options.first_seed + options.episodes)
        summaries, failures = generate(options.output, seeds, settings, options.workers, console)
    except (GenerateError, DatasetError, RenderError, OSError) as error:
        print(f'make data: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('make data: stopped; the same command goes on', file=sys.stderr)
        return 130
    _print_result(console, summaries, failures)
    return 0


if __name__ == '__main__':
    sys.exit(main())
