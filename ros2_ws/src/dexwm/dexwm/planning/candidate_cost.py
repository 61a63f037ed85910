"""Costs of joint waypoints, through kinematics, world model and terms, a few at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from dexwm.planning.cost import Candidates, WeightedCost
from dexwm.planning.joint_actions import JointActions
from dexwm.planning.optimisers.optimiser import Interrupted, ShouldStop
from dexwm.planning.rollout import Rollout
from dexwm.planning.timing import timed


class CandidateCost:
    """What an optimiser minimises.

    Attributes:
        seconds: time spent so far by part: 'kinematics', 'predictor', 'terms'.
    """

    def __init__(
        self,
        actions: JointActions,
        rollout: Rollout | None,
        cost: WeightedCost,
        chunk: int,
        should_stop: ShouldStop,
    ) -> None:
        """Puts the parts together.

        Args:
            actions: from joints to what the world model is told.
            rollout: the world model; None where no term asks for predictions.
            cost: the terms.
            chunk: candidates at a time.
            should_stop: asked between chunks.
        """
        self._actions, self._rollout, self._cost = actions, rollout, cost
        self._chunk, self._should_stop = chunk, should_stop
        self.seconds: dict[str, float] = {}

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
            with timed(self.seconds, 'terms'):
                costs.append(self._cost(candidates))
        return torch.cat(costs)

    def parts(self, joints: Tensor) -> dict[str, float]:
        """The weighted terms of one sequence (T, 23), by name."""
        parts = self._cost.parts(self.candidates(joints[None]))
        return {name: float(value[0]) for name, value in parts.items()}

    def candidates(self, joints: Tensor) -> Candidates:
        """What the terms look at, of joints (N, T, 23)."""
        with timed(self.seconds, 'kinematics'):
            keypoints = self._actions.keypoints(joints)
            told = None if self._rollout is None else self._actions.conditioning(keypoints)
        latents = None
        if self._rollout is not None and told is not None:
            with timed(self.seconds, 'predictor'):
                latents = self._rollout(told)
        return Candidates(self._actions.start, joints, keypoints, latents)
