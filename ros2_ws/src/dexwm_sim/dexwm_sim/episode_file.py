"""An episode in a folder: what the simulated cell, a planner and a judge need to run it.

`episode.json` is for cell and judge. The planner gets `goal.png` and nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dexwm_sim.cell import CellSnapshot
from dexwm_sim.episode import Episode
from dexwm_sim.scene_config import SceneConfig, SceneConfigError
from dexwm_sim.tasks import TASKS, Judge, TaskState, make_judge

EPISODE = 'episode.json'
GOAL_PICTURE = 'goal.png'
START_PICTURE = 'start.png'

_FORMAT_VERSION = 1


class EpisodeFileError(ValueError):
    """A file that is not an episode of this version."""


@dataclass(frozen=True)
class StoredEpisode:
    """An episode as it lies in a folder.

    Attributes:
        task: One of ``TASKS``.
        seed: Seed it was made from.
        scene: The scene.
        start: State at the start.
        start_state: The same, as the judges see it.
        goal_hand_points: Wrist and fingertips in the goal (5, 3), in the base frame (m).
        goal_positions: Position (3,) of each object in the goal, in the base frame (m).
    """

    task: str
    seed: int
    scene: SceneConfig
    start: CellSnapshot
    start_state: TaskState
    goal_hand_points: NDArray[np.float64]
    goal_positions: Mapping[str, NDArray[np.float64]]

    def judge(self) -> Judge:
        """Returns a new judge of an attempt at this episode."""
        return make_judge(
            self.task,
            self.scene.target,
            self.start_state,
            self.goal_hand_points,
            self.goal_positions,
        )


def save_episode(folder: Path, episode: Episode) -> Path:
    """Writes an episode and its two pictures.

    Args:
        folder: Where to; made if need be.
        episode: The episode.

    Returns:
        The path of its `episode.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in ((GOAL_PICTURE, episode.goal.image), (START_PICTURE, episode.start_image)):
        if not cv2.imwrite(str(folder / name), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
            raise OSError(f'{folder / name} could not be written')
    state = episode.start_state
    values = {
        'format_version': _FORMAT_VERSION,
        'task': episode.task,
        'seed': episode.seed,
        'scene': episode.scene.to_json(),
        'start': {
            'qpos': episode.start.qpos.tolist(),
            'command': episode.start.command.tolist(),
        },
        'start_state': {
            'hand_points': state.hand_points.tolist(),
            'object_positions': _as_lists(state.object_positions),
            'touched': sorted(state.touched),
        },
        'goal_hand_points': episode.goal.hand_points.tolist(),
        'goal_positions': _as_lists(episode.goal.object_positions),
    }
    path = folder / EPISODE
    part = path.with_suffix('.part')
    part.write_text(json.dumps(values, indent=1) + '\n')
    os.replace(part, path)
    return path


def load_episode(path: Path) -> StoredEpisode:
    """Reads what :func:`save_episode` wrote.

    Raises:
        EpisodeFileError: If the file is missing, or not an episode of this version.
    """
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        if values['format_version'] != _FORMAT_VERSION or values['task'] not in TASKS:
            raise EpisodeFileError(
                f'{path} is an episode of another version: make it again with this one'
            )
        state = values['start_state']
        return StoredEpisode(
            task=values['task'],
            seed=values['seed'],
            scene=SceneConfig.from_json(values['scene']),
            start=CellSnapshot(
                np.array(values['start']['qpos']), np.array(values['start']['command'])
            ),
            start_state=TaskState(
                np.array(state['hand_points']),
                _as_arrays(state['object_positions']),
                frozenset(state['touched']),
            ),
            goal_hand_points=np.array(values['goal_hand_points']),
            goal_positions=_as_arrays(values['goal_positions']),
        )
    except OSError as error:
        raise EpisodeFileError(f'the episode {path} cannot be read: {error}') from error
    except (KeyError, TypeError, json.JSONDecodeError, SceneConfigError) as error:
        raise EpisodeFileError(f'{path} is not an episode: {error}') from error


def _as_lists(positions: Mapping[str, NDArray[np.float64]]) -> dict[str, list[float]]:
    return {name: position.tolist() for name, position in positions.items()}


def _as_arrays(positions: Mapping[str, list[float]]) -> dict[str, NDArray[np.float64]]:
    return {name: np.array(position) for name, position in positions.items()}
