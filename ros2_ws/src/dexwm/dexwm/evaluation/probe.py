"""Reads points (keypoints of the hand, centres of objects) out of latents.

A probe is trained on latents of real frames only, never on predicted ones, and shared by all
models with the same encoder. So it measures what a prediction shows where the encoder's latent of
the true frame would show it. The paper, too, evaluates with a keypoint model of its own
(section 4.1), and it lets models be compared that have no keypoint head.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from dexwm.evaluation.errors import EvaluationError

_CHUNK = 256
_RISE = 0.05


@dataclass(frozen=True)
class ProbeConfig:
    """What a probe looks at and what it looks for.

    Attributes:
        latent_dim: Channels of a latent.
        grid: Rows and columns of its tokens.
        image_size: Height and width of the input picture, pixels.
        points: Names of the points, one heat map each.
        width: Channels inside the probe.
        blocks: Residual convolution blocks on the grid.
        upsample: Heat map cells per token along a side.
    """

    latent_dim: int
    grid: tuple[int, int]
    image_size: tuple[int, int]
    points: tuple[str, ...]
    width: int = 64
    blocks: int = 2
    upsample: int = 4

    def __post_init__(self) -> None:
        if not self.points:
            raise EvaluationError('a probe needs points to look for, got none')
        sizes = (self.latent_dim, *self.grid, *self.image_size, self.width, self.upsample)
        if min(sizes) < 1 or self.blocks < 0:
            raise EvaluationError(f'sizes of a probe must be positive, got {self}')


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.gelu(self.first(self.norm(x))))


class Probe(nn.Module):
    """Latents to one heat map per point; a point is the mean of its map's softmax."""

    mean: Tensor
    deviation: Tensor
    cell_pixels: Tensor
    cell_size: Tensor

    def __init__(self, config: ProbeConfig) -> None:
        """Makes an untrained probe, from torch's global random state."""
        super().__init__()
        self.config = config
        width, up = config.width, config.upsample
        self.register_buffer('mean', torch.zeros(config.latent_dim))
        self.register_buffer('deviation', torch.ones(config.latent_dim))
        height, image_width = config.image_size
        cell_size = [image_width / (config.grid[1] * up), height / (config.grid[0] * up)]
        self.register_buffer('cell_size', torch.tensor(cell_size), persistent=False)
        self.register_buffer('cell_pixels', _cell_pixels(config), persistent=False)
        self.inward = nn.Linear(config.latent_dim, width)
        self.position = nn.Parameter(torch.zeros(width, *config.grid))
        self.blocks = nn.Sequential(*[_Block(width) for _ in range(config.blocks)])
        self.outward = nn.Conv2d(width, len(config.points) * up * up, 1)

    def forward(self, latents: Tensor) -> Tensor:
        """Logits of the heat maps.

        Args:
            latents: (..., P, D).

        Returns:
            (..., C, rows * upsample * columns * upsample).

        Raises:
            EvaluationError: If the latents are not of the probe's grid and dimension.
        """
        rows, columns = self.config.grid
        if latents.shape[-2:] != (rows * columns, self.config.latent_dim):
            raise EvaluationError(
                f'the probe reads latents of shape (..., {rows * columns}, '
                f'{self.config.latent_dim}), got {tuple(latents.shape)}: it belongs to another '
                'encoder'
            )
        flat = latents.reshape(-1, rows * columns, self.config.latent_dim)
        x = self.inward((flat - self.mean) / self.deviation)
        x = x.transpose(1, 2).unflatten(-1, self.config.grid) + self.position
        maps = F.pixel_shuffle(self.outward(self.blocks(x)), self.config.upsample)
        return maps.reshape(*latents.shape[:-2], len(self.config.points), -1)

    def pixels(self, latents: Tensor) -> Tensor:
        """Where the probe sees the points (..., C, 2), pixels of the input picture.

        Args:
            latents: (..., P, D).

        Raises:
            EvaluationError: If the latents are not of the probe's grid and dimension.
        """
        return self(latents).softmax(-1) @ self.cell_pixels


@dataclass(frozen=True)
class ProbeSamples:
    """Frames with their truth.

    Attributes:
        latents: (n, P, D), the encoder's, of real frames; any floating type.
        pixels: (n, C, 2) true points, pixels of the input picture; anything where not visible.
        visible: (n, C) whether the point is inside the picture.
    """

    latents: Tensor
    pixels: Tensor
    visible: Tensor

    def __post_init__(self) -> None:
        n, points = len(self.latents), self.visible.shape[-1]
        if self.latents.ndim != 3 or n == 0:
            raise EvaluationError(
                f'latents must have shape (n, P, D), n > 0; got {tuple(self.latents.shape)}'
            )
        if self.pixels.shape != (n, points, 2) or self.visible.shape != (n, points):
            raise EvaluationError(
                f'{n} latents need pixels (n, C, 2) and visible (n, C), got '
                f'{tuple(self.pixels.shape)} and {tuple(self.visible.shape)}'
            )


