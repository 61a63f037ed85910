"""`dexwm eval`: how well models predict."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dexwm.data.datasets import DatasetKind, open_dataset
from dexwm.data.latent_cache import LatentCache
from dexwm.data.recording import Split
from dexwm.data.selection import some_episodes
from dexwm.evaluation.encoding import encode
from dexwm.evaluation.errors import EvaluationError
from dexwm.evaluation.forecast import Start
from dexwm.evaluation.frames import EncodedFrames
from dexwm.evaluation.open_loop import Decode, OpenLoopConfig, draw_windows, evaluate_models
from dexwm.evaluation.pictures import PictureMaker, choose_windows
from dexwm.evaluation.plots import save_plots
from dexwm.evaluation.probe import ProbeTraining
from dexwm.evaluation.probe_store import obtain_probe
from dexwm.evaluation.report import Entry, Report
from dexwm.model.checkpoint import WEIGHTS_FILE, load_checkpoint
from dexwm.model.encoders.encoder import Encoder
from dexwm.model.world_model import WorldModel

DEFAULT_DATA = Path('runs/data/exploration')
RUNS = Path('runs/eval')

_TABLE_WIDTH = 130


def add_parser(subparsers: Any) -> None:
    """Adds the command to the program's."""
    parser = subparsers.add_parser('eval', help='measure how well models predict')
    kinds = parser.add_subparsers(dest='evaluation', required=True, metavar='EVALUATION')
    _add_open_loop(kinds)
    _add_pictures(kinds)


def _add_open_loop(kinds: Any) -> None:
    parser = kinds.add_parser(
        'open-loop',
        help='errors of predictions from one frame',
        description='Predicts held-out windows from their first frame and the actions, and '
        'compares with what happened, with persistence and with the encoder on the true frames. '
        'Keypoints and objects are read out of latents by a probe that is trained on latents of '
        'true frames of the training split.',
    )
    defaults = OpenLoopConfig()
    probe = ProbeTraining()
    parser.add_argument(
        'models', nargs='+', metavar='[NAME=]MODEL', help='folders of models, with names for them'
    )
    parser.add_argument(
        '--data', type=Path, default=DEFAULT_DATA, help='data set that is encoded (%(default)s)'
    )
    parser.add_argument(
        '--cache', type=Path, help='held-out frames by `dexwm encode`, in place of --data'
    )
    parser.add_argument(
        '--train-cache',
        type=Path,
        nargs='+',
        help='frames for the probe by `dexwm encode`, likewise: one cache or more',
    )
    parser.add_argument(
        '--kind', choices=get_args(DatasetKind), default='recording', help='format of --data'
    )
    parser.add_argument(
        '--frames',
        type=int,
        help='of --data, only as many held-out episodes, drawn at random, as have so many frames',
    )
    parser.add_argument('--out', type=Path, help=f'folder of the results ({RUNS}/<first model>)')
    parser.add_argument('--windows-per-episode', type=int, default=defaults.windows_per_episode)
    parser.add_argument('--steps', type=int, default=defaults.steps, help='predicted frames')
    parser.add_argument('--seconds', type=float, default=defaults.seconds, help='of a window')
    parser.add_argument('--seed', type=int, default=defaults.seed)
    parser.add_argument(
        '--start',
        choices=get_args(Start),
        default=defaults.start,
        help='give the observed frame once, or repeated through the context as the published '
        'evaluation does (%(default)s)',
    )
    parser.add_argument(
        '--decode',
        choices=get_args(Decode),
        default=defaults.decode,
        help="how heat maps of the models' own heads are read (%(default)s)",
    )
    parser.add_argument('--probe-frames', type=int, default=16000, help='frames it learns from')
    parser.add_argument('--probe-steps', type=int, default=probe.steps, help='of its training')
    parser.add_argument('--batch', type=int, default=defaults.batch, help='windows at once')
    parser.add_argument('--device', default='cpu', help='where models compute (%(default)s)')


def _add_pictures(kinds: Any) -> None:
    parser = kinds.add_parser(
        'pictures',
        help='pictures of predictions; needs a model with a decoder',
        description='Draws rollouts below what happened, counterfactual motions of the hand, and '
        'actions of one episode done in another. Windows are drawn at random among those in '
        'which an object moves.',
    )
    parser.add_argument('model', type=Path, help='folder of a model')
    parser.add_argument('--data', type=Path, default=DEFAULT_DATA, help='data set (%(default)s)')
    parser.add_argument('--kind', choices=get_args(DatasetKind), default='recording')
    parser.add_argument('--split', choices=get_args(Split), default='held_out')
    parser.add_argument('--out', type=Path, help=f'folder of the pictures ({RUNS}/<model>)')
    parser.add_argument('--windows', type=int, default=3, help='rollouts shown')
    parser.add_argument('--columns', type=int, default=5, help='later frames shown')
    parser.add_argument('--dots', action='store_true', help='mark keypoints')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--device', default='cpu', help='where the model computes (%(default)s)')


