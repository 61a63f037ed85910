"""What a scene of the cell contains, drawn from a seed."""

from __future__ import annotations

import colorsys
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dexwm_sim.objects import OBJECT_KINDS, object_kind

GRASP_REGION = ((0.46, 0.68), (-0.20, 0.28))
"""Where on the counter (x, then y, in the base frame, m) a target object is put."""

CLUTTER_REGION = ((0.42, 0.78), (-0.25, 0.45))
"""Where on the counter the other objects are put."""

QUALITIES: tuple[str, ...] = ('fast', 'standard', 'fine')
"""Without shadows; with shadows; with finer shadows and smooth edges (slow without a GPU)."""

COUNTERS = ('light-wood', 'dark-wood', 'red-wood', 'gray-woodgrain', 'white-plaster', 'gray-felt')
WALLS = ('white-plaster', 'cream-plaster', 'gray-plaster', 'yellow-plaster', 'white-bricks')
FLOORS = ('light-gray-floor-tile', 'wood-tiles', 'wood-varnished-panels')

# Free space between two objects, and around the target: a hand must fit in.
_GAP = 0.045
_TARGET_GAP = 0.08
_TRIES = 2000


class SceneConfigError(ValueError):
    """A scene that cannot be built."""


@dataclass(frozen=True)
class ObjectPlacement:
    """One object of a scene.

    Attributes:
        kind: Name of its kind, see ``dexwm_sim.objects``.
        x: Position on the counter in the base frame (m).
        y: Position on the counter in the base frame (m).
        yaw: Rotation about the vertical (rad).
        rgba: Its colour, or the tint of its texture; each in [0, 1].
    """

    kind: str
    x: float
    y: float
    yaw: float
    rgba: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        object_kind(self.kind)
        object.__setattr__(self, 'rgba', tuple(self.rgba))
        if not all(map(math.isfinite, (self.x, self.y, self.yaw))):
            raise SceneConfigError(f'{self.kind}: position and yaw must be finite')
        if len(self.rgba) != 4 or not all(0 <= value <= 1 for value in self.rgba):
            raise SceneConfigError(f'{self.kind}: rgba must be four numbers in [0, 1]')


@dataclass(frozen=True)
class Surroundings:
    """Surfaces and light of a scene.

    Attributes:
        counter: Texture of the counter top, one of ``COUNTERS``.
        wall: Texture of the walls, one of ``WALLS``.
        floor: Texture of the floor, one of ``FLOORS``.
        panel: Colour of the panel behind the counter, in [0, 1].
        light_azimuth: Direction the light comes from, about the vertical, x to y (rad).
        light_elevation: Angle of that direction above the horizontal (rad).
        light: Intensity of that light, in [0, 1].
        ambient: Intensity of the light from everywhere, in [0, 1].
        warmth: Colour of the light: -1 bluish, 1 yellowish.
    """

    counter: str = 'light-wood'
    wall: str = 'white-plaster'
    floor: str = 'light-gray-floor-tile'
    panel: tuple[float, float, float] = (0.55, 0.60, 0.66)
    light_azimuth: float = math.radians(110)
    light_elevation: float = math.radians(62)
    light: float = 0.55
    ambient: float = 0.32
    warmth: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, 'panel', tuple(self.panel))
        for value, choices in (
            (self.counter, COUNTERS),
            (self.wall, WALLS),
            (self.floor, FLOORS),
        ):
            if value not in choices:
                raise SceneConfigError(f'unknown texture {value!r}; there are {list(choices)}')

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Surroundings:
        """Draws surfaces and light."""
        return cls(
            counter=str(rng.choice(COUNTERS)),
            wall=str(rng.choice(WALLS)),
            floor=str(rng.choice(FLOORS)),
            panel=_colour(rng, saturation=(0.02, 0.35), value=(0.35, 0.85)),
            light_azimuth=math.radians(rng.uniform(60, 300)),
            light_elevation=math.radians(rng.uniform(45, 75)),
            light=rng.uniform(0.40, 0.62),
            ambient=rng.uniform(0.26, 0.38),
            warmth=rng.uniform(-1, 1),
        )


