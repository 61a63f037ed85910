"""How a plan is made, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

OptimiserName = Literal['cem', 'icem', 'mppi', 'gradient', 'random', 'none']
Start = Literal['current', 'dummy', 'keypoints', 'sweep']
CostAt = Literal['last', 'every']
ObjectsAt = Literal['last', 'first']
Precision = Literal['float32', 'bfloat16']


_COUNTS = (
    'horizon',
    'samples',
    'iterations',
    'elites',
    'sweeps',
    'replans',
    'executed',
    'substeps',
)


class PresetError(ValueError):
    """Raised for a preset that is unknown, or settings that make none."""


@dataclass(frozen=True)
class CostWeights:
    """Weights of the cost's terms; 0 leaves a term out.

    A term that the goal says nothing about is left out as well: pixels without a picture, say.

    Attributes:
        latent: mean squared difference of latents; "nothing moves" costs about 0.4 in all.
        predicted_distance: keypoints that the model sees in its prediction, in space, a metre.
            Where the model reads no depths, or the goal's keypoints have none, `keypoint_pixels`
            takes its place.
        keypoint_pixels: the same in the picture, a pixel; used where `predicted_distance` is not.
        keypoint_distance: keypoints by forward kinematics, a metre. Where the goal's keypoints
            have no depth, `projected_pixels` takes its place.
        projected_pixels: keypoints by forward kinematics in the picture, a pixel; used where the
            goal tells pixels only.
        orientation: tilt of the palm against the neutral one, 1 - cos; for the task grasp only.
        joint_limit: joints near their limits.
        object_pixels: objects that the model sees in its prediction, in the picture, a pixel;
            for a model that reads them.
        hand_at_object: fingertips, by forward kinematics, from where the goal has the object that
            moves, in the picture, a pixel; likewise.
        step_size: steps, in squares of the first sigma.
        keep_out: keypoints inside boxes that the hand must not touch, a metre.
    """

    latent: float = 1.0
    predicted_distance: float = 0.0
    keypoint_pixels: float = 0.01
    keypoint_distance: float = 0.0
    projected_pixels: float = 0.0
    orientation: float = 0.0
    joint_limit: float = 0.0
    object_pixels: float = 0.0
    hand_at_object: float = 0.0
    step_size: float = 0.0
    keep_out: float = 10.0

    def __post_init__(self) -> None:
        for name in self.names():
            value = getattr(self, name)
            if not 0 <= value < float('inf'):
                raise PresetError(f'the weight of {name} must not be negative, got {value}')

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the terms."""
        return tuple(f.name for f in fields(cls))


@dataclass(frozen=True)
class Preset:
    """All that is to be decided about planning but the model.

    Attributes:
        name: what tables call it.
        horizon: waypoints T of a plan. A later plan of the same task has no more than are left of
            those that the task executes, at least one (paper, appendix B).
        samples: candidates an iteration; of the optimiser 'gradient', its starts.
        iterations: of the optimiser.
        elites: candidates that give the next mean; not used by 'gradient',
            'random' and 'none'.
        sigma_arm: first standard deviation of the arm's joints, rad.
        sigma_hand: of the hand's, rad.
        sigma_hand_place: of the hand's while it holds something (task place), rad.
        sigma_floor: least standard deviation, as part of the first.
        sigma_decay: each plan of a task begins with the sigmas of the one before times this.
        replans: plans of a task.
        executed: waypoints of a plan that are executed before the next.
        optimiser: which; 'none' takes the first mean as it is.
        start: where the first mean is. 'current': the posture the robot is in; 'dummy': for
            grasp a dummy grasp motion, otherwise as 'current'; 'keypoints': the posture whose
            hand, by forward kinematics, is where the goal shows it; in grasp it is come to as in
            the dummy grasp, from above and with open fingers. 'sweep': of many level motions of
            the hand the one of least cost, then up, and on to the posture of 'keypoints'.
        sweeps: motions that the start 'sweep' judges.
        start_sigma: the sigmas of waypoints that begin at the goal's keypoints, or on the way
            there, are multiplied by this.
        weights: of the cost's terms.
        cost_at: steps at which distances from the goal count.
        objects_at: waypoint at which objects count. At the 'first' a hand that pushes them and
            then leaves still has them, and there the model knows best where they are.
        substeps: equal steps, straight in joint space, in which the model is told of the way to a
            waypoint.
        precision: of the predictor's matrix products while planning.
        compile: whether `torch.compile` makes one program of the predictor's steps.

    Raises:
        PresetError: where a value is out of range.
    """

    name: str
    horizon: int = 1
    samples: int = 64
    iterations: int = 10
    elites: int = 10
    sigma_arm: float = 0.3
    sigma_hand: float = 0.1
    sigma_hand_place: float = 0.01
    sigma_floor: float = 0.05
    sigma_decay: float = 1.0
    replans: int = 1
    executed: int = 1
    optimiser: OptimiserName = 'cem'
    start: Start = 'current'
    sweeps: int = 256
    start_sigma: float = 0.15
    weights: CostWeights = field(default_factory=CostWeights)
    cost_at: CostAt = 'last'
    objects_at: ObjectsAt = 'last'
    substeps: int = 1
    precision: Precision = 'float32'
    compile: bool = False

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise PresetError(f'{name} must be at least 1, got {getattr(self, name)}')
        for name in ('sigma_arm', 'sigma_hand', 'sigma_hand_place', 'start_sigma'):
            if not 0 < getattr(self, name) < float('inf'):
                raise PresetError(f'{name} must be positive, got {getattr(self, name)}')
        if not 0 <= self.sigma_floor <= 1:
            raise PresetError(f'sigma_floor must be in [0, 1], got {self.sigma_floor}')
        if not 0 < self.sigma_decay <= 1:
            raise PresetError(f'sigma_decay must be in (0, 1], got {self.sigma_decay}')
        for name, kind in (
            ('optimiser', OptimiserName),
            ('start', Start),
            ('cost_at', CostAt),
            ('objects_at', ObjectsAt),
            ('precision', Precision),
        ):
            if getattr(self, name) not in get_args(kind):
                raise PresetError(
                    f'{name} must be one of {", ".join(get_args(kind))}, '
                    f'got {getattr(self, name)!r}'
                )
        sampling = self.optimiser in ('cem', 'icem', 'mppi')
        if sampling and not 2 <= self.elites <= self.samples:
            raise PresetError(
                f'elites must be from 2 to the {self.samples} samples, got {self.elites}'
            )
        weighed = self.weights.object_pixels + self.weights.hand_at_object
        if self.start == 'sweep' and (self.horizon < 3 or not weighed):
            raise PresetError(
                "the start 'sweep' needs a horizon of at least 3 (sweep, up, away) and a weight "
                f'of object_pixels or hand_at_object, got {self.horizon} and {weighed}'
            )
        if self.executed > self.horizon:
            raise PresetError(
                f'{self.executed} waypoints cannot be executed of a plan of {self.horizon}'
            )

    def horizon_at(self, replan: int) -> int:
        """Waypoints of a task's plan number `replan`, from 0."""
        whole = max(self.horizon, self.replans * self.executed)
        return min(self.horizon, max(1, whole - replan * self.executed))


