"""An episode of a task: a start, a goal picture and the state it shows, the expert's motion."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dexwm_sim.cell import CellSnapshot
from dexwm_sim.expert import Leg
from dexwm_sim.scene_config import SceneConfig
from dexwm_sim.tasks import Judge, TaskState, make_judge


@dataclass(frozen=True)
class Goal:
    """What is to be achieved.

    Attributes:
        image: The goal picture from the head camera, RGB (height, width, 3).
        snapshot: The state of the cell that it shows.
        joint_positions: Joint positions in it (23,), rad.
        keypoints: Keypoints of the hand in it (21, 3), in the base frame (m).
        hand_points: Wrist and fingertips in it (5, 3), see ``TaskState``.
        object_poses: Position and quaternion xyzw (7,) of each object in it.
    """

    image: NDArray[np.uint8]
    snapshot: CellSnapshot
    joint_positions: NDArray[np.float64]
    keypoints: NDArray[np.float64]
    hand_points: NDArray[np.float64]
    object_poses: Mapping[str, NDArray[np.float64]]

    @property
    def object_positions(self) -> dict[str, NDArray[np.float64]]:
        """Position (3,) of each object in the base frame (m)."""
        return {name: pose[:3] for name, pose in self.object_poses.items()}


@dataclass(frozen=True)
class Episode:
    """One attempt at a task.

    Attributes:
        task: One of ``TASKS``.
        seed: Seed it was made from.
        scene: The scene.
        start: State at the start. In a place episode the hand already holds the object, in a
            push episode it is low beside it.
        start_state: The same, as the judges see it.
        start_image: Picture of the start, RGB (height, width, 3).
        goal: What is to be achieved. In grasp the hand has closed around the object; in place
            it has put the object down and not let go yet; in push it has moved the object and
            gone elsewhere.
        expert: The expert's motion from the start; it goes on past the goal (lifts the object;
            lets go of it).
    """

    task: str
    seed: int
    scene: SceneConfig
    start: CellSnapshot
    start_state: TaskState
    start_image: NDArray[np.uint8]
    goal: Goal
    expert: tuple[Leg, ...]

    def judge(self) -> Judge:
        """Returns a new judge of an attempt at this episode."""
        return make_judge(
            self.task,
            self.scene.target,
            self.start_state,
            self.goal.hand_points,
            self.goal.object_positions,
        )

    def digest(self) -> str:
        """Returns a SHA-256 of everything in the episode (hexadecimal)."""
        digest = hashlib.sha256(f'{self.task} {self.seed} {self.scene.to_json()}'.encode())
        goal = self.goal
        for array in (
            self.start.qpos,
            self.start.command,
            self.start_state.hand_points,
            self.start_image,
            goal.image,
            goal.snapshot.qpos,
            goal.snapshot.command,
            goal.joint_positions,
            goal.keypoints,
            goal.hand_points,
            *goal.object_poses.values(),
            *(leg.target for leg in self.expert),
        ):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()
