"""Makes episodes with the scripted expert."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dexwm.robot.joints import HOME
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.cell_config import CellConfig, load_cell_config
from dexwm_franka_bringup.description import robot_description
from dexwm_sim.cell import Cell
from dexwm_sim.episode import Episode, Goal
from dexwm_sim.expert import (
    CLOSED_HAND,
    CURLED_HAND,
    OPEN_HAND,
    Expert,
    Leg,
    UnreachableError,
    palm_rotation,
)
from dexwm_sim.exploration import HIGH_PALM, Explorer
from dexwm_sim.follow import Follower
from dexwm_sim.objects import OBJECT_KINDS
from dexwm_sim.render import CellRenderer
from dexwm_sim.scene_config import GRASP_REGION, SceneConfig
from dexwm_sim.tasks import REACH_DISTANCE, TASKS, TaskState

GRASPABLE: tuple[str, ...] = tuple(kind for kind in OBJECT_KINDS if kind != 'bowl')
"""Targets of grasp and place: what the hand closes around; it takes the bowl by its rim."""

PUSHABLE: tuple[str, ...] = ('box', 'sphere', 'bread', 'apple', 'lemon', 'mug')
"""Targets of push: what seldom topples when the hand moves it."""

_ATTEMPTS = 50
_LARGEST_CLUTTER = 2
_HOLD = 1.2
# Palm positions over the counter in the base frame (m), pitches and turns (rad).
_PALM_X, _PALM_Y = (0.42, 0.66), (-0.20, 0.32)
_PALM_Z, _HIGH_PALM_Z = (0.38, 0.58), (0.52, 0.62)
_PALM_PITCH, _PALM_TURN = (math.radians(20), math.radians(60)), (-0.5, 0.6)
# How far a start must be from the goal, beyond what already counts as success (m).
_FAR = 0.05
# How far an object may move while it is not to be touched (m).
_STILL = 0.005
_PICTURE_MARGIN = 8.0
_CARRY_DISTANCE = 0.15
_CARRY_CLEARANCE = 0.03
_SET_DOWN_HEIGHT = 0.004
_LIFTED = 0.1
# Push: how far the object goes, and how far from it the hand is at the end, on average (m).
_PUSHED, _RETREATED = (0.08, 0.20), 0.20
_SWEEPS = 12
_PUSH_PITCH, _PUSH_TURN = (0.5, 1.0), (-0.4, 0.6)
# An object that changed its height by more was toppled or is off the counter (m).
_UPRIGHT = 0.01


class EpisodeError(ValueError):
    """An episode that cannot be made."""


class EpisodeMaker:
    """Makes episodes: the same task and seed give the same episode bit for bit."""

    def __init__(self, cell_config: CellConfig | None = None, quality: str = 'standard') -> None:
        """Prepares the robot's model.

        Args:
            cell_config: Camera, mount of the hand and boxes; None: the project's file.
            quality: Quality of the pictures, see ``scene_config.QUALITIES``.
        """
        self._cell_config = cell_config or load_cell_config()
        self._quality = quality
        self._model = RobotModel.from_urdf(robot_description(self._cell_config))
        self._expert = Expert(self._model)

    def make(self, task: str, seed: int) -> Episode:
        """Makes an episode.

        Scenes in which the expert fails are drawn anew.

        Raises:
            EpisodeError: If there is no such task, or all attempts at it failed.
        """
        makers = {
            'reach': self._reach,
            'grasp': self._grasp,
            'place': self._place,
            'push': self._push,
        }
        if task not in makers:
            raise EpisodeError(f'unknown task {task!r}; there are {", ".join(TASKS)}')
        for attempt in range(_ATTEMPTS):
            rng = np.random.default_rng([seed, attempt, TASKS.index(task)])
            try:
                episode = makers[task](seed, rng)
            except UnreachableError:
                continue
            if episode is not None:
                return episode
        raise EpisodeError(f'no {task} episode for seed {seed} in {_ATTEMPTS} attempts')

    def _reach(self, seed: int, rng: np.random.Generator) -> Episode | None:
        scene = SceneConfig.sample(int(rng.integers(2**31)), quality=self._quality)
        cell = Cell(scene, cell=self._cell_config)
        start = self._posture(rng, _PALM_Z, _fingers(rng))
        cell.reset(start)
        legs = self._expert.reach(_palm_pose(rng, _PALM_Z), _fingers(rng), start)
        episode = self._record('reach', seed, cell, legs, goal_leg='reach')
        if episode is None:
            return None
        way = np.linalg.norm(episode.start_state.hand_points - episode.goal.hand_points, axis=1)
        moved = any(
            np.linalg.norm(pose[:3] - episode.start_state.object_positions[name]) > _STILL
            for name, pose in episode.goal.object_poses.items()
        )
        if way.mean() < REACH_DISTANCE + _FAR or moved or not self._in_picture(episode.goal):
            return None
        return episode

    def _grasp(self, seed: int, rng: np.random.Generator) -> Episode | None:
        cell = self._cell_with_target(rng, GRASPABLE)
        start = self._posture(rng, _HIGH_PALM_Z, OPEN_HAND)
        cell.reset(start)
        legs = self._expert.pick(cell.object_pose(cell.config.target)[:3], start)
        return self._record('grasp', seed, cell, legs, goal_leg='close')

    def _place(self, seed: int, rng: np.random.Generator) -> Episode | None:
        cell = self._cell_with_target(rng, GRASPABLE)
        target = cell.config.target
        position = cell.object_pose(target)[:3]
        follower = Follower(cell, HOME)
        follower.follow(self._expert.pick(position, HOME))
        follower.hold(_HOLD)
        held = cell.object_pose(target)[:3]
        if held[2] < position[2] + _LIFTED:
            return None
        spot = np.array([rng.uniform(*GRASP_REGION[0]), rng.uniform(*GRASP_REGION[1])])
        if np.linalg.norm(spot - held[:2]) < _CARRY_DISTANCE:
            return None
        for item in cell.config.objects[1:]:
            radii = OBJECT_KINDS[item.kind].radius + OBJECT_KINDS[target].radius
            if math.hypot(spot[0] - item.x, spot[1] - item.y) < radii + _CARRY_CLEARANCE:
                return None
        # From rest, as whoever attempts the episode starts.
        cell.restore(cell.snapshot())
        legs = self._expert.place(follower.command, held, [*spot, position[2] + _SET_DOWN_HEIGHT])
        return self._record('place', seed, cell, legs, goal_leg='lower')

    def _push(self, seed: int, rng: np.random.Generator) -> Episode | None:
        cell = self._cell_with_target(rng, PUSHABLE)
        explorer = Explorer(cell, self._model, self._cell_config.camera, rng)
        # Many sweeps topple the object or begin in contact: building another scene takes longer.
        for _ in range(_SWEEPS):
            cell.reset()
            rotation = palm_rotation(rng.uniform(*_PUSH_PITCH), rng.uniform(*_PUSH_TURN))
            hand = OPEN_HAND + rng.random() * (CURLED_HAND - OPEN_HAND)
            *_, beside, sweep = explorer.sweep(HOME, cell.config.target, rotation, hand)
            (retreat,) = explorer.reach(sweep.target, HIGH_PALM, OPEN_HAND)
            cell.reset(beside.target)
            if cell.robot_in_contact() or not self._target_is_visible(cell):
                continue
            legs = (sweep, replace(retreat, name='retreat'))
            episode = self._record('push', seed, cell, legs, goal_leg='retreat')
            if episode is not None and self._target_is_visible(cell) and _is_good_push(episode):
                return episode
        return None

    def _target_is_visible(self, cell: Cell) -> bool:
        viewpoint = self._cell_config.camera.T_base_from_camera[:3, 3]
        return cell.is_visible(cell.config.target, viewpoint)

    def _cell_with_target(self, rng: np.random.Generator, kinds: tuple[str, ...]) -> Cell:
        target = str(rng.choice(kinds))
        others = [kind for kind in OBJECT_KINDS if kind != target]
        count = int(rng.integers(0, _LARGEST_CLUTTER + 1))
        clutter = [str(kind) for kind in rng.choice(others, count, replace=False)]
        scene = SceneConfig.sample(
            int(rng.integers(2**31)), (target, *clutter), quality=self._quality
        )
        return Cell(scene, cell=self._cell_config)

    def _posture(
        self, rng: np.random.Generator, heights: tuple[float, float], hand: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return self._expert.reach(_palm_pose(rng, heights), hand, HOME)[-1].target

    def _record(
        self, task: str, seed: int, cell: Cell, legs: tuple[Leg, ...], goal_leg: str
    ) -> Episode | None:
        """Lets the expert move from the cell's state; None if that is not a good episode."""
        if task != 'place' and cell.robot_in_contact():
            return None
        start, start_state = cell.snapshot(), cell.task_state()
        states: list[TaskState] = []
        intrinsics = self._cell_config.camera.intrinsics
        with CellRenderer(cell.model, intrinsics.width, intrinsics.height) as renderer:
            start_image = renderer.render(cell.data)
            follower = Follower(cell, start.command, lambda: states.append(cell.task_state()))
            place_of_goal = [leg.name for leg in legs].index(goal_leg) + 1
            follower.follow(legs[:place_of_goal])
            goal = self._goal(cell, renderer.render(cell.data))
            follower.follow(legs[place_of_goal:])
        follower.hold(_HOLD)
        episode = Episode(task, seed, cell.config, start, start_state, start_image, goal, legs)
        judge = episode.judge()
        for state in states:
            judge.update(state)
        verdict = judge.verdict()
        return episode if verdict.success and verdict.strict_success else None

    def _goal(self, cell: Cell, image: NDArray[np.uint8]) -> Goal:
        q = cell.joint_positions()
        return Goal(
            image=image,
            snapshot=cell.snapshot(),
            joint_positions=q,
            keypoints=self._model.keypoints(q),
            hand_points=cell.hand_points(),
            object_poses={name: cell.object_pose(name) for name in cell.object_names},
        )

    def _in_picture(self, goal: Goal) -> bool:
        camera = self._cell_config.camera
        T_camera_from_base = np.linalg.inv(camera.T_base_from_camera)
        points = goal.hand_points @ T_camera_from_base[:3, :3].T + T_camera_from_base[:3, 3]
        pixels = camera.intrinsics.project(points)
        size = np.array([camera.intrinsics.width, camera.intrinsics.height])
        return bool(((pixels > _PICTURE_MARGIN) & (pixels < size - _PICTURE_MARGIN)).all())


