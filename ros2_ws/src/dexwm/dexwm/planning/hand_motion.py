"""Motions that bring the hand elsewhere, turned and closed as it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.planning.errors import PlanningError
from dexwm.robot.ik import solve_ik
from dexwm.robot.joints import ARM, JointLimits
from dexwm.robot.model import RobotModel

_FRAME = 'allegro_wrist'
# Level motions: how far they go and how much they may rise (m), how exactly the arm must come
# there (m), and how far a joint may turn: another way round is no straight motion (rad).
_WAY = (0.05, 0.30)
_RISE = (-0.01, 0.02)
_TOLERANCE = 0.005
_LARGEST_TURN = 1.0
_ITERATIONS = 20
_TRIES = 4


def raised(
    robot: RobotModel, joints: ArrayLike, limits: JointLimits, height: float, steps: int = 1
) -> NDArray[np.float64]:
    """Waypoints (steps, 23) that raise the hand straight up, rad.

    Args:
        robot: the robot.
        joints: (23,) where it is, rad.
        limits: which the waypoints keep.
        height: of the last one over where it is, metres.
        steps: waypoints; with more the hand rises straighter.

    Raises:
        PlanningError: where the arm cannot reach so high from here.
    """
    q = np.array(joints, dtype=np.float64)
    pose = robot.frame_pose(q, _FRAME)
    rises = []
    for step in range(1, steps + 1):
        target = pose.copy()
        target[2, 3] += height * step / steps
        result = solve_ik(robot, _FRAME, target, q, limits)
        if not result.converged:
            raise PlanningError(
                f'the hand cannot be lifted by {height} m from here: at '
                f'{target[2, 3] - pose[2, 3]:.2f} m the arm is '
                f'{result.position_error * 1e3:.0f} mm and {result.rotation_error:.2f} rad '
                'away. Lift less'
            )
        q = q.copy()
        q[ARM] = result.q[ARM]
        rises.append(q)
    return np.stack(rises)


def swept(
    robot: RobotModel,
    joints: ArrayLike,
    limits: JointLimits,
    count: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Postures (count, 23) whose hand is 5 to 30 cm away in any direction, nearly level, rad.

    Args:
        robot: the robot.
        joints: (23,) where it is, rad.
        limits: which the postures keep.
        count: how many.
        rng: where to.

    Raises:
        PlanningError: where the arm can go nowhere from here.
    """
    begin = np.array(joints, dtype=np.float64)
    pose = robot.frame_pose(begin, _FRAME)
    found: list[NDArray[np.float64]] = []
    for _ in range(_TRIES * count):
        if len(found) == count:
            break
        way, heading = rng.uniform(*_WAY), rng.uniform(-np.pi, np.pi)
        target = pose.copy()
        target[:3, 3] += way * np.cos(heading), way * np.sin(heading), rng.uniform(*_RISE)
        result = solve_ik(
            robot,
            _FRAME,
            target,
            begin,
            limits,
            position_tolerance=_TOLERANCE,
            max_iterations=_ITERATIONS,
        )
        if result.converged and np.abs(result.q - begin)[ARM].max() < _LARGEST_TURN:
            q = begin.copy()
            q[ARM] = result.q[ARM]
            found.append(q)
    if not found:
        raise PlanningError(
            f'not one of {_TRIES * count} level motions of the hand can be reached from here: '
            'bring the arm further inside its workspace'
        )
    return np.stack(found)
