"""Motions of the expert in the simulation, without ROS and as fast as the computer goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from dexwm.robot.joints import JOINTS
from dexwm_sim.cell import Cell
from dexwm_sim.expert import Leg
from dexwm_sim.tasks import STEP

_COMMAND_INTERVAL = 0.02


class Follower:
    """Drives a cell along legs and shows every ``STEP`` of them to an observer.

    Attributes:
        command: Joint positions last commanded (23,), rad.
    """

    def __init__(
        self,
        cell: Cell,
        command: ArrayLike,
        on_step: Callable[[], None] | None = None,
    ) -> None:
        """Starts at rest.

        Args:
            cell: The cell to drive.
            command: Joint positions commanded so far (23,), rad.
            on_step: Called after every ``STEP`` of simulated time.
        """
        self._cell = cell
        self._on_step = on_step
        self._steps_per_command = round(_COMMAND_INTERVAL / cell.model.opt.timestep)
        self._commands_per_step = round(STEP / _COMMAND_INTERVAL)
        self._commands = 0
        self.command = np.array(command, dtype=np.float64)

    def follow(self, legs: Sequence[Leg]) -> None:
        """Moves along the legs, each a minimum-jerk motion."""
        for leg in legs:
            start, way = self.command, leg.target - self.command
            count = max(1, round(leg.duration / _COMMAND_INTERVAL))
            for s in np.arange(1, count + 1) / count:
                self.command = start + way * (10 * s**3 - 15 * s**4 + 6 * s**5)
                rate = way * (30 * s**2 - 60 * s**3 + 30 * s**4) / leg.duration
                self._send(rate)
            self.hold(leg.dwell)

    def hold(self, duration: float) -> None:
        """Stays at the last command for a time (s)."""
        for _ in range(round(duration / _COMMAND_INTERVAL)):
            self._send(np.zeros(len(JOINTS)))

    def _send(self, rate: np.ndarray) -> None:
        self._cell.command(self.command, rate)
        self._cell.step(self._steps_per_command)
        self._commands += 1
        if self._on_step is not None and self._commands % self._commands_per_step == 0:
            self._on_step()
