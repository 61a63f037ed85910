"""Costs of joint waypoints, through kinematics, world model and terms, a few at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from dexwm.planning.cost import Candidates, WeightedCost
from dexwm.planning.joint_actions import JointActions
from dexwm.planning.optimisers.optimiser import Interrupted, ShouldStop
from dexwm.planning.rollout import Rollout
from dexwm.planning.timing import PartTimes


class CandidateCost:
    """What an optimiser minimises."""

    def __init__(
        self,
        actions: JointActions,
        rollout: Rollout | None,
        cost: WeightedCost,
        chunk: int,
        should_stop: ShouldStop,
        times: PartTimes,
        substeps: int = 1,
    ) -> None:
        """Puts the parts together.

        Args:
            actions: from joints to what the world model is told.
            rollout: the world model; None where no term asks for predictions.
            cost: the terms.
            chunk: candidates at a time.
            should_stop: asked between chunks.
            times: counts 'kinematics', 'predictor', both with their gradients, and 'terms'.
            substeps: equal steps, straight in joint space, in which the world model is told of
                the way to a waypoint.
        """
        self._actions, self._rollout, self._cost = actions, rollout, cost
        self._chunk, self._should_stop, self._times = chunk, should_stop, times
        self._substeps = substeps

    def __call__(self, joints: Tensor) -> Tensor:
        """Costs (N,) of joints (N, T, 23), differentiable.

        Raises:
            Interrupted: where it was told to stop between chunks.
        """
        costs = []
        for i, part in enumerate(joints.split(self._chunk)):
            if i and self._should_stop():
                raise Interrupted
            candidates = self.candidates(part)
            with self._times.part('terms'):
                costs.append(self._cost(candidates))
        return torch.cat(costs)

    def parts(self, joints: Tensor) -> dict[str, float]:
        """The weighted terms of one sequence (T, 23), by name."""
        candidates = self.candidates(joints[None])
        with self._times.part('terms'):
            parts = self._cost.parts(candidates)
        return {name: float(value[0]) for name, value in parts.items()}

    def candidates(self, joints: Tensor) -> Candidates:
        """What the terms look at, of joints (N, T, 23)."""
        way = self._way(joints)
        keypoints = self._times.both_ways('kinematics', self._actions.keypoints, way)
        latents = None
        if self._rollout is not None:
            with self._times.part('kinematics'):
                told = self._actions.conditioning(keypoints)
            latents = self._times.both_ways('predictor', self._rollout, told)
            latents = latents[:, self._substeps - 1 :: self._substeps]
        keypoints = keypoints[:, self._substeps - 1 :: self._substeps]
        return Candidates(self._actions.start, joints, keypoints, latents)

    def _way(self, joints: Tensor) -> Tensor:
        """Joints (N, T * substeps, 23), rad, of which every `substeps`th are these (N, T, 23)."""
        if self._substeps == 1:
            return joints
        start = self._actions.start.expand(len(joints), 1, -1)
        before = torch.cat([start, joints[:, :-1]], dim=1)[:, :, None]
        part = torch.arange(1, self._substeps + 1, device=joints.device)[:, None] / self._substeps
        return (before + part * (joints[:, :, None] - before)).flatten(1, 2)