@dataclass(frozen=True)
class SceneConfig:
    """All that distinguishes one scene from another.

    Attributes:
        seed: The seed it was drawn from; kept for the record.
        objects: The movable objects, each kind at most once. The first is the target.
        surroundings: Surfaces and light.
        quality: One of ``QUALITIES``.
    """

    seed: int
    objects: tuple[ObjectPlacement, ...]
    surroundings: Surroundings = Surroundings()
    quality: str = 'standard'

    def __post_init__(self) -> None:
        object.__setattr__(self, 'objects', tuple(self.objects))
        if self.quality not in QUALITIES:
            raise SceneConfigError(f'unknown quality {self.quality!r}; there are {QUALITIES}')
        kinds = [placement.kind for placement in self.objects]
        if len(set(kinds)) < len(kinds):
            raise SceneConfigError(f'each kind of object may appear once, got {kinds}')

    @property
    def target(self) -> str:
        """The first object's name."""
        if not self.objects:
            raise SceneConfigError('the scene has no objects')
        return self.objects[0].kind

    @classmethod
    def sample(
        cls,
        seed: int,
        objects: Sequence[str] | None = None,
        *,
        positions: Mapping[str, tuple[float, float]] | None = None,
        largest_count: int = 5,
        quality: str = 'standard',
    ) -> SceneConfig:
        """Draws a scene: the same seed and arguments give the same scene.

        Args:
            seed: Seed of all choices.
            objects: Names of the objects, the target first; None: 1 to ``largest_count`` kinds
                are drawn.
            positions: Positions (x, y) of some of them; the others' are drawn so that none
                overlap.
            largest_count: Most objects to draw.
            quality: One of ``QUALITIES``.

        Raises:
            SceneConfigError: If the objects do not fit without overlap.
            UnknownObjectError: If there is no object of a name.
        """
        rng = np.random.default_rng([seed, 0])
        if objects is None:
            count = int(rng.integers(1, min(largest_count, len(OBJECT_KINDS)) + 1))
            objects = [str(kind) for kind in rng.permutation(list(OBJECT_KINDS))[:count]]
        placements = [
            ObjectPlacement(kind, x, y, rng.uniform(-math.pi, math.pi), _object_colour(rng, kind))
            for kind, (x, y) in _place(rng, objects, positions or {}).items()
        ]
        return cls(seed, tuple(placements), Surroundings.sample(rng), quality)

    def to_json(self) -> str:
        """Returns the scene as JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SceneConfig:
        """Returns the scene that ``to_json`` wrote.

        Raises:
            SceneConfigError: If the text is not such a scene.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            values['objects'] = tuple(ObjectPlacement(**item) for item in values['objects'])
            values['surroundings'] = Surroundings(**values['surroundings'])
            return cls(**values)
        except (TypeError, KeyError, json.JSONDecodeError) as error:
            raise SceneConfigError(f'not a scene: {error}') from error


def _place(
    rng: np.random.Generator,
    kinds: Sequence[str],
    fixed: Mapping[str, tuple[float, float]],
) -> dict[str, tuple[float, float]]:
    """Draws positions without overlap, fixed ones first; returned in the order of ``kinds``."""
    unknown = sorted(set(fixed) - set(kinds))
    if unknown:
        raise SceneConfigError(f'positions given for {unknown}, which are not in the scene')
    placed: dict[str, tuple[float, float]] = {}
    for kind, (x, y) in fixed.items():
        if not _is_free(placed, kind, x, y, target=None):
            raise SceneConfigError(f'no room for {kind!r} at ({x}, {y}): it overlaps another')
        placed[kind] = (float(x), float(y))
    for _ in range(_TRIES):
        if all(kind in placed for kind in kinds):
            return {kind: placed[kind] for kind in kinds}
        kind = next(kind for kind in kinds if kind not in placed)
        (x0, x1), (y0, y1) = GRASP_REGION if kind == kinds[0] else CLUTTER_REGION
        x, y = rng.uniform(x0, x1), rng.uniform(y0, y1)
        if _is_free(placed, kind, x, y, target=kinds[0]):
            placed[kind] = (x, y)
    raise SceneConfigError(
        f'no room on the counter for {list(kinds)} without overlap; use fewer objects'
    )


def _is_free(
    placed: Mapping[str, tuple[float, float]], kind: str, x: float, y: float, *, target: str | None
) -> bool:
    """Says whether an object overlaps no other; with a target, gaps are kept as well."""
    for other, (ox, oy) in placed.items():
        distance = object_kind(kind).radius + object_kind(other).radius
        if target is not None:
            distance += _TARGET_GAP if target in (kind, other) else _GAP
        if math.hypot(x - ox, y - oy) <= distance:
            return False
    return True


def _object_colour(rng: np.random.Generator, kind: str) -> tuple[float, float, float, float]:
    if object_kind(kind).coloured:
        return (*_colour(rng, saturation=(0.55, 0.95), value=(0.45, 0.9)), 1.0)
    red, green, blue = rng.uniform(0.8, 1.0, 3)
    return (float(red), float(green), float(blue), 1.0)


def _colour(
    rng: np.random.Generator, *, saturation: tuple[float, float], value: tuple[float, float]
) -> tuple[float, float, float]:
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))
