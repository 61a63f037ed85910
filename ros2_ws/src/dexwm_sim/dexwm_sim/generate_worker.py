"""Makes one episode of exploratory data from a seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dexwm.data.recording import Recording, RecordingInfo, RecordingWriter, recording_name
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.cell_config import load_cell_config
from dexwm_franka_bringup.description import robot_description
from dexwm_sim.cell import Cell
from dexwm_sim.episode_maker import EpisodeError
from dexwm_sim.expert import UnreachableError
from dexwm_sim.exploration import Explorer
from dexwm_sim.follow import Follower
from dexwm_sim.render import CellRenderer
from dexwm_sim.scene_config import QUALITIES, SceneConfig, SceneConfigError
from dexwm_sim.stills import STILLS, stills
from dexwm_sim.strategies import STRATEGIES, Exploration, explore
from dexwm_sim.tasks import STEP

MIXED = 'mixed'
"""A quality: half the episodes are 'fast', half 'standard'."""

MOVED = 0.01
"""Distance from which on an object counts as moved (m)."""

_MIXED_QUALITIES = ('fast', 'standard')
# Streams of random numbers that an episode's seed is split into.
_CHOICES, _MOTIONS = 1, 2


class GenerateError(ValueError):
    """Settings of which no data can be made, or that contradict the data that is there."""


@dataclass(frozen=True)
class EpisodeSettings:
    """What episodes are like; with a seed it decides everything in one.

    Attributes:
        frames: Frames of an episode.
        fps: Frames per second of simulated time.
        lead: Longest motion before the first frame (s); each episode draws its own, from 0 on.
        quality: Quality of the pictures, one of ``QUALITIES`` or ``MIXED``.
        shares: Probability of each strategy, or of ``STILLS``.
        permute: Probability that the noisy expert's grasp goes to a wrong place.
        largest_count: Most objects in a scene.
        jpeg_quality: Of the pictures, 1 to 100.

    Raises:
        GenerateError: If a value makes no sense.
    """

    frames: int = 80
    fps: float = 5.0
    lead: float = 0.0
    quality: str = MIXED
    shares: tuple[tuple[str, float], ...] = (
        ('noisy_expert', 0.5),
        ('random_targets', 0.4),
        ('hand_only', 0.1),
    )
    permute: float = 0.15
    largest_count: int = 4
    jpeg_quality: int = 95

    def __post_init__(self) -> None:
        if self.frames < 1 or self.largest_count < 1:
            raise GenerateError('an episode needs at least one frame and one object')
        if not 0 <= self.lead < math.inf:
            raise GenerateError(f'lead must be 0 s or more, got {self.lead:g}')
        steps = 1 / (self.fps * STEP) if self.fps > 0 else 0.0
        if steps < 1 or not math.isclose(steps, round(steps)):
            raise GenerateError(
                f'{self.fps:g} frames a second are not possible: the time between two must be a '
                f'multiple of {STEP} s'
            )
        if self.quality not in (*QUALITIES, MIXED):
            raise GenerateError(
                f'unknown quality {self.quality!r}; there are {", ".join((*QUALITIES, MIXED))}'
            )
        names = [name for name, _ in self.shares]
        known = (*STRATEGIES, STILLS)
        if not set(names) <= set(known) or len(set(names)) < len(names):
            raise GenerateError(
                f'strategies must be different ones of {", ".join(known)}, got {names}'
            )
        values = [share for _, share in self.shares]
        if not values or min(values) < 0 or not math.isclose(sum(values), 1):
            raise GenerateError(f'shares must be at least 0 and add up to 1, got {values}')
        if not 0 <= self.permute <= 1:
            raise GenerateError(f'permute is a probability, got {self.permute}')


@dataclass(frozen=True)
class EpisodeSummary:
    """What a finished episode contains.

    Attributes:
        name: Name of its file.
        sha256: Digest of the file (hexadecimal).
        strategy: What moved the robot.
        frames: How many there are.
        contact: How many in which the hand touches an object.
        moves_1s: How many from which an object moves by ``MOVED`` within 1 s.
        moves_4s: The same, within 4 s.
        touched_or_moves: How many of which the first or the second holds.
    """

    name: str
    sha256: str
    strategy: str
    frames: int
    contact: int
    moves_1s: int
    moves_4s: int
    touched_or_moves: int

    @classmethod
    def of(cls, path: Path) -> EpisodeSummary:
        """Reads a recording.

        Raises:
            DatasetError: If it cannot be used.
        """
        recording = Recording(path)
        objects = recording.objects
        assert objects is not None
        contact = objects.in_contact.any(axis=1)
        soon, later = (
            _moves(objects.centres_world, round(seconds * recording.fps)) for seconds in (1, 4)
        )
        return cls(
            name=path.name,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            strategy=recording.info.strategy,
            frames=recording.length,
            contact=int(contact.sum()),
            moves_1s=int(soon.sum()),
            moves_4s=int(later.sum()),
            touched_or_moves=int((contact | soon).sum()),
        )


def _moves(centres: np.ndarray, ahead: int) -> np.ndarray:
    """For each frame (T,): is an object of (T, n, 3) elsewhere in one of the next ones?"""
    result = np.zeros(len(centres), dtype=bool)
    for shift in range(1, min(ahead, len(centres) - 1) + 1):
        way = np.linalg.norm(centres[shift:] - centres[:-shift], axis=2)
        result[:-shift] |= (way > MOVED).any(axis=1)
    return result


def make_recording(
    folder: Path, seed: int, settings: EpisodeSettings, on_frame: Callable[[], None] | None = None
) -> EpisodeSummary:
    """Makes the episode of a seed, unless its file is there already.

    The same seed and settings give the same file bit for bit (on the same software).

    Args:
        folder: Where the file goes.
        seed: Seed of scene, strategy and motion.
        settings: What episodes are like.
        on_frame: Called after every frame.

    Raises:
        EpisodeError: If no motion is found or the physics fails; the seed has no episode.
        DatasetError: If a file is there that cannot be used.
    """
    path = folder / recording_name(seed)
    if not path.exists():
        try:
            _make(path, seed, settings, on_frame)
        except (UnreachableError, SceneConfigError) as error:
            raise EpisodeError(f'seed {seed}: {error}') from error
    return EpisodeSummary.of(path)


def _make(
    path: Path, seed: int, settings: EpisodeSettings, on_frame: Callable[[], None] | None
) -> None:
    choices = np.random.default_rng([seed, _CHOICES])
    names, shares = zip(*settings.shares, strict=True)
    strategy = str(choices.choice(names, p=shares))
    quality = (
        str(choices.choice(_MIXED_QUALITIES)) if settings.quality == MIXED else (settings.quality)
    )
    cell_config = load_cell_config()
    scene = SceneConfig.sample(seed, largest_count=settings.largest_count, quality=quality)
    cell = Cell(scene, cell=cell_config)
    robot = RobotModel.from_urdf(robot_description(cell_config))
    camera = cell_config.camera
    explorer = Explorer(cell, robot, camera, np.random.default_rng([seed, _MOTIONS]))
    info = RecordingInfo(
        fps=settings.fps,
        intrinsics=camera.intrinsics,
        T_base_from_camera=camera.T_base_from_camera,
        seed=seed,
        strategy=strategy,
        object_names=cell.object_names,
        scene_json=scene.to_json(),
    )
    with (
        CellRenderer(cell.model, camera.intrinsics.width, camera.intrinsics.height) as renderer,
        RecordingWriter(path, info, settings.jpeg_quality) as writer,
    ):
        viewpoint = camera.T_base_from_camera[:3, 3]

        def record(command: NDArray[np.float64]) -> None:
            q = cell.joint_positions()
            poses = np.array([cell.object_pose(name) for name in cell.object_names])
            touched = cell.objects_touched()
            writer.add_frame(
                renderer.render(cell.data),
                q,
                command,
                robot.keypoints(q),
                poses[:, :3],
                poses[:, 3:],
                [name in touched for name in cell.object_names],
                [cell.visible_share(name, viewpoint) for name in cell.object_names],
            )
            if on_frame is not None:
                on_frame()

        if strategy == STILLS:
            for q in islice(stills(explorer), settings.frames):
                record(q)
        else:
            exploration = explore(strategy, explorer, settings.permute)
            first = round(choices.uniform(0, settings.lead) / STEP)
            _record_motion(exploration, cell, settings, first, record)
            check_physics(cell, seed)


def _record_motion(
    exploration: Exploration,
    cell: Cell,
    settings: EpisodeSettings,
    first: int,
    record: Callable[[NDArray[np.float64]], None],
) -> None:
    """Follows the motions for as many frames as wanted, the first of them after ``first`` steps.

    ``record`` gets the joint commands of each frame.
    """
    period = round(1 / (settings.fps * STEP))
    frames, steps = 0, -1

    def on_step() -> None:
        nonlocal frames, steps
        steps += 1
        if frames < settings.frames and steps >= first and (steps - first) % period == 0:
            record(follower.sent)
            frames += 1

    follower = Follower(cell, exploration.start, on_step, exploration.noise)
    on_step()
    while frames < settings.frames:
        follower.follow([next(exploration.legs)])


def check_physics(cell: Cell, seed: int) -> None:
    """Looks for a state that blew up.

    Raises:
        EpisodeError: If there was one.
    """
    wrong = cell.physics_warnings()
    if wrong:
        raise EpisodeError(f'seed {seed}: the physics failed: {", ".join(wrong)}')
