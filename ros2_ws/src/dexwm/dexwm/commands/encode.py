"""`dexwm encode`: pictures through the encoder, once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

import yaml
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dexwm.data.datasets import DatasetKind, open_dataset
from dexwm.data.episode import DatasetError
from dexwm.data.latent_cache import LatentCache
from dexwm.data.recording import Split
from dexwm.data.selection import ThinnedDataset, some_episodes
from dexwm.model.checkpoint import load_checkpoint
from dexwm.model.encoders.projected import ProjectedEncoder
from dexwm.model.encoders.registry import ENCODERS, build_encoder


def add_parser(subparsers: Any) -> None:
    """Adds the command to the program's."""
    parser = subparsers.add_parser(
        'encode',
        help='encode the pictures of a data set once, for training and evaluation',
        description='Writes a cache of latents with the truth about each frame. A build that was '
        'interrupted goes on when the same command runs again.',
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--data', type=Path, help='folder of the data set')
    source.add_argument(
        '--from-cache',
        type=Path,
        help="cache of the encoder's backbone: only the projection is computed",
    )
    parser.add_argument('--out', type=Path, required=True, help='folder of the cache')
    parser.add_argument(
        '--kind', choices=get_args(DatasetKind), default='recording', help='format of the data set'
    )
    parser.add_argument('--split', choices=get_args(Split), default='train')
    parser.add_argument(
        '--data-option',
        action='append',
        default=[],
        metavar='NAME=VALUE',
        help="option of the format's reader (a YAML value), such as min_confidence=0",
    )
    parser.add_argument(
        '--fps', type=float, help='frames per second that are encoded (all that there are)'
    )
    parser.add_argument(
        '--frames', type=int, help='only as many episodes, drawn at random, as have so many frames'
    )
    parser.add_argument('--seed', type=int, default=0, help='of --frames')
    encoder = parser.add_mutually_exclusive_group()
    encoder.add_argument('--encoder', choices=ENCODERS, default='efficientnet_lite0')
    encoder.add_argument('--model', type=Path, help='world model with the encoder (a folder)')
    parser.add_argument(
        '--option',
        action='append',
        default=[],
        metavar='NAME=VALUE',
        help='option of the encoder (a YAML value), such as projection=adapter.safetensors',
    )
    parser.add_argument(
        '--pictures',
        type=_size,
        metavar='ROWSxCOLUMNS',
        help='keep small pictures too, for the heads of an adapter and for a decoder',
    )
    parser.add_argument('--device', default='cpu', help='where the encoder runs')
    parser.add_argument('--batch-size', type=int, default=16, help='pictures encoded at once')
    parser.add_argument(
        '--processes',
        type=int,
        default=0,
        help='worker processes with one core each; 0: this process, on --device',
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
        DatasetError: for data, options or a cache that cannot be used.
        EncoderError: for an encoder that cannot be built.
        CheckpointError: for a model that cannot be read.
    """
    if args.model is not None:
        if args.option:
            raise DatasetError('--option is for --encoder: that of --model stays as it is')
        encoder = load_checkpoint(args.model).encoder
    else:
        encoder = build_encoder(args.encoder, _options('--option', args.option))
    if args.from_cache is not None:
        if not isinstance(encoder, ProjectedEncoder):
            raise DatasetError(
                f'{encoder.name} has no projection: --from-cache is for encoders that put one '
                'behind a backbone'
            )
        given = (args.pictures, args.fps, args.frames)
        if args.processes or args.data_option or any(value is not None for value in given):
            raise DatasetError(
                '--pictures, --processes, --data-option, --fps and --frames are for --data: with '
                '--from-cache all of it is taken over, and this process projects'
            )
        cache = LatentCache(args.from_cache).derive(encoder.to(args.device), args.out)
    else:
        if args.processes and args.device != 'cpu':
            raise DatasetError('--processes are for the CPU: leave it out with another --device')
        options = _options('--data-option', args.data_option)
        dataset = open_dataset(args.kind, args.data, args.split, options)
        if args.fps is not None:
            dataset = ThinnedDataset(dataset, args.fps)
        if args.frames is not None:
            dataset = some_episodes(dataset, args.frames, args.seed)
        with Progress(
            TextColumn('encoding'),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('episodes, {task.fields[rate]:.0f} frames/s'),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        ) as progress:
            task = progress.add_task('', total=len(dataset), rate=0.0)

            def show(done: int, total: int, frames: int) -> None:
                elapsed = progress.tasks[task].elapsed or 0.0
                rate = frames / elapsed if elapsed else 0.0
                progress.update(task, completed=done, total=total, rate=rate)

            cache = LatentCache.build(
                dataset,
                encoder,
                args.out,
                batch_size=args.batch_size,
                processes=args.processes,
                device=args.device,
                picture_size=args.pictures,
                on_progress=show,
            )
    console = Console()
    console.print(
        f'{args.out}: {len(cache.table)} frames of {len(cache.episodes)} episodes, '
        f'{cache.tokens} tokens of {cache.dim} by {cache.encoder_name}',
        soft_wrap=True,
    )
    if cache.problems:
        console.print(f'{len(cache.problems)} left out:')
        for problem in cache.problems:
            console.print(f'  {problem}', highlight=False, soft_wrap=True)
    return 0


def _options(flag: str, pairs: list[str]) -> dict[str, Any]:
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition('=')
        if not equals:
            raise DatasetError(f'{flag} takes NAME=VALUE, got {pair!r}')
        options[name] = yaml.safe_load(value)
    return options


def _size(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition('x')
    try:
        size = int(rows), int(columns)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not like 56x96') from None
    if min(size) < 1:
        raise argparse.ArgumentTypeError('a picture needs at least one pixel')
    return size
