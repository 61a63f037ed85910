"""A data set of many files that are opened only when they are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

from dexwm.data.episode import DatasetError, EpisodeSource, Problem, check_episode

Place = TypeVar('Place')
"""Where one episode is: a path, or a path and a name in it."""

Episode = TypeVar('Episode', bound=EpisodeSource)


class FileDataset(ABC, Generic[Place, Episode]):
    """Episodes found by name only; the public data sets have too many to open all at the start.

    Damage shows when an episode is opened: it is listed once in `problems`, and `DatasetError`
    tells the caller to go on with another one.

    Attributes:
        root: the folder that was searched.
        problems: what was left out so far, and why.
        shortened: for each episode opened so far whose pictures and poses differ in number, how
            many frames of the longer one are not used.
    """

    def __init__(self, root: Path, places: Sequence[Place], problems: list[Problem]) -> None:
        """Takes what a search found.

        Raises:
            DatasetError: where it found nothing.
        """
        self.root = root
        self.problems = problems
        self.shortened: dict[str, int] = {}
        self._places = places
        if not places:
            raise DatasetError(
                f'{root} has no episodes of {type(self).__name__}: docs/data.md shows how the '
                'files must lie' + ''.join(f'\n  {problem}' for problem in problems[:10])
            )

    @abstractmethod
    def _open(self, place: Place) -> Episode:
        """Opens an episode; raises DatasetError where it cannot be read."""

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Episode:
        """The episode at a place from 0 to len - 1.

        Raises:
            DatasetError: where it cannot be read; `problems` lists it then.
            IndexError: where there is no such place.
        """
        if not 0 <= index < len(self._places):
            raise IndexError(f'episodes are 0 to {len(self._places) - 1}, got {index}')
        place = self._places[index]
        try:
            episode = self._open(place)
            try:
                check_episode(episode)
            except DatasetError as error:
                raise DatasetError(f'{episode.name}: {error}') from error
        except DatasetError as error:
            file = (
                ' '.join(str(part) for part in place) if isinstance(place, tuple) else str(place)
            )
            if all(problem.file != file for problem in self.problems):
                self.problems.append(Problem(file, str(error)))
            raise
        return episode


def existing_folder(root: str | Path) -> Path:
    """The path, where it is a folder.

    Raises:
        DatasetError: where it is none.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DatasetError(f'{folder} is not a folder: docs/data.md says where to get the data')
    return folder
