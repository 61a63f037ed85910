"""Which frames of an episode make a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.data.episode import DatasetError

Spacing = Literal['random', 'uniform']


@dataclass(frozen=True)
class WindowSampler:
    """Draws windows as the paper does (appendix C.1).

    An episode is cut into equal segments, and each gives one window per round: its last frame is
    drawn from the segment, the earlier ones from the `max_seconds` before that. Times are in
    seconds, so that data of different frame rates mix.

    Where an episode has too few frames before the last, its first index is repeated on the left.

    Attributes:
        frames: frames of a window.
        max_seconds: how long before the last frame the first may be.
        segments: windows per episode and round.
        spacing: 'random': any frames before the last, none twice; 'uniform': equally spaced
            over `max_seconds`.
        min_gap_seconds: least time between successive frames, for 'random'.
        vary_span: for 'random': how long before the last frame the first may be is drawn for
            each window, uniformly from the shortest that is possible to `max_seconds`. Small
            steps are then about as common as large ones.
        moved_share: share of the windows, 0 to 1, in place of which others are drawn until an
            object moves in them; for sources that tell where objects are. In most windows the
            hand moves in the air, and a model has learned that long before it knows how objects
            move.
        whole: for 'random': the last frame is drawn only where all earlier ones fit before it;
            the segments share out what is left. An episode that is shorter still repeats its
            first.

    Raises:
        DatasetError: for values that give no window.
    """

    frames: int = 9
    max_seconds: float = 4.0
    segments: int = 10
    spacing: Spacing = 'random'
    min_gap_seconds: float = 0.0
    vary_span: bool = False
    moved_share: float = 0.0
    whole: bool = False

    def __post_init__(self) -> None:
        if self.frames < 2 or self.segments < 1:
            raise DatasetError(
                f'a window needs at least 2 frames and an episode 1 segment, got {self.frames} '
                f'and {self.segments}'
            )
        if self.spacing not in get_args(Spacing):
            raise DatasetError(
                f'spacing must be one of {", ".join(get_args(Spacing))}, got {self.spacing!r}'
            )
        if not self.max_seconds > 0 or not self.min_gap_seconds >= 0:
            raise DatasetError('max_seconds must be positive and min_gap_seconds not negative')
        if self.min_gap_seconds * (self.frames - 1) > self.max_seconds:
            raise DatasetError(
                f'{self.frames - 1} gaps of at least {self.min_gap_seconds} s do not fit into '
                f'{self.max_seconds} s: lower min_gap_seconds or raise max_seconds'
            )
        for name in ('vary_span', 'whole'):
            if getattr(self, name) and self.spacing != 'random':
                raise DatasetError(f"{name} is for spacing 'random'")
        if not 0 <= self.moved_share <= 1:
            raise DatasetError(f'moved_share must be from 0 to 1, got {self.moved_share}')

    def draw(
        self, length: int, fps: float, segment: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Draws one window.

        Args:
            length: frames of the episode, at least 1.
            fps: its frames per second.
            segment: which segment the last frame is from, 0 to `segments` - 1.
            rng: source of all choices.

        Returns:
            (frames,) indices, never falling.
        """
        earlier = self.frames - 1
        # A gap of g takes g - 1 places away from between any two; they are added back below.
        lost = max(1, round(self.min_gap_seconds * fps)) - 1
        shortest = (lost + 1) * earlier
        first = shortest if self.whole and length > shortest else 0
        low = first + segment * (length - first) // self.segments
        high = max(first + (segment + 1) * (length - first) // self.segments, low + 1)
        last = int(rng.integers(low, high))
        reach = round(self.max_seconds * fps)
        if self.spacing == 'uniform':
            back = np.round(np.arange(earlier, -1, -1) * (self.max_seconds * fps / earlier))
            return np.maximum(last - back.astype(np.int64), 0)
        if self.vary_span and reach > shortest:
            reach = int(rng.integers(shortest, reach + 1))
        room = min(reach, last)
        places = room - lost * earlier
        count = earlier
        if places < earlier:
            # A short context: as many as fit, at random too.
            count = room // (lost + 1)
            places = room - lost * count
        chosen = np.sort(rng.choice(places, count, replace=False)) + lost * np.arange(count)
        indices = np.append(last - room + chosen, last)
        return np.concatenate([np.full(self.frames - len(indices), indices[0]), indices])


def evaluation_windows(
    lengths: Sequence[int],
    fps: Sequence[float],
    seed: int,
    frames: int = 21,
    seconds: float = 4.0,
    per_episode: int = 1,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Equally spaced windows for evaluation: by default 4 s at 5 Hz after the first frame.

    Args:
        lengths: frames of each episode.
        fps: frames per second of each.
        seed: the same one gives the same windows.
        frames: frames of a window, the first included.
        seconds: from the first to the last.
        per_episode: windows of each episode; their starts are drawn, one from each of as many
            equal parts of it.

    Returns:
        (W,) the episodes and (W, frames) the frames. Episodes that are too short are left out.

    Raises:
        DatasetError: where all are.
    """
    episodes: list[int] = []
    windows: list[NDArray[np.int64]] = []
    for episode, (length, rate) in enumerate(zip(lengths, fps, strict=True)):
        steps = np.round(np.arange(frames) * (seconds * rate / (frames - 1))).astype(np.int64)
        starts = length - int(steps[-1])
        if starts < 1:
            continue
        rng = np.random.default_rng([seed, episode])
        for part in range(per_episode):
            low = part * starts // per_episode
            high = max((part + 1) * starts // per_episode, low + 1)
            episodes.append(episode)
            windows.append(int(rng.integers(low, high)) + steps)
    if not windows:
        raise DatasetError(
            f'no episode is {seconds} s long: record longer ones or ask for fewer seconds'
        )
    return np.array(episodes), np.stack(windows)


def check_frames(frames: ArrayLike, length: int) -> NDArray[np.int64]:
    """Frames of an episode as an array.

    Raises:
        IndexError: where one is not a frame of it.
    """
    indices = np.asarray(frames, dtype=np.int64)
    if indices.size and (indices.min() < 0 or indices.max() >= length):
        raise IndexError(f'frames are 0 to {length - 1}, got {indices.tolist()}')
    return indices
