"""An attempt at an episode in the simulation: the robot that plans are executed on, and its judge.

Plans pass the check that the trajectory node makes, and those that it refuses move nothing. What
only a watch over the motion would stop is not stopped here: a hand that an object pushes aside
may touch the counter.
"""

from __future__ import annotations

from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.control.outcome import Outcome, PlanRefused
from dexwm.control.plan_checks import MARGIN_ARM, MARGIN_HAND, MAX_FIRST_STEP, PlanChecker
from dexwm.control.trajectory import JointState
from dexwm.evaluation.closed_loop import Motion
from dexwm.planning.goal import PictureGoal
from dexwm.planning.grip import GRIPPING_TASKS, keep_grip
from dexwm.planning.mpc import MotionRefused, PlantError
from dexwm.planning.observation import Observation
from dexwm.robot.collision import CollisionChecker
from dexwm.robot.joints import ARM, HAND, JOINTS, robot_limits
from dexwm_franka_bringup.cell_config import CellConfig
from dexwm_franka_bringup.description import robot_description
from dexwm_sim.cell import Cell
from dexwm_sim.episode import Episode
from dexwm_sim.expert import Leg, motion_duration
from dexwm_sim.follow import Follower
from dexwm_sim.render import CellRenderer

REST = 1.2
"""Rest after each motion (s): longer than a criterion must hold."""

# That of the trajectory node in simulation; of a check it only decides how corners are cut.
_SPEED_SCALE = 0.5
_ANOTHER_PLAN_MAY_DO = (Outcome.COLLISION, Outcome.LIMITS)


def plan_checker(cell_config: CellConfig) -> PlanChecker:
    """The trajectory node's check of plans, as it is unless its parameters say otherwise.

    It takes a moment to build, and is for one thread at a time.
    """
    margin = np.empty(len(JOINTS))
    margin[ARM], margin[HAND] = MARGIN_ARM, MARGIN_HAND
    collisions = CollisionChecker.from_urdf(robot_description(cell_config), cell_config.boxes)
    return PlanChecker(robot_limits(), margin, MAX_FIRST_STEP, collisions)


class SimulatedAttempt:
    """One attempt; implements `dexwm.evaluation.closed_loop.Attempt`.

    Use it as a context manager.

    In place the object is in the hand from the start: see `dexwm.planning.grip`.

    Attributes:
        episode: The episode.
    """

    def __init__(self, episode: Episode, cell_config: CellConfig, checker: PlanChecker) -> None:
        """Builds the scene and puts it at the episode's start.

        Args:
            episode: The episode.
            cell_config: Camera and boxes.
            checker: What plans must pass, see `plan_checker`.
        """
        self.episode = episode
        self._checker = checker
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
        self._refusals: list[str] = []
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
    def refusals(self) -> list[str]:
        """Why motions were refused."""
        return self._refusals

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
            MotionRefused: If the trajectory node would refuse them for where they go.
            PlantError: If it would refuse them otherwise.
        """
        targets = np.asarray(waypoints, dtype=np.float64)
        start = self._follower.command
        try:
            if self.episode.task in GRIPPING_TASKS:
                targets = keep_grip(targets, start, self._cell.joint_positions(), self._limits)
            checked = self._checker.waypoints(JOINTS, targets, np.zeros(len(targets)))
            self._checker.motion(JointState.at_rest(start), checked, _SPEED_SCALE)
        except PlanRefused as refusal:
            reason = f'{what}: {refusal}'
            self._refusals.append(reason)
            error = MotionRefused if refusal.code in _ANOTHER_PLAN_MAY_DO else PlantError
            raise error(reason) from refusal
        legs = []
        for target in checked.positions:
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