@dataclass(frozen=True)
class ProbeTraining:
    """How a probe is trained.

    Attributes:
        steps: Steps of AdamW.
        batch: Frames a step.
        learning_rate: Largest learning rate.
        spread: Width of the target on the heat map, cells.
        seed: Of the initial weights and of the order of the frames.
    """

    steps: int = 1500
    batch: int = 48
    learning_rate: float = 3e-3
    spread: float = 0.7
    seed: int = 0


def train_probe(
    config: ProbeConfig,
    samples: ProbeSamples,
    training: ProbeTraining,
    progress: Callable[[int], None] | None = None,
) -> Probe:
    """Trains a probe: cross-entropy of its heat maps, and the distance of the points it reads.

    Args:
        config: The probe.
        samples: Latents of the training split, of real frames.
        training: How.
        progress: Called after every step with the number of steps done.

    Raises:
        EvaluationError: If samples do not fit the probe, or no point is ever visible.
    """
    if samples.visible.shape[1] != len(config.points):
        raise EvaluationError(
            f'the samples have {samples.visible.shape[1]} points, '
            f'the probe looks for {len(config.points)}: {", ".join(config.points)}'
        )
    if not samples.visible.any():
        raise EvaluationError('no point is visible in any of the samples')
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        probe = Probe(config)
    device = samples.latents.device
    probe.to(device).train()
    _standardise(probe, samples.latents)
    optimiser = torch.optim.AdamW(
        probe.parameters(), training.learning_rate, betas=(0.9, 0.95), weight_decay=1e-2
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _rate((step + 1) / (training.steps + 1))
    )
    generator = torch.Generator().manual_seed(training.seed)
    useful = samples.visible.any(-1).nonzero().squeeze(-1)
    for step in range(training.steps):
        drawn = torch.randint(len(useful), (training.batch,), generator=generator)
        chosen = useful[drawn.to(device)]
        visible = samples.visible[chosen]
        points = samples.pixels[chosen][visible].float()
        logits = probe(samples.latents[chosen].float())[visible]
        target = _target(probe, points, training.spread)
        read = logits.softmax(-1) @ probe.cell_pixels
        loss = F.cross_entropy(logits, target)
        # Cells are the unit in which a wrong point weighs about as much as a wrong map.
        loss = loss + ((read - points) / probe.cell_size).norm(dim=-1).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if progress is not None:
            progress(step + 1)
    return probe.eval().requires_grad_(False)


def _rate(done: float) -> float:
    """The learning rate relative to its peak: a short linear rise, then half a cosine."""
    return min(done / _RISE, 0.5 * (1 + math.cos(math.pi * done)))


def save_probe(probe: Probe, path: Path) -> None:
    """Writes a probe, whole or not at all."""
    part = path.with_suffix('.part')
    save_file(probe.state_dict(), part, {'config': json.dumps(asdict(probe.config))})
    os.replace(part, path)


def load_probe(path: Path) -> Probe:
    """Reads what :func:`save_probe` wrote, onto the CPU.

    Raises:
        EvaluationError: If the file is damaged or not a probe's.
    """
    try:
        with safe_open(path, 'pt') as file:
            values = json.loads(file.metadata()['config'])
        for name in ('grid', 'image_size', 'points'):
            values[name] = tuple(values[name])
        probe = Probe(ProbeConfig(**values))
        probe.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise EvaluationError(
            f'{path} is not a probe of this version ({error}): delete it, it is trained again'
        ) from error
    return probe.eval().requires_grad_(False)


def _standardise(probe: Probe, latents: Tensor) -> None:
    """Lets the probe see channels of mean 0 and deviation 1."""
    total = torch.zeros(latents.shape[-1], dtype=torch.float64, device=latents.device)
    squares = torch.zeros_like(total)
    for chunk in latents.split(_CHUNK):
        flat = chunk.flatten(0, 1).double()
        total += flat.sum(0)
        squares += flat.square().sum(0)
    count = latents.shape[0] * latents.shape[1]
    mean = total / count
    probe.mean.copy_(mean)
    probe.deviation.copy_((squares / count - mean.square()).clamp(min=1e-12).sqrt())


def _cell_pixels(config: ProbeConfig) -> Tensor:
    """Centres of the heat map's cells, row by row (cells, 2), pixels."""
    sides = []
    for tokens, size in zip(config.grid, config.image_size, strict=True):
        cells = tokens * config.upsample
        # The picture reaches from -0.5 to size - 0.5.
        sides.append((torch.arange(cells) + 0.5) * (size / cells) - 0.5)
    rows, columns = torch.meshgrid(*sides, indexing='ij')
    return torch.stack([columns, rows], -1).flatten(0, 1)


def _target(probe: Probe, points: Tensor, spread: float) -> Tensor:
    """A Gaussian about each point (n, 2) on the cells (n, cells), each of sum 1."""
    offset = (points[:, None] - probe.cell_pixels) / probe.cell_size
    return (-offset.square().sum(-1) / (2 * spread**2)).softmax(-1)