def run(args: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
        CheckpointError: For a model that cannot be loaded.
        DatasetError: For data that cannot be used, or a cache of another encoder.
        EvaluationError: For options that make no evaluation, or a model without a decoder.
    """
    return {'open-loop': _run_open_loop, 'pictures': _run_pictures}[args.evaluation](args)


def _run_open_loop(args: argparse.Namespace) -> int:
    config = OpenLoopConfig(
        steps=args.steps,
        seconds=args.seconds,
        windows_per_episode=args.windows_per_episode,
        seed=args.seed,
        start=args.start,
        decode=args.decode,
        batch=args.batch,
    )
    training = ProbeTraining(steps=args.probe_steps, seed=args.seed)
    folders = _named_folders(args.models)
    models = {name: load_checkpoint(path, args.device) for name, path in folders.items()}
    out = args.out or RUNS / next(iter(models))
    by_encoder: dict[str, list[str]] = {}
    for name, model in models.items():
        by_encoder.setdefault(model.encoder.digest(), []).append(name)
    entries: list[Entry] = []
    data: dict[str, Any] = {}
    probes: dict[str, Any] = {}
    console = Console()
    if not console.is_terminal:
        # A file has room for the tables.
        console.width = _TABLE_WIDTH
    for number, names in enumerate(by_encoder.values(), 1):
        encoder = models[names[0]].encoder
        label = f' ({encoder.name} {number})' if len(by_encoder) > 1 else ''
        held_out = _frames(args, args.cache, 'held_out', encoder, limit=args.frames)
        train = [
            _frames(args, cache, 'train', encoder, limit=args.probe_frames)
            for cache in args.train_cache or [None]
        ]
        for frames in train:
            _check_apart(frames.cache, held_out.cache)
        with _progress('training the probe', training.steps) as show:
            probe, record = obtain_probe(
                encoder, train, args.probe_frames, training, RUNS / 'probes', show
            )
        held_out.cache.show_objects(train[0].cache.object_names)
        windows = draw_windows(held_out, config)
        with _progress('predicting', len(windows.episodes)) as show:
            found = evaluate_models(
                {name: models[name] for name in names}, held_out, windows, probe, config, show
            )
        for entry in found:
            if entry.role == 'model':
                details = _describe(models[entry.name], folders[entry.name])
                entries.append(replace(entry, details=details))
            else:
                details = {'encoder': encoder.name, 'encoder_digest': encoder.digest()}
                entries.append(replace(entry, name=entry.name + label, details=details))
        probes[encoder.digest()] = record
        data[encoder.digest()] = {
            'held_out': str(held_out.cache.folder),
            'held_out_digest': held_out.cache.table.digest(),
            'episodes': len(set(windows.episodes.tolist())),
            'episodes_too_short': len(held_out.cache.episodes) - len(set(windows.episodes)),
            'problems': [str(problem) for problem in held_out.cache.problems],
            'windows': len(windows.episodes),
            'windows_digest': windows.digest(),
            'objects': windows.truth.object_names,
        }
    times = tuple((torch.arange(1, config.steps + 1) * config.seconds / config.steps).tolist())
    report = Report(asdict(config), data, probes, times, tuple(entries))
    out.mkdir(parents=True, exist_ok=True)
    report.save(out / 'open_loop.json')
    save_plots(report, out)
    for table in report.tables():
        console.print(table)
    console.print(f'figures, intervals and plots: {out}', highlight=False)
    return 0


def _run_pictures(args: argparse.Namespace) -> int:
    model = load_checkpoint(args.model, args.device)
    maker = PictureMaker(model, args.columns, args.dots)
    dataset = open_dataset(args.kind, args.data, args.split)
    # Action transfer is from one window to another.
    windows = choose_windows(dataset, model, max(args.windows, 2), args.seed)
    out = args.out or RUNS / args.model.name
    out.mkdir(parents=True, exist_ok=True)
    maker.rollouts(windows[: args.windows], out / 'rollouts.png')
    maker.counterfactuals(windows[0], out / 'counterfactuals.png')
    maker.transfer(windows[0], windows[1], out / 'transfer.png')
    Console().print(f'rollouts.png, counterfactuals.png, transfer.png in {out}', highlight=False)
    return 0


def _named_folders(models: list[str]) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for text in models:
        name, equals, folder = text.rpartition('=')
        path = Path(folder)
        name = name if equals else path.resolve().name
        if name in folders:
            raise EvaluationError(
                f'two models are called {name}: tell them apart with NAME=FOLDER'
            )
        folders[name] = path
    return folders


def _frames(
    args: argparse.Namespace,
    cache: Path | None,
    split: Split,
    encoder: Encoder,
    limit: int | None = None,
) -> EncodedFrames:
    """Frames out of a cache, or of the data set, which is encoded now."""
    if cache is not None:
        return EncodedFrames(LatentCache(cache, pictures=False), encoder)
    dataset = open_dataset(args.kind, args.data, split)
    if limit is not None:
        dataset = some_episodes(dataset, limit, args.seed)
    with _progress(f'encoding ({split})', len(dataset)) as show:
        encoded = encode(dataset, encoder, RUNS / 'latents', show)
    return EncodedFrames(encoded, encoder)


def _check_apart(train: LatentCache, held_out: LatentCache) -> None:
    """Refuses to evaluate on frames that the probe learned from."""
    known = {episode.digest for episode in train.episodes}
    both = [episode.name for episode in held_out.episodes if episode.digest in known]
    if both:
        raise EvaluationError(
            f'{len(both)} episodes are in {train.folder} and in {held_out.folder}, {both[0]} '
            'first: give caches of different splits'
        )


def _describe(model: WorldModel, folder: Path) -> dict[str, Any]:
    return {
        'folder': str(folder),
        'sha256': hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest(),
        'predictor_parameters': sum(p.numel() for p in model.predictor.parameters()),
        'encoder': model.encoder.name,
        'encoder_digest': model.encoder.digest(),
        'action': asdict(model.config.action),
    }


@contextmanager
def _progress(text: str, total: int) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task('', total=total)
        yield lambda done: progress.update(task, completed=done)
