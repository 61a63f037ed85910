"""Scenes without motion: each picture of a recording shows another one.

An encoder's adapter has to recognise objects, and learns it from many scenes rather than from
many pictures of a few. With the kinds of objects given, a scene costs no more than its picture:
places, looks, surfaces, light and the robot's posture are drawn anew for each.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dexwm.robot.joints import HAND, HOME
from dexwm_sim.expert import CLOSED_HAND, OPEN_HAND, UnreachableError
from dexwm_sim.exploration import COUNTER_HEIGHT, PALM_REGION, Explorer
from dexwm_sim.scene_config import CLUTTER_REGION, SceneConfig, SceneConfigError

STILLS = 'stills'
"""Name of this way to make data; it is no strategy, as nothing moves."""

_TRIES = 100
# Share of pictures with the hand around an object, rather than anywhere; error of its aim (m).
_AROUND_OBJECT = 0.5
_AIM = 0.03
# Share of the way down to the object from above it.
_DESCENT = (0.3, 1.0)
# Share of objects that fall onto the counter, turned at random, and from how high (m).
_TUMBLES = 0.2
_FALL = (0.05, 0.12)


def stills(explorer: Explorer) -> Iterator[NDArray[np.float64]]:
    """Puts the explorer's cell into one scene after the other, for ever.

    Kinds of objects and picture quality stay as they are in the cell.

    Args:
        explorer: Draws all choices.

    Yields:
        The robot's joint positions (23,), rad, in the scene that the cell is in now.

    Raises:
        UnreachableError: If none of many scenes can be made.
    """
    cell, rng = explorer.cell, explorer.rng
    quality = cell.config.quality
    while True:
        for _ in range(_TRIES):
            try:
                scene = SceneConfig.sample(
                    int(rng.integers(2**31)), cell.object_names, quality=quality
                )
                cell.load(scene)
                q = _posture(explorer)
            except (SceneConfigError, UnreachableError):
                continue
            cell.reset(q, _falls(explorer))
            if not cell.physics_warnings():
                break
        else:
            raise UnreachableError(f'none of {_TRIES} scenes can be made')
        yield q


def _posture(explorer: Explorer) -> NDArray[np.float64]:
    """Draws joint positions (23,), rad: the hand over the counter, or around an object."""
    rng, names = explorer.rng, explorer.objects_at_hand()
    if not names or rng.random() >= _AROUND_OBJECT:
        return explorer.posture(PALM_REGION[2])
    aim = explorer.cell.object_pose(str(rng.choice(names)))[:3].copy()
    offset = rng.normal(0, _AIM, 3)
    # Lower than the object's centre would be into the counter.
    aim += [offset[0], offset[1], abs(offset[2])]
    above, descend, *_ = explorer.expert.pick(aim, HOME)
    q = above.target + rng.uniform(*_DESCENT) * (descend.target - above.target)
    q[HAND] = OPEN_HAND + rng.random() * (CLOSED_HAND - OPEN_HAND)
    return explorer.limits.clamp(q)


def _falls(explorer: Explorer) -> dict[str, NDArray[np.float64]]:
    """Draws poses in the air, position and quaternion xyzw (7,), for some of the objects."""
    rng, poses = explorer.rng, {}
    for name in explorer.cell.object_names:
        if rng.random() < _TUMBLES:
            place = [rng.uniform(*side) for side in CLUTTER_REGION]
            turn = rng.normal(size=4)
            height = COUNTER_HEIGHT + rng.uniform(*_FALL)
            poses[name] = np.array([*place, height, *(turn / np.linalg.norm(turn))])
    return poses
