"""Goals from files: a picture, or keypoints of the hand by name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import yaml

from dexwm.planning.goal import Goal, GoalError, KeypointGoal, PictureGoal, read_goal_picture
from dexwm.robot.keypoints import KEYPOINTS

_KEYPOINT_FILES = ('.yaml', '.yml', '.json')
_KEY = 'keypoints_base'


def read_goal(path: str | os.PathLike[str]) -> Goal:
    """Reads a goal: keypoints from a file .yaml, .yml or .json, otherwise a picture.

    A file of keypoints has one entry, `keypoints_base`, with a position [x, y, z] in the robot's
    base (m) for each keypoint that matters, by its name in `dexwm.robot.keypoints.KEYPOINTS`.

    Raises:
        GoalError: where the file is missing, cannot be read, or says no goal.
    """
    path = Path(path)
    if path.suffix.lower() in _KEYPOINT_FILES:
        return _read_keypoints(path)
    return PictureGoal(read_goal_picture(path))


def _read_keypoints(path: Path) -> KeypointGoal:
    try:
        written = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise GoalError(f'the goal {path} cannot be read: {error}') from error
    if not isinstance(written, dict) or set(written) != {_KEY}:
        raise GoalError(f'the goal {path} must have one entry, {_KEY}')
    named = written[_KEY]
    if not isinstance(named, dict) or not named or not set(named) <= set(KEYPOINTS):
        raise GoalError(
            f'{_KEY} of {path} must be positions by name, and the names are {", ".join(KEYPOINTS)}'
        )
    points = np.full((len(KEYPOINTS), 3), np.nan)
    for name, position in named.items():
        try:
            points[KEYPOINTS.index(name)] = np.asarray(position, np.float64).reshape(3)
        except (TypeError, ValueError) as error:
            raise GoalError(
                f'{name} of {path} must be [x, y, z] in metres, got {position!r}'
            ) from error
    return KeypointGoal(points_base=points)
