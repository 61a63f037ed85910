"""Goal pictures on disk, by name. Knows no ROS.

A goal is a PNG file and a JSON file beside it that says when it was made. The JSON file is written
last, so a goal is there whole or not at all.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dexwm.planning.goal import PictureGoal, read_goal_picture

DEFAULT_FOLDER = Path('~/.local/share/dexwm/goals')

_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]{0,63}')


class GoalLibraryError(ValueError):
    """A goal that cannot be stored or found; the message says what to do."""


@dataclass(frozen=True)
class StoredGoal:
    """A goal in the library.

    Attributes:
        name: Its name.
        stamp_ns: When it was captured or imported, system time (ns).
        image: The picture, RGB (height, width, 3).
    """

    name: str
    stamp_ns: int
    image: NDArray[np.uint8]

    @property
    def digest(self) -> str:
        """SHA-256 of size and pixels (hexadecimal)."""
        return PictureGoal(self.image).digest


class GoalLibrary:
    """A folder of goal pictures.

    Attributes:
        folder: Where they lie; made with the first goal.
    """

    def __init__(self, folder: str | Path, clock: Callable[[], int] = time.time_ns) -> None:
        """Opens the library; nothing is written.

        Args:
            folder: Where goals lie.
            clock: Gives the system time (ns).
        """
        self.folder = Path(folder).expanduser()
        self._clock = clock

    def add(self, name: str, image: NDArray[np.uint8]) -> StoredGoal:
        """Stores a picture; a goal of that name is replaced.

        Args:
            name: Letters, digits, `_`, `-` and `.`, at most 64 of them.
            image: RGB (height, width, 3).

        Raises:
            GoalLibraryError: If the name is not possible, or the disk does not take it.
            GoalError: If the picture shows nothing.
        """
        self._check(name)
        picture = PictureGoal(image).image
        goal = StoredGoal(name, self._clock(), picture)
        encoded, data = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if not encoded:
            raise GoalLibraryError(f'the picture of {name} could not be written as PNG')
        about = json.dumps({'stamp_ns': goal.stamp_ns, 'digest': goal.digest}) + '\n'
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for suffix, content in (('.png', data.tobytes()), ('.json', about.encode())):
                part = self.folder / f'{name}{suffix}.part'
                part.write_bytes(content)
                os.replace(part, self.folder / f'{name}{suffix}')
        except OSError as error:
            raise GoalLibraryError(f'{name} cannot be stored in {self.folder}: {error}') from error
        return goal

    def import_file(self, name: str, path: str | Path) -> StoredGoal:
        """Stores a picture from a file.

        Raises:
            GoalLibraryError: As in `add`.
            GoalError: If the file is not a picture that can be used.
        """
        self._check(name)
        return self.add(name, read_goal_picture(Path(path).expanduser()))

    def get(self, name: str) -> StoredGoal:
        """Returns the goal of a name.

        Raises:
            GoalLibraryError: If there is none, or its files are damaged.
        """
        self._check(name)
        about, picture = (self.folder / f'{name}{suffix}' for suffix in ('.json', '.png'))
        if not about.exists():
            names = ', '.join(path.stem for path in sorted(self.folder.glob('*.json')))
            raise GoalLibraryError(
                f'there is no goal {name!r} in {self.folder}; there are {names or "none"}'
            )
        try:
            values = json.loads(about.read_text())
            goal = StoredGoal(name, int(values['stamp_ns']), read_goal_picture(picture))
            whole = goal.digest == values['digest']
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise GoalLibraryError(
                f'the goal {name} is damaged ({error}): set it again'
            ) from error
        if not whole:
            raise GoalLibraryError(f'the picture of the goal {name} was changed: set it again')
        return goal

    def list(self) -> tuple[list[StoredGoal], list[str]]:
        """Returns all goals, newest first, and what is wrong with those that cannot be read."""
        goals, problems = [], []
        for path in sorted(self.folder.glob('*.json')):
            try:
                goals.append(self.get(path.stem))
            except GoalLibraryError as error:
                problems.append(str(error))
        return sorted(goals, key=lambda goal: goal.stamp_ns, reverse=True), problems

    def _check(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise GoalLibraryError(
                f'{name!r} is not a possible name of a goal: use letters, digits, "_", "-" and '
                '".", at most 64, the first a letter or digit'
            )
