"""Motions of the expert in the simulation, without ROS and as fast as the computer goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from dexwm.robot.joints import JOINTS, robot_limits
from dexwm_sim.cell import Cell
from dexwm_sim.expert import Leg
from dexwm_sim.smooth_noise import SmoothNoise
from dexwm_sim.tasks import STEP

_COMMAND_INTERVAL = 0.02


class Follower:
    """Drives a cell along legs and shows every ``STEP`` of them to an observer.

    Attributes:
        command: Joint positions last commanded (23,), rad, without the noise.
        sent: What the robot was sent (23,), rad: with the noise, and within the limits.
    """

    def __init__(
        self,
        cell: Cell,
        command: ArrayLike,
        on_step: Callable[[], None] | None = None,
        noise: SmoothNoise | None = None,
    ) -> None:
        """Starts at rest.

        Args:
            cell: The cell to drive.
            command: Joint positions commanded so far (23,), rad.
            on_step: Called after every ``STEP`` of simulated time.
            noise: Deviation of all 23 joints from the commands; None: none.
        """
        self._cell = cell
        self._on_step = on_step
        self._noise = noise
        self._limits = robot_limits()
        self._steps_per_command = round(_COMMAND_INTERVAL / cell.model.opt.timestep)
        self._commands_per_step = round(STEP / _COMMAND_INTERVAL)
        self._commands = 0
        self.command = np.array(command, dtype=np.float64)
        self.sent = self.command

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
        self._commands += 1
        self.sent = self.command
        if self._noise is not None:
            deviation, deviation_rate = self._noise.at(self._commands * _COMMAND_INTERVAL)
            self.sent = self._limits.clamp(self.command + deviation)
            rate = rate + deviation_rate
        self._cell.command(self.sent, rate)
        self._cell.step(self._steps_per_command)
        if self._on_step is not None and self._commands % self._commands_per_step == 0:
            self._on_step()