def _is_good_push(episode: Episode) -> bool:
    """Whether only the target moved, far enough and upright, and the hand is elsewhere."""
    goal, target = episode.goal, episode.scene.target
    ways = {
        name: pose[:3] - episode.start_state.object_positions[name]
        for name, pose in goal.object_poses.items()
    }
    way = ways.pop(target)
    away = np.linalg.norm(goal.hand_points - goal.object_poses[target][:3], axis=1).mean()
    return bool(
        _PUSHED[0] < np.linalg.norm(way) < _PUSHED[1]
        and abs(way[2]) < _UPRIGHT
        and away > _RETREATED
        and all(np.linalg.norm(other) < _STILL for other in ways.values())
    )


def _palm_pose(rng: np.random.Generator, heights: tuple[float, float]) -> NDArray[np.float64]:
    pose = np.eye(4)
    pose[:3, :3] = palm_rotation(rng.uniform(*_PALM_PITCH), rng.uniform(*_PALM_TURN))
    pose[:3, 3] = rng.uniform(*_PALM_X), rng.uniform(*_PALM_Y), rng.uniform(*heights)
    return pose


def _fingers(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draws how far each finger is closed."""
    return OPEN_HAND + np.repeat(rng.random(4), 4) * (CLOSED_HAND - OPEN_HAND)
