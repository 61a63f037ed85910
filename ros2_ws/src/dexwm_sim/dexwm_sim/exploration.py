"""Motions over the counter to learn from: what the robot does to the world.

Building blocks of the exploratory data of DexWM (section 4.5 and appendix C.2): random poses of
palm and fingers, and sweeps, random poses that lie on two sides of an object so that the hand
pushes it. `dexwm_sim.strategies` strings them together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.robot.joints import HAND, HOME, JointLimits, robot_limits
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.cell_config import CameraConfig
from dexwm_sim.cell import Cell
from dexwm_sim.expert import (
    CLOSED_HAND,
    OPEN_HAND,
    Expert,
    Leg,
    UnreachableError,
    motion_duration,
    palm_rotation,
)
from dexwm_sim.objects import object_kind
from dexwm_sim.robot_spec import PALM

PALM_REGION = ((0.42, 0.74), (-0.25, 0.40), (0.29, 0.52))
"""Where the palm goes: ranges of x, y and z in the base frame (m); the counter is at 0.22."""

HIGH_PALM = (0.42, 0.52)
"""Heights of a palm whose hand is over all objects (m)."""

LOWEST_KEYPOINT = 0.235
"""No target of the arm puts a keypoint of the hand below this height in the base frame (m)."""

OBJECT_REGION = ((0.38, 0.80), (-0.30, 0.46))
"""Where objects are that the hand can get at: ranges of x and y in the base frame (m)."""

COUNTER_HEIGHT = 0.22

_PITCH = (0.35, 1.2)
_TURN = (-0.6, 0.8)
_ROLL = (-0.9, 0.9)
_GRASP_LIKE = 0.6
# A motion takes between these many times as long as the expert's.
_PACE = (0.6, 1.6)
_TRIES = 300
# Sweeps: how far the object goes (m), how far from it the hand begins (m), the height of the
# hand's lowest keypoint (m), the height it comes from (m), and the pace, slow so that contact is
# seen.
_SWEEP = (0.08, 0.26)
_RUN_UP = (0.02, 0.07)
_SWEEP_HEIGHT = (LOWEST_KEYPOINT, LOWEST_KEYPOINT + 0.03)
_ABOVE = 0.11
_SWEEP_PACE = (1.4, 3.2)
_QUICK = (0.6, 1.0)
# Share of sweeps to whose beginning a hand that is low already moves low, not from above.
_STAY_LOW = 0.6
_LOW = LOWEST_KEYPOINT + 0.06
# Keypoints this much above the lowest are at the height of an object (m).
_HITTING = 0.05
# Where a sweep may end, narrower than the region of the objects so that few are lost.
_SPOTS = ((0.43, 0.74), (-0.24, 0.40))
# Points on the way of a motion that are checked for their height.
_CHECKED = np.linspace(0, 1, 7)[1:]
_DIP = 0.005
_TOLERANCE = 0.001


class Explorer:
    """Draws motions in a cell; a motion begins where the one before ended.

    At the end of each that brings the palm somewhere, the hand is over the counter and in the
    head camera's picture. The same state of the generator and of the cell gives the same motions.

    Attributes:
        cell: The cell, asked for where objects are.
        model: The robot.
        expert: The scripted expert.
        rng: Source of all choices.
        limits: Limits of the 23 joints.
    """

    def __init__(
        self,
        cell: Cell,
        model: RobotModel,
        camera: CameraConfig,
        rng: np.random.Generator,
        limits: JointLimits | None = None,
    ) -> None:
        """Takes the cell, robot, camera and source of all choices; None: the robot's limits."""
        self.cell = cell
        self.model = model
        self.rng = rng
        self._intrinsics = camera.intrinsics
        self._T_camera_from_base = np.linalg.inv(camera.T_base_from_camera)
        self.limits = limits or robot_limits()
        self.expert = Expert(model, self.limits)

    def objects_at_hand(self) -> list[str]:
        """Returns the names of the objects that the hand can get at."""
        names = []
        for name in self.cell.object_names:
            x, y, z = self.cell.object_pose(name)[:3]
            (x0, x1), (y0, y1) = OBJECT_REGION
            if x0 < x < x1 and y0 < y < y1 and z > COUNTER_HEIGHT:
                names.append(name)
        return names

    def posture(self, heights: tuple[float, float] = HIGH_PALM) -> NDArray[np.float64]:
        """Draws joint positions (23,), rad, with the palm in this range of heights (m)."""
        return self.reach(HOME, heights)[-1].target

    def reach(
        self,
        start: ArrayLike,
        heights: tuple[float, float] = PALM_REGION[2],
        hand: ArrayLike | None = None,
    ) -> list[Leg]:
        """Draws a motion to a random pose of the palm.

        Args:
            start: Joint positions at the start (23,), rad.
            heights: Range of the palm's height in the base frame (m).
            hand: Finger positions (16,), rad; None: random ones.

        Raises:
            UnreachableError: If none of many poses can be reached, which says that the model
                or the start is wrong.
        """
        for _ in range(_TRIES):
            pose = np.eye(4)
            pose[:3, :3] = self.palm()
            pose[:3, 3] = [self.rng.uniform(*side) for side in (*PALM_REGION[:2], heights)]
            fingers = self.hand() if hand is None else hand
            try:
                legs = self.expert.reach(pose, fingers, start)
            except UnreachableError:
                continue
            if self._is_good(start, legs):
                return self.paced(legs, _PACE)
        raise UnreachableError(f'none of {_TRIES} random poses in {PALM_REGION} can be reached')

    def sweep(
        self,
        start: ArrayLike,
        name: str,
        rotation: NDArray[np.float64] | None = None,
        hand: ArrayLike | None = None,
    ) -> list[Leg]:
        """Draws a motion that pushes an object over the counter.

        The hand comes down beside the object and moves through where it is, to where the object
        would have gone. The palm's pose is random but for its place.

        Args:
            start: Joint positions at the start (23,), rad.
            name: The object.
            rotation: R_base_from_palm (3, 3); None: drawn anew for every try.
            hand: Finger positions (16,), rad; None: drawn anew for every try.

        Raises:
            UnreachableError: If none of many such motions can be reached.
        """
        radius = object_kind(name).radius
        centre = self.cell.object_pose(name)[:2]
        for _ in range(_TRIES):
            spot = np.array([self.rng.uniform(*side) for side in _SPOTS])
            way = spot - centre
            distance = float(np.linalg.norm(way))
            if not _SWEEP[0] < distance < _SWEEP[1]:
                continue
            begin = centre - way / distance * (radius + self.rng.uniform(*_RUN_UP))
            end = spot - way / distance * radius
            pose = np.eye(4)
            pose[:3, :3] = self.palm() if rotation is None else rotation
            fingers = self.hand() if hand is None else np.asarray(hand)
            # The hand's keypoints about the palm, in directions of the base.
            around = self._keypoints_about_palm(fingers) @ pose[:3, :3].T
            lowest = around[:, 2].min()
            hitting = around[around[:, 2] < lowest + _HITTING, :2].mean(axis=0)
            height = self.rng.uniform(*_SWEEP_HEIGHT) - lowest
            steps = [
                ('above', pose, (*(begin - hitting), height + _ABOVE)),
                ('beside', pose, (*(begin - hitting), height)),
                ('sweep', pose, (*(end - hitting), height)),
            ]
            if self._height(np.asarray(start)) < _LOW and self.rng.random() < _STAY_LOW:
                del steps[0]
            try:
                legs = self._chain(start, fingers, *steps)
            except UnreachableError:
                continue
            if self._is_good(start, legs):
                return [*self.paced(legs[:-1], _QUICK), *self.paced(legs[-1:], _SWEEP_PACE)]
        raise UnreachableError(
            f'none of {_TRIES} sweeps through {name} at {centre} can be reached'
        )

    def fingers_only(self, start: ArrayLike, hand: ArrayLike | None = None) -> list[Leg]:
        """Draws a motion of the fingers alone, or takes it to the given positions (16,), rad."""
        target = np.array(start, dtype=np.float64)
        target[HAND] = self.hand() if hand is None else hand
        target = self.limits.clamp(target)
        leg = Leg('hand', target, motion_duration(start, target, self.limits))
        return self.paced([leg], _PACE)

    def palm(self) -> NDArray[np.float64]:
        """Draws R_base_from_palm (3, 3): palm down, turned about the vertical and its normal."""
        cos, sin = math.cos(roll := self.rng.uniform(*_ROLL)), math.sin(roll)
        # The palm's x axis is its normal.
        about_normal = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
        rotation = palm_rotation(self.rng.uniform(*_PITCH), self.rng.uniform(*_TURN))
        return rotation @ about_normal

    def hand(self, grasp_like: float = _GRASP_LIKE) -> NDArray[np.float64]:
        """Draws finger positions (16,), rad: somewhere on the way of a grasp, or anything.

        Args:
            grasp_like: Probability of the former.
        """
        if self.rng.random() < grasp_like:
            return OPEN_HAND + self.rng.random() * (CLOSED_HAND - OPEN_HAND)
        return self.rng.uniform(self.limits.lower[HAND], self.limits.upper[HAND])

    def paced(self, legs: Sequence[Leg], pace: tuple[float, float]) -> list[Leg]:
        """Returns motions that take as many times as long as one factor drawn from a range."""
        factor = self.rng.uniform(*pace)
        return [replace(leg, duration=leg.duration * factor) for leg in legs]

    def _chain(
        self,
        start: ArrayLike,
        hand: ArrayLike,
        *steps: tuple[str, NDArray[np.float64], tuple[float, float, float]],
    ) -> list[Leg]:
        legs = []
        for name, T_base_from_palm, position in steps:
            pose = T_base_from_palm.copy()
            pose[:3, 3] = position
            (leg,) = self.expert.reach(pose, hand, start)
            legs.append(replace(leg, name=name))
            start = leg.target
        return legs

    def _keypoints_about_palm(self, hand: ArrayLike) -> NDArray[np.float64]:
        """Returns the hand's keypoints (21, 3) in the palm's frame (m)."""
        q = HOME.copy()
        q[HAND] = hand
        T_base_from_palm = self.model.frame_pose(q, PALM)
        return (self.model.keypoints(q) - T_base_from_palm[:3, 3]) @ T_base_from_palm[:3, :3]

    def _is_good(self, start: ArrayLike, legs: Sequence[Leg]) -> bool:
        """Whether the hand stays above the lowest height, or rises to it, and is seen."""
        q = np.asarray(start, dtype=np.float64)
        floor = min(LOWEST_KEYPOINT, self._height(q))
        for leg in legs:
            if self._height(leg.target) < LOWEST_KEYPOINT - _TOLERANCE:
                return False
            if any(self._height(q + s * (leg.target - q)) < floor - _DIP for s in _CHECKED):
                return False
            q = leg.target
        return self._is_seen(q)

    def _is_seen(self, q: NDArray[np.float64]) -> bool:
        keypoints = self.model.keypoints(q)
        T = self._T_camera_from_base
        pixels = self._intrinsics.project(keypoints @ T[:3, :3].T + T[:3, 3])
        size = [self._intrinsics.width, self._intrinsics.height]
        return bool(((pixels >= 0) & (pixels < size)).all())

    def _height(self, q: NDArray[np.float64]) -> float:
        return float(self.model.keypoints(q)[:, 2].min())
