"""A scripted expert that knows where everything is.

It wraps the hand around an object from above, palm pitched forward: the Allegro thumb is too
short to pinch small things with the fingers straight down.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.robot.ik import solve_ik
from dexwm.robot.joints import HAND, HOME, JointLimits, robot_limits
from dexwm.robot.model import RobotModel
from dexwm_sim.robot_spec import PALM

OPEN_HAND: NDArray[np.float64] = np.array([0, 0.15, 0.15, 0.12] * 3 + [1.33, 0.0, 0.0, 0.2])
"""Fingers before a grasp (16,), rad: nearly straight, thumb opposed."""

CURLED_HAND: NDArray[np.float64] = np.array([0, 0.0, 0.7, 0.9] * 3 + [1.33, 0.2, 0.3, 0.5])
"""Between the two (16,), rad: fingers that closed straight would sweep through the counter."""

CLOSED_HAND: NDArray[np.float64] = np.array([0, 1.2, 1.2, 0.9] * 3 + [1.33, 0.6, 0.9, 1.2])
"""Where the fingers are sent to grasp (16,), rad; an object stops them before."""

GRASP_POINT: NDArray[np.float64] = np.array([0.085, 0.008, 0.045])
"""Where in the palm's frame a grasped object's centre is (3,), m."""

# Forward pitch of the palm, and turns about the vertical to try where the first has no solution.
_PITCHES = tuple(math.radians(degrees) for degrees in (30, 38, 24))
_TURNS = (0.0, 0.25, -0.25, 0.5, -0.5)
# A hand that reaches sideways turns along by this part of the object's bearing.
_TURN_PER_BEARING = 0.7
_APPROACH_HEIGHT = 0.12
_LIFT_HEIGHT = 0.15
_RETREAT_HEIGHT = 0.10
_JOINT_MARGIN = 0.06
# Share of the joints' speed limits, and shortest motion (s).
_SPEED = 0.35
_SHORTEST = 0.5
# Peak speed of the minimum-jerk profile over its mean.
_PEAK_OVER_MEAN = 1.875


class UnreachableError(ValueError):
    """A pose that the arm does not reach."""


@dataclass(frozen=True)
class Leg:
    """One straight motion in joint space, from rest to rest.

    Attributes:
        name: What it is for.
        target: Joint positions at its end (23,), rad.
        duration: How long it takes in a direct simulation (s).
        dwell: How long to stay afterwards (s).
    """

    name: str
    target: NDArray[np.float64]
    duration: float
    dwell: float = 0.0


def palm_rotation(pitch: float, turn: float) -> NDArray[np.float64]:
    """Returns R_base_from_palm (3, 3) of a palm that looks down and forward.

    Args:
        pitch: Angle of the fingers below the horizontal (rad).
        turn: Heading of the fingers about the vertical, 0 along x (rad).
    """
    cos, sin = math.cos(pitch), math.sin(pitch)
    normal, fingers = np.array([-sin, 0, -cos]), np.array([cos, 0, -sin])
    pitched = np.stack([normal, np.cross(fingers, normal), fingers], axis=1)
    cos, sin = math.cos(turn), math.sin(turn)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ pitched


def motion_duration(start: ArrayLike, end: ArrayLike, limits: JointLimits) -> float:
    """Returns the time (s) of a minimum-jerk motion at the expert's speed."""
    means = np.abs(np.subtract(end, start)) / (_SPEED * limits.velocity)
    return max(_SHORTEST, _PEAK_OVER_MEAN * float(means.max()))


