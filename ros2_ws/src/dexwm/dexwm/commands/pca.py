"""`dexwm pca`: fits the principal components of an encoder's features."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from dexwm.data.episode import DatasetError
from dexwm.data.latent_cache import LatentCache
from dexwm.model.encoders.projected import ProjectedEncoder
from dexwm.model.encoders.registry import build_encoder
from dexwm.model.pca import Pca


def add_parser(subparsers: Any) -> None:
    """Adds the command to the program's."""
    parser = subparsers.add_parser(
        'pca',
        help="fit principal components of an encoder's features",
        description='Writes the file for the option `projection` of encoder <name>_pca, whose '
        'latents nothing but pictures made.',
    )
    parser.add_argument('--cache', type=Path, required=True, help='features (dexwm encode)')
    parser.add_argument('--out', type=Path, required=True, help='.safetensors file to write')
    parser.add_argument('--dim', type=int, default=128, help='components to keep')
    parser.add_argument('--frames', type=int, default=1000, help='frames to fit to')
    parser.add_argument('--seed', type=int, default=0, help='of the choice of frames')
    parser.add_argument(
        '--weights', type=Path, help="the encoder's public weights, if not in their usual place"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
        DatasetError: for a cache that cannot be used.
        EncoderError: for an encoder that cannot be built.
        PcaError: for too few frames.
        OSError: where the file cannot be written.
    """
    if args.frames < 1:
        raise DatasetError(f'--frames must be at least 1, got {args.frames}')
    cache = LatentCache(args.cache)
    options = {'dim': args.dim, 'image_size': list(cache.image_size)}
    if args.weights is not None:
        options['weights'] = args.weights
    encoder = build_encoder(f'{cache.encoder_name}_pca', options)
    assert isinstance(encoder, ProjectedEncoder) and isinstance(encoder.projection, Pca)
    cache.require(encoder.backbone)
    rng = np.random.default_rng(args.seed)
    frames = len(cache.latents)
    rows = np.sort(rng.choice(frames, min(args.frames, frames), replace=False))
    encoder.fit_pca(torch.from_numpy(cache.latents[rows]))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    encoder.save_projection(args.out)
    Console().print(
        f'{args.out}: {args.dim} components of {encoder.backbone.dim} channels keep '
        f'{float(encoder.projection.explained):.1%} of the variance in {len(rows)} frames',
        soft_wrap=True,
    )
    return 0
