"""Keypoints of 1536 joint vectors: batched in torch, and one after the other with Pinocchio.

1536 is 512 candidates of 3 steps, what an iteration of a planner asks for. Medians of repetitions
that alternate, so that all see the same machine; torch with its own number of threads, in the
precision named; the gradient is that of a sum with respect to the joints.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.measurement import Measurement, Settings
from dexwm.robot.joints import robot_limits
from dexwm.robot.kinematics import BatchedKinematics
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.description import robot_description

SECONDS = 5.0
BATCH = 1536
_WARM_UP = 3
_FEWEST = 5


def run(settings: Settings) -> list[Measurement]:
    """Measures."""
    seconds = settings.seconds or SECONDS
    model = RobotModel.from_urdf(robot_description())
    limits = robot_limits()
    q = np.random.default_rng(0).uniform(limits.lower, limits.upper, (BATCH, len(limits.names)))
    kinematics = BatchedKinematics.from_model(model).float()
    plain = torch.from_numpy(q).float()
    with_gradient = plain.clone().requires_grad_()

    def forward() -> None:
        with torch.no_grad():
            kinematics(plain)

    def forward_and_backward() -> None:
        with_gradient.grad = None
        kinematics(with_gradient).sum().backward()

    def loop() -> None:
        for row in q:
            model.keypoints(row)

    candidates = {
        'torch float32, forward': forward,
        'torch float32, forward and backward': forward_and_backward,
        'Pinocchio, loop': loop,
    }
    settings.console.print(f'  {seconds:g} s, {torch.get_num_threads()} torch threads')
    times = {name: np.median(samples) for name, samples in _times(candidates, seconds).items()}
    ratio = times['Pinocchio, loop'] / times['torch float32, forward']
    return [
        *(Measurement(name, float(value) * 1e3, 'ms') for name, value in times.items()),
        Measurement('Pinocchio loop over torch forward', float(ratio), 'x'),
    ]


def _times(candidates: dict[str, Callable[[], None]], seconds: float) -> dict[str, list[float]]:
    """Returns the durations of each candidate (s), taken in turns."""
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for call in candidates.values():
        for _ in range(_WARM_UP):
            call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples['Pinocchio, loop']) < _FEWEST:
        for name, call in candidates.items():
            before = time.perf_counter()
            call()
            samples[name].append(time.perf_counter() - before)
    return samples
