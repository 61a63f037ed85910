"""Random motion over the counter, to learn from what the robot does to the world.

After the exploratory data of DexWM (section 4.5 and appendix C.2): the palm goes to random poses
over the counter, the fingers to random postures; now and then only the hand moves. No motion
knows where an object is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.robot.joints import ARM, HAND, JointLimits, robot_limits
from dexwm.robot.model import RobotModel
from dexwm_sim.expert import (
    CLOSED_HAND,
    OPEN_HAND,
    Expert,
    Leg,
    UnreachableError,
    motion_duration,
    palm_rotation,
)

PALM_REGION = ((0.42, 0.74), (-0.25, 0.40), (0.29, 0.52))
"""Where the palm goes: ranges of x, y and z in the base frame (m); the counter is at 0.22."""

LOWEST_KEYPOINT = 0.235
"""No target puts a keypoint of the hand below this height in the base frame (m)."""

_PITCH = (0.35, 1.2)
_TURN = (-0.6, 0.8)
_ROLL = (-0.9, 0.9)
_HAND_ONLY = 0.15
_GRASP_LIKE = 0.5
# A motion takes between these many times as long as the expert's.
_PACE = (0.6, 1.6)
_TRIES = 1000


def random_legs(
    model: RobotModel,
    rng: np.random.Generator,
    start: ArrayLike,
    limits: JointLimits | None = None,
) -> Iterator[Leg]:
    """Yields motions without end, each from where the one before ended.

    Args:
        model: The robot.
        rng: Source of all choices: the same state of it gives the same motions.
        start: Joint positions at the start (23,), rad.
        limits: Limits of the 23 joints; None: the robot's.

    Raises:
        UnreachableError: If no random pose can be reached, which says that the model is wrong.
    """
    limits = limits or robot_limits()
    expert = Expert(model, limits)
    q = np.array(start, dtype=np.float64)
    while True:
        leg = _draw(expert, model, rng, q, limits)
        yield leg
        q = leg.target


def _draw(
    expert: Expert,
    model: RobotModel,
    rng: np.random.Generator,
    q: NDArray[np.float64],
    limits: JointLimits,
) -> Leg:
    for _ in range(_TRIES):
        hand = _random_hand(rng, limits)
        if rng.random() < _HAND_ONLY:
            target = np.concatenate([q[ARM], hand])
            leg = Leg('hand', target, motion_duration(q, target, limits))
        else:
            try:
                (leg,) = expert.reach(_random_palm(rng), hand, q)
            except UnreachableError:
                continue
        if model.keypoints(leg.target)[:, 2].min() >= LOWEST_KEYPOINT:
            return replace(leg, duration=leg.duration * rng.uniform(*_PACE))
    raise UnreachableError(f'none of {_TRIES} random poses in {PALM_REGION} can be reached')


def _random_palm(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draws T_base_from_palm (4, 4): palm down, turned about the vertical and its own normal."""
    cos, sin = np.cos(roll := rng.uniform(*_ROLL)), np.sin(roll)
    pose = np.eye(4)
    # The palm's x axis is its normal.
    about_normal = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    pose[:3, :3] = palm_rotation(rng.uniform(*_PITCH), rng.uniform(*_TURN)) @ about_normal
    pose[:3, 3] = [rng.uniform(*side) for side in PALM_REGION]
    return pose


def _random_hand(rng: np.random.Generator, limits: JointLimits) -> NDArray[np.float64]:
    """Draws finger positions (16,), rad: somewhere on the way of a grasp, or anything."""
    if rng.random() < _GRASP_LIKE:
        return OPEN_HAND + rng.random() * (CLOSED_HAND - OPEN_HAND)
    return rng.uniform(limits.lower[HAND], limits.upper[HAND])
