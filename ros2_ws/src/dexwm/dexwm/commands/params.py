"""`dexwm params`: how many parameters the models have."""

from __future__ import annotations

import argparse
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from dexwm.model.keypoint_head import KeypointHead, KeypointHeadConfig
from dexwm.model.predictor import SIZES, Predictor, PredictorConfig


def add_parser(subparsers: Any) -> None:
    """Adds the command to the program's."""
    parser = subparsers.add_parser(
        'params',
        help='show the sizes of predictors and their parameters',
        description='Shows the predictors by name and their parameters; by default for the '
        "paper's latents (DINOv2-L: 16x28 tokens of 1024 channels).",
    )
    parser.add_argument('--latent-dim', type=int, default=1024, help='channels of a token')
    parser.add_argument(
        '--grid',
        type=int,
        nargs=2,
        metavar=('ROWS', 'COLUMNS'),
        default=(16, 28),
        help='tokens of a picture',
    )
    parser.add_argument('--patch', type=int, default=14, help="pixels along a token's side")
    parser.add_argument('--action-dim', type=int, default=132, help='numbers of an action')


def run(arguments: argparse.Namespace) -> int:
    """Prints the table; returns the exit status."""
    rows, columns = arguments.grid
    table = Table('size', 'blocks', 'dim', 'heads', 'parameters', title='Predictors')
    for name, size in SIZES.items():
        config = PredictorConfig(
            arguments.latent_dim,
            rows * columns,
            size.dim,
            size.depth,
            size.heads,
            action_dim=arguments.action_dim,
        )
        with torch.device('meta'):
            count = _count(Predictor(config))
        table.add_row(name, str(size.depth), str(size.dim), str(size.heads), f'{count:,}')
    head = KeypointHeadConfig(arguments.latent_dim, (rows, columns), arguments.patch)
    with torch.device('meta'):
        count = _count(KeypointHead(head))
    table.add_section()
    table.add_row('keypoint head', str(head.depth), str(head.dim), str(head.heads), f'{count:,}')
    Console().print(table)
    return 0


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
