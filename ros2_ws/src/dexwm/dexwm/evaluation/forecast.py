"""Rollouts of the windows of an evaluation."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dexwm.data.actions import conditioning
from dexwm.data.batch import Batch
from dexwm.evaluation.errors import EvaluationError
from dexwm.model.world_model import WorldModel

Start = Literal['single', 'repeat']
"""How the observed frame is given to a model."""

STARTS: tuple[Start, ...] = get_args(Start)


class ModelForecast:
    """A model goes on from its own predictions, told the actions of the episode."""

    def __init__(self, model: WorldModel, start: Start = 'single') -> None:
        """Wraps a model.

        Args:
            model: The model.
            start: 'single': it is given the one observed frame; 'repeat': as in the published
                evaluation, that frame as often as its context is long, with actions of zero.

        Raises:
            EvaluationError: If there is no such start.
        """
        if start not in STARTS:
            raise EvaluationError(f'unknown start {start!r}; there are {", ".join(STARTS)}')
        self._model = model
        self._start = start

    @torch.no_grad()
    def __call__(self, observed: Tensor, batch: Batch) -> Tensor:
        """Predicts latents.

        Args:
            observed: (B, P, D) latents of the first frames.
            batch: The windows, for their actions.

        Returns:
            (B, T, P, D) latents of the T later frames.
        """
        options = self._model.config.action
        repeats = self._model.config.predictor.context if self._start == 'repeat' else 1
        rows = batch.action_rows.cpu().numpy()
        keypoints = batch.keypoints_camera.cpu().numpy()
        seen = batch.keypoints_seen.cpu().numpy()

        def told(
            rows: NDArray[np.float32], keypoints: NDArray[np.float32], seen: NDArray[np.float32]
        ) -> Tensor:
            return torch.from_numpy(conditioning(rows, keypoints, seen, options)).to(observed)

        still = np.zeros((len(rows), repeats - 1, *rows.shape[2:]), np.float32)
        held, shown = (np.repeat(array[:, :1], repeats, axis=1) for array in (keypoints, seen))
        return self._model.rollout(
            observed[:, None].expand(-1, repeats, -1, -1),
            told(still, held, shown),
            told(rows, keypoints, seen),
        )