_KEYPOINTS_ONLY = CostWeights(
    latent=0.0,
    keypoint_pixels=0.0,
    keypoint_distance=1.0,
    projected_pixels=0.003,
    step_size=0.0005,
)
_CPU = Preset('cpu', sigma_decay=0.6, replans=3, weights=CostWeights(predicted_distance=3.0))
_HYBRID = replace(
    _CPU,
    name='hybrid',
    horizon=3,
    samples=32,
    iterations=6,
    elites=6,
    start='keypoints',
    start_sigma=0.15,
    weights=CostWeights(keypoint_distance=1.0, projected_pixels=0.003),
)
_PUSH = Preset(
    'push',
    horizon=4,
    replans=5,
    optimiser='none',
    start='sweep',
    weights=CostWeights(
        latent=0.0, keypoint_pixels=0.0, keypoint_distance=1.0, object_pixels=0.01
    ),
    objects_at='first',
    substeps=2,
)

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            'paper-sim',
            horizon=3,
            samples=512,
            replans=3,
            start='dummy',
            weights=CostWeights(keypoint_pixels=0.001, orientation=0.1),
        ),
        Preset(
            'paper-real',
            horizon=2,
            samples=256,
            executed=2,
            start='dummy',
            weights=CostWeights(keypoint_pixels=0.001, orientation=0.1),
        ),
        _CPU,
        replace(_CPU, name='cpu-icem', optimiser='icem'),
        replace(_CPU, name='cpu-mppi', optimiser='mppi'),
        replace(_CPU, name='cpu-gradient', optimiser='gradient', samples=4, iterations=22),
        _HYBRID,
        replace(
            _HYBRID,
            name='keypoints-cem',
            weights=replace(_HYBRID.weights, latent=0.0, keypoint_pixels=0.0),
        ),
        _PUSH,
        replace(
            _PUSH,
            name='push-aim',
            weights=replace(_PUSH.weights, object_pixels=0.0, hand_at_object=0.01),
        ),
        Preset(
            'keypoints',
            horizon=3,
            replans=3,
            optimiser='none',
            start='keypoints',
            weights=_KEYPOINTS_ONLY,
        ),
        Preset('random', optimiser='random', replans=3),
    )
}
"""The presets by name. 'paper-*' are the paper's (appendix B), the others are for a CPU."""

DEFAULT_PRESET = 'hybrid'
"""Of all tasks but push."""

_BOOLEANS = {'true': True, 'false': False}


def default_preset(task: str) -> str:
    """The name of the preset that a task is planned with unless another one is asked for."""
    return 'push' if task == 'push' else DEFAULT_PRESET


def find_preset(name: str) -> Preset:
    """The preset of a name.

    Raises:
        PresetError: where there is none; the message lists them.
    """
    if name not in PRESETS:
        raise PresetError(f'there is no preset {name!r}; there are {", ".join(PRESETS)}')
    return PRESETS[name]


def parse_preset(text: str) -> Preset:
    """A preset with some of its settings changed, named by the text that says so.

    Args:
        text: the name of a preset, and changes after commas: 'hybrid,horizon=1,weights.latent=0'.

    Raises:
        PresetError: where the preset or a setting is not known, or a value does not fit.
    """
    name, *changes = text.split(',')
    preset = find_preset(name)
    settings: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    for change in changes:
        path, _, written = change.partition('=')
        group, _, key = path.rpartition('.')
        if group == 'weights':
            weights[key] = _parsed(preset.weights, key, written)
        else:
            settings[path] = _parsed(preset, path, written)
    return replace(preset, **settings, name=text, weights=replace(preset.weights, **weights))


def _parsed(settings: Preset | CostWeights, name: str, written: str) -> Any:
    known = [f.name for f in fields(settings) if f.name not in ('name', 'weights')]
    if name not in known:
        raise PresetError(f'there is no setting {name!r}; there are {", ".join(known)}')
    kind = type(getattr(settings, name))
    if kind is bool:
        if written not in _BOOLEANS:
            raise PresetError(f'{name} must be {" or ".join(_BOOLEANS)}, got {written!r}')
        return _BOOLEANS[written]
    try:
        return kind(written)
    except ValueError:
        raise PresetError(f'{name} must be of type {kind.__name__}, got {written!r}') from None