class Expert:
    """Plans scripted motions."""

    def __init__(self, model: RobotModel, limits: JointLimits | None = None) -> None:
        """Takes the robot, and limits to stay within by a small margin."""
        self._model = model
        self._limits = (limits or robot_limits()).with_margin(_JOINT_MARGIN)

    def pick(self, object_position: ArrayLike, start: ArrayLike) -> tuple[Leg, ...]:
        """Plans to grasp an object and lift it: approach, descend, curl, close, lift.

        Args:
            object_position: Its centre (3,) in the base frame (m).
            start: Joint positions at the start (23,), rad.

        Raises:
            UnreachableError: If the arm does not reach the object.
        """
        position = np.asarray(object_position, dtype=np.float64)
        bearing = math.atan2(position[1], position[0])
        for pitch, turn in itertools.product(_PITCHES, _TURNS):
            rotation = palm_rotation(pitch, _TURN_PER_BEARING * bearing + turn)
            palm = position - rotation @ GRASP_POINT
            heights = (_APPROACH_HEIGHT, 0.0, _LIFT_HEIGHT)
            found = self._solve_chain(
                [_pose(rotation, palm + [0, 0, height]) for height in heights]
            )
            if found is not None:
                above, grasp, lifted = found
                return self._legs(
                    start,
                    ('approach', _with_hand(above, OPEN_HAND), 0.0),
                    ('descend', _with_hand(grasp, OPEN_HAND), 0.0),
                    ('curl', _with_hand(grasp, CURLED_HAND), 0.0),
                    ('close', _with_hand(grasp, CLOSED_HAND), 0.4),
                    ('lift', _with_hand(lifted, CLOSED_HAND), 0.2),
                )
        raise UnreachableError(f'the arm does not reach an object at {position.round(3)}')

    def place(
        self,
        start: ArrayLike,
        object_position: ArrayLike,
        goal_position: ArrayLike,
    ) -> tuple[Leg, ...]:
        """Plans to set a held object down: carry, lower, loosen, open, retreat.

        Args:
            start: Joint positions commanded while holding (23,), rad.
            object_position: The held object's centre (3,) in the base frame (m).
            goal_position: Where the centre shall be (3,), m.

        Raises:
            UnreachableError: If the arm does not reach the goal.
        """
        start = np.asarray(start, dtype=np.float64)
        palm = self._model.frame_pose(start, PALM)
        offset = np.asarray(object_position) - palm[:3, 3]
        goal = np.asarray(goal_position, dtype=np.float64)
        for turn in _TURNS:
            cos, sin = math.cos(turn), math.sin(turn)
            turned = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
            down = goal - turned @ offset
            heights = (_APPROACH_HEIGHT, 0.0, _RETREAT_HEIGHT)
            found = self._solve_chain(
                [_pose(turned @ palm[:3, :3], down + [0, 0, height]) for height in heights]
            )
            if found is not None:
                above, lowered, away = found
                return self._legs(
                    start,
                    ('carry', _with_hand(above, start[HAND]), 0.0),
                    ('lower', _with_hand(lowered, start[HAND]), 0.3),
                    ('loosen', _with_hand(lowered, CURLED_HAND), 0.0),
                    ('open', _with_hand(lowered, OPEN_HAND), 0.3),
                    ('retreat', _with_hand(away, OPEN_HAND), 0.2),
                )
        raise UnreachableError(f'the arm does not reach {goal.round(3)} with the held object')

    def reach(
        self, T_base_from_palm: ArrayLike, hand: ArrayLike, start: ArrayLike
    ) -> tuple[Leg, ...]:
        """Plans to bring the palm to a pose (4, 4) and the fingers to positions (16,), rad.

        Raises:
            UnreachableError: If the arm does not reach the pose.
        """
        found = self._solve_chain([np.asarray(T_base_from_palm, dtype=np.float64)])
        if found is None:
            raise UnreachableError('the arm does not reach the pose')
        return self._legs(start, ('reach', _with_hand(found[0], hand), 0.0))

    def _solve_chain(
        self, poses: Sequence[NDArray[np.float64]]
    ) -> list[NDArray[np.float64]] | None:
        """Returns joint positions (23,) for each palm pose, each near the one before."""
        seed, solutions = HOME, []
        for pose in poses:
            result = solve_ik(self._model, PALM, pose, seed, self._limits, HOME)
            if not result.converged:
                return None
            seed = result.q
            solutions.append(result.q)
        return solutions

    def _legs(
        self, start: ArrayLike, *steps: tuple[str, NDArray[np.float64], float]
    ) -> tuple[Leg, ...]:
        legs = []
        for name, target, dwell in steps:
            target = self._limits.clamp(target)
            legs.append(Leg(name, target, motion_duration(start, target, self._limits), dwell))
            start = target
        return tuple(legs)


def _pose(rotation: NDArray[np.float64], position: NDArray[np.float64]) -> NDArray[np.float64]:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, position
    return pose


def _with_hand(q: NDArray[np.float64], hand: ArrayLike) -> NDArray[np.float64]:
    result = q.copy()
    result[HAND] = hand
    return result
