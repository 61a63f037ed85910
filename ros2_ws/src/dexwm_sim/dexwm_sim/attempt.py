"""An attempt at an episode in the simulation: the robot that plans are executed on, and its judge.

There is no check of the path for collisions here, as the trajectory node has one: a hand that is
sent into the counter is stopped by it.
"""

from __future__ import annotations

from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.evaluation.closed_loop import Motion
from dexwm.planning.goal import PictureGoal
from dexwm.planning.grip import GRIPPING_TASKS, keep_grip
from dexwm.planning.mpc import PlantError
from dexwm.planning.observation import Observation
from dexwm.robot.joints import robot_limits
from dexwm_franka_bringup.cell_config import CellConfig
from dexwm_sim.cell import Cell
from dexwm_sim.episode import Episode
from dexwm_sim.expert import Leg, motion_duration
from dexwm_sim.follow import Follower
from dexwm_sim.render import CellRenderer

REST = 1.2
"""Rest after each motion (s): longer than a criterion must hold."""


class SimulatedAttempt:
    """One attempt; implements `dexwm.evaluation.closed_loop.Attempt`.

    Use it as a context manager.

    In place the object is in the hand from the start: see `dexwm.planning.grip`.

    Attributes:
        episode: The episode.
    """

    def __init__(self, episode: Episode, cell_config: CellConfig) -> None:
        """Builds the scene and puts it at the episode's start."""
        self.episode = episode
        self._camera = cell_config.camera
        self._cell = Cell(episode.scene, cell=cell_config)
        self._cell.restore(episode.start)
        self._judge = episode.judge()
        self._limits = robot_limits()
        self._follower = Follower(self._cell, episode.start.command, self._update)
        intrinsics = self._camera.intrinsics
        self._renderer = CellRenderer(self._cell.model, intrinsics.width, intrinsics.height)
        self._goal = PictureGoal(episode.goal.image)
        self._motions: list[Motion] = []
        self._pictures = [self._renderer.render(self._cell.data)]

    @property
    def goal(self) -> PictureGoal:
        """The episode's goal picture."""
        return self._goal

    @property
    def motions(self) -> list[Motion]:
        """What was done so far, as judged."""
        return self._motions

    @property
    def pictures(self) -> list[NDArray[np.uint8]]:
        """What the head camera saw (H, W, 3), RGB: at the start, and after each motion."""
        return self._pictures

    def observe(self) -> Observation:
        """The head camera's picture and the joint positions, now."""
        return Observation(
            self._pictures[-1],
            self._cell.joint_positions(),
            self._camera.intrinsics,
            self._camera.T_base_from_camera,
        )

    def execute(self, waypoints: ArrayLike, what: str) -> None:
        """Moves through waypoints (T, 23), rad, at the expert's speed, and rests.

        Raises:
            PlantError: If they are not finite joint positions inside the robot's limits.
        """
        targets = np.array(waypoints, dtype=np.float64)
        if targets.ndim != 2 or targets.shape[1] != len(self._limits.names) or not len(targets):
            raise PlantError(f'{what}: expected waypoints (T, 23), got shape {targets.shape}')
        if not np.isfinite(targets).all():
            raise PlantError(f'{what}: a waypoint is not finite')
        if np.abs(targets - self._limits.clamp(targets)).max() > 1e-6:
            raise PlantError(f"{what}: a waypoint is outside the robot's joint limits")
        if self.episode.task in GRIPPING_TASKS:
            measured = self._cell.joint_positions()
            targets = keep_grip(targets, self._follower.command, measured, self._limits)
        legs, start = [], self._follower.command
        for target in targets:
            legs.append(Leg(what, target, motion_duration(start, target, self._limits)))
            start = target
        self.follow(tuple(legs), what)

    def follow(self, legs: tuple[Leg, ...], what: str) -> None:
        """Moves along legs, rests, and takes note of where that led."""
        self._follower.follow(legs)
        self._follower.hold(REST)
        verdict = self._judge.verdict()
        self._motions.append(
            Motion(what, verdict.success, verdict.strict_success, verdict.measure)
        )
        self._pictures.append(self._renderer.render(self._cell.data))

    def rest(self) -> None:
        """Stays where it is; counts as a motion."""
        self.follow((), 'rest')

    def distances(self) -> dict[str, float]:
        """Distances from what the goal shows, now (m).

        'hand': mean over wrist and fingertips. 'object': of the target; not in reach, where it
        is no part of the task.
        """
        goal = self.episode.goal
        hand = np.linalg.norm(self._cell.hand_points() - goal.hand_points, axis=1).mean()
        result = {'hand': float(hand)}
        if self.episode.task != 'reach':
            target = self.episode.scene.target
            way = self._cell.object_pose(target)[:3] - goal.object_poses[target][:3]
            result['object'] = float(np.linalg.norm(way))
        return result

    def close(self) -> None:
        """Frees the renderer. May be called twice."""
        self._renderer.close()

    def __enter__(self) -> SimulatedAttempt:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _update(self) -> None:
        self._judge.update(self._cell.task_state())
