"""The ways in which exploratory data is made, each an endless sequence of motions.

After DexWM, section 4.5 and appendix C.2. The paper permutes objects so that no grasp succeeds;
here most motions go to where the object is, because a world model that shall plan grasps has to
see what grasping, carrying, dropping and pushing do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dexwm.robot.joints import ARM, HAND, HAND_JOINTS, HOME, JOINTS
from dexwm_sim.expert import (
    CLOSED_HAND,
    CURLED_HAND,
    OPEN_HAND,
    Leg,
    UnreachableError,
    palm_rotation,
)
from dexwm_sim.exploration import HIGH_PALM, PALM_REGION, Explorer
from dexwm_sim.smooth_noise import SmoothNoise

_START_TRIES = 100
_ACTION_TRIES = 20
# Noisy expert: shares of what is done with an object, and after a lift: else it is dropped.
_PUSH = 0.25
_LIFT = 0.85
_PLACE = 0.7
# Motions that bring the empty hand somewhere are quick, so that more is seen of the others.
_QUICK, _QUICK_PACE, _PACE = ('approach', 'above', 'retreat'), (0.5, 0.9), (0.8, 1.6)
_CARRY_AROUND = 0.6
_DWELL = (0.0, 0.5)
# Standard deviations, drawn per episode up to these: aim (m), fingers' targets, continuous noise
# of arm and fingers (rad).
_AIM = 0.012
_FINGERS = 0.10
_ARM_NOISE = 0.012
_FINGER_NOISE = 0.06
_LIFTED = 0.03
_PUSH_PITCH = (0.5, 1.0)
_SET_DOWN = (0.0, 0.04)
_SPOT = ((0.44, 0.70), (-0.20, 0.32))
_CARRY_HEIGHTS = (0.36, 0.52)
# Random targets: share of those that lie on two sides of an object; where the others' palms are.
_THROUGH_OBJECT = 0.8
_HAND_ONLY_LEG = 0.1
# Hand only: share of episodes that begin around an object.
_AROUND_OBJECT = 0.8
_AROUND_AIM = 0.01
_OPEN_OR_CLOSE = 0.7
_OPEN, _CLOSED = (0.0, 0.3), (0.6, 1.0)


@dataclass(frozen=True)
class Exploration:
    """A strategy at work in one episode.

    Attributes:
        start: Joint positions at the start (23,), rad.
        legs: Motions without end, each drawn when the one before is done. Raises
            UnreachableError where the arm reaches nothing it tries.
        noise: Continuous deviation from them; None: none.
    """

    start: NDArray[np.float64]
    legs: Iterator[Leg]
    noise: SmoothNoise | None = None


def random_targets(explorer: Explorer) -> Exploration:
    """Random reachable poses of palm and fingers, most so that the hand sweeps an object along."""
    start = _free_start(explorer, explorer.posture)
    return Exploration(start, _random_legs(explorer, start))


def _random_legs(explorer: Explorer, q: NDArray[np.float64]) -> Iterator[Leg]:
    rng = explorer.rng
    while True:
        names = explorer.objects_at_hand()
        if rng.random() < _HAND_ONLY_LEG:
            legs = explorer.fingers_only(q)
        elif names and rng.random() < _THROUGH_OBJECT:
            try:
                legs = explorer.sweep(q, str(rng.choice(names)))
            except UnreachableError:
                legs = explorer.reach(q, HIGH_PALM)
        else:
            legs = explorer.reach(q)
        yield from legs
        q = legs[-1].target


def hand_only(explorer: Explorer) -> Exploration:
    """The fingers open and close, the arm stands still; at most times around an object."""
    rng = explorer.rng
    around = rng.random() < _AROUND_OBJECT

    def draw() -> NDArray[np.float64]:
        names = explorer.objects_at_hand()
        if not (around and names):
            return explorer.posture(PALM_REGION[2])
        aim = explorer.cell.object_pose(str(rng.choice(names)))[:3].copy()
        aim += rng.normal(0, _AROUND_AIM, 3)
        _, descend, *_ = explorer.expert.pick(aim, HOME)
        return descend.target

    start = _free_start(explorer, draw)
    return Exploration(start, _finger_legs(explorer, start))


def _finger_legs(explorer: Explorer, q: NDArray[np.float64]) -> Iterator[Leg]:
    rng, is_closed = explorer.rng, False
    while True:
        if rng.random() < _OPEN_OR_CLOSE:
            is_closed = not is_closed
            closed = rng.uniform(*(_CLOSED if is_closed else _OPEN))
            hand = OPEN_HAND + closed * (CLOSED_HAND - OPEN_HAND)
        else:
            hand = explorer.hand()
        (leg,) = explorer.fingers_only(q, hand)
        yield replace(leg, dwell=rng.uniform(*_DWELL))
        q = leg.target


def noisy_expert(explorer: Explorer, permute: float) -> Exploration:
    """The expert's picking, carrying, placing, dropping and pushing, with noise.

    Args:
        explorer: Draws the motions.
        permute: Probability that a grasp goes to where another object, or none, is, as if the
            objects had been permuted.
    """
    rng = explorer.rng
    start = _free_start(explorer, explorer.posture)
    level = rng.random()
    scales = np.full(len(JOINTS), _FINGER_NOISE)
    scales[ARM] = _ARM_NOISE
    noise = SmoothNoise(rng, level * scales)
    return Exploration(start, _NoisyExpert(explorer, permute, level).legs(start), noise)


class _NoisyExpert:
    def __init__(self, explorer: Explorer, permute: float, level: float) -> None:
        self._explorer = explorer
        self._rng = explorer.rng
        self._permute = permute
        self._level = level

    def legs(self, q: NDArray[np.float64]) -> Iterator[Leg]:
        while True:
            for leg in self._action(q):
                yield leg
                q = leg.target

    def _action(self, q: NDArray[np.float64]) -> Iterator[Leg]:
        explorer, rng = self._explorer, self._rng
        names = explorer.objects_at_hand()
        for _ in range(_ACTION_TRIES if names else 0):
            name = str(rng.choice(names))
            try:
                if rng.random() < _PUSH:
                    rotation = palm_rotation(rng.uniform(*_PUSH_PITCH), rng.uniform(-0.4, 0.6))
                    hand = OPEN_HAND + rng.random() * (CURLED_HAND - OPEN_HAND)
                    return iter(self._noisy(explorer.sweep(q, name, rotation, hand)))
                picking = explorer.expert.pick(self._aim(name), q)
            except UnreachableError:
                continue
            return self._pick(name, picking)
        return iter(explorer.reach(q, HIGH_PALM, OPEN_HAND))

    def _aim(self, name: str) -> NDArray[np.float64]:
        """Returns where to grasp an object (3,), m."""
        rng = self._rng
        position = self._explorer.cell.object_pose(name)[:3].copy()
        if rng.random() < self._permute:
            others = [other for other in self._explorer.objects_at_hand() if other != name]
            if others:
                position[:2] = self._explorer.cell.object_pose(str(rng.choice(others)))[:2]
            else:
                position[:2] = [rng.uniform(*side) for side in _SPOT]
        offset = rng.normal(0, self._level * _AIM, 3)
        # Lower than meant would be into the counter.
        return position + [offset[0], offset[1], abs(offset[2])]

    def _pick(self, name: str, picking: tuple[Leg, ...]) -> Iterator[Leg]:
        explorer, rng = self._explorer, self._rng
        height = explorer.cell.object_pose(name)[2]
        *closing, lift = self._noisy(picking)
        yield from closing
        if rng.random() > _LIFT:
            yield from explorer.fingers_only(closing[-1].target, OPEN_HAND)
            return
        yield lift
        q = lift.target
        choice = rng.random()
        if rng.random() < _CARRY_AROUND:
            for leg in explorer.reach(q, _CARRY_HEIGHTS, q[HAND]):
                yield leg
                q = leg.target
        position = explorer.cell.object_pose(name)[:3]
        if choice < _PLACE and position[2] > height + _LIFTED:
            goal = [*(rng.uniform(*side) for side in _SPOT), height + rng.uniform(*_SET_DOWN)]
            try:
                placing = explorer.expert.place(q, position, goal)
            except UnreachableError:
                pass
            else:
                yield from self._noisy(placing)
                return
        yield from explorer.fingers_only(q, OPEN_HAND)

    def _noisy(self, legs: tuple[Leg, ...] | list[Leg]) -> list[Leg]:
        """Changes the fingers' targets by one offset for all legs, the paces, and adds pauses."""
        rng = self._rng
        offset = rng.normal(0, self._level * _FINGERS, len(HAND_JOINTS))
        quick, slow = rng.uniform(*_QUICK_PACE), rng.uniform(*_PACE)
        result = []
        for leg in legs:
            target = leg.target.copy()
            target[HAND] += offset
            moves_empty = leg.name in _QUICK
            result.append(
                replace(
                    leg,
                    target=self._explorer.limits.clamp(target),
                    duration=leg.duration * (quick if moves_empty else slow),
                    dwell=leg.dwell + (0.0 if moves_empty else rng.uniform(*_DWELL)),
                )
            )
        return result


def _free_start(
    explorer: Explorer, draw: Callable[[], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Resets the cell to a posture (23,), rad, in which the robot touches nothing; returns it."""
    for _ in range(_START_TRIES):
        try:
            start = draw()
        except UnreachableError:
            continue
        explorer.cell.reset(start)
        if not explorer.cell.robot_in_contact():
            return start
    raise UnreachableError(f'none of {_START_TRIES} starts is reachable and free of contact')


STRATEGIES: tuple[str, ...] = ('noisy_expert', 'random_targets', 'hand_only')


def explore(strategy: str, explorer: Explorer, permute: float) -> Exploration:
    """Puts a strategy to work in the explorer's cell, which it resets.

    Args:
        strategy: One of ``STRATEGIES``.
        explorer: Draws the motions.
        permute: See ``noisy_expert``.

    Raises:
        ValueError: If there is no such strategy.
        UnreachableError: If no start is found.
    """
    match strategy:
        case 'noisy_expert':
            return noisy_expert(explorer, permute)
        case 'random_targets':
            return random_targets(explorer)
        case 'hand_only':
            return hand_only(explorer)
    raise ValueError(f'unknown strategy {strategy!r}; there are {", ".join(STRATEGIES)}')
