"""`dexwm convert`: the published reference checkpoint as a model of this project."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from dexwm.model.checkpoint import save_checkpoint
from dexwm.model.encoders.registry import ENCODERS, build_encoder
from dexwm.model.predictor import SIZES
from dexwm.model.reference_checkpoint import (
    NamingTable,
    convert_reference,
    read_reference_weights,
    reference_config,
)


def add_parser(subparsers: Any) -> None:
    """Adds the command to the program's."""
    parser = subparsers.add_parser(
        'convert',
        help='convert a reference checkpoint (.pth.tar)',
        description='Writes the weights of a reference checkpoint (.pth.tar) as a model folder. '
        'The names in the file are assumed, not known: where they differ, all that do not match '
        'are listed, and --names takes a table of the right ones.',
    )
    parser.add_argument('checkpoint', type=Path, help='the .pth.tar')
    parser.add_argument('folder', type=Path, help='where the model is written')
    parser.add_argument(
        '--size',
        choices=[name for name in SIZES if name.isupper()],
        default='XL',
        help="the paper's name of its size",
    )
    parser.add_argument(
        '--encoder', choices=ENCODERS, default='dinov2_l', help='encoder it was trained with'
    )
    parser.add_argument(
        '--encoder-weights', type=Path, help='file of the encoder; else it is looked for'
    )
    parser.add_argument('--entry', help='key of the file that holds the weights, such as ema')
    parser.add_argument(
        '--names',
        type=Path,
        help="YAML table: 'names' maps names here to names in the file, 'ignore' lists patterns",
    )


def run(arguments: argparse.Namespace) -> int:
    """Converts; returns the exit status."""
    table = None if arguments.names is None else NamingTable.from_yaml(arguments.names)
    weights = read_reference_weights(arguments.checkpoint, arguments.entry)
    options = (
        {} if arguments.encoder_weights is None else {'weights': str(arguments.encoder_weights)}
    )
    encoder = build_encoder(arguments.encoder, options)
    config = reference_config(arguments.size, encoder)
    save_checkpoint(convert_reference(weights, config, encoder, table), arguments.folder)
    Console().print(f'{arguments.folder}: {config.name}, {len(weights)} tensors converted')
    return 0
