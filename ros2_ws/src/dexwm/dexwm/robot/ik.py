"""Inverse kinematics of the arm: damped least squares with a resting posture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pinocchio
from numpy.typing import ArrayLike, NDArray

from dexwm.robot.joints import ARM, ARM_JOINTS, JointLimits
from dexwm.robot.model import RobotModel


class IkTargetError(ValueError):
    """The target is not a pose."""


@dataclass(frozen=True)
class IkResult:
    """What the solver found.

    Attributes:
        q: Joint positions (23,), rad; inside the limits even where not converged.
        converged: Whether both errors are within tolerance.
        position_error: Distance of the frame's origin from the target's, m.
        rotation_error: Angle between the frame and the target, rad.
    """

    q: NDArray[np.float64]
    converged: bool
    position_error: float
    rotation_error: float


def solve_ik(
    model: RobotModel,
    frame: str,
    T_base_from_target: ArrayLike,
    q_seed: ArrayLike,
    limits: JointLimits,
    q_rest: ArrayLike | None = None,
    *,
    position_tolerance: float = 1e-4,
    rotation_tolerance: float = 1e-3,
    max_iterations: int = 200,
    max_step: float = 0.2,
    damping: float = 0.1,
    rest_gain: float = 0.1,
) -> IkResult:
    """Move the arm so that a frame reaches a pose; the hand's joints stay as in the seed.

    Levenberg-Marquardt whose damping shrinks with the squared error (Sugihara, "Solvability-
    unconcerned inverse kinematics by the Levenberg-Marquardt method", 2011), with a pull towards
    ``q_rest`` in the null space. A joint that an update would push through its limit is held
    there and the update is solved again without it.

    Args:
        model: The robot.
        frame: The frame to move.
        T_base_from_target: Its wanted pose (4, 4), m.
        q_seed: Joint positions (23,) to start from, rad. Other seeds may find other solutions.
        limits: Limits that name at least the arm's joints; apply a margin beforehand.
        q_rest: Posture (23,) to stay near where the target leaves a choice, rad; the seed if not
            given.
        position_tolerance: Largest position error of a converged solution, m.
        rotation_tolerance: Largest angle of a converged solution, rad.
        max_iterations: Updates to try.
        max_step: Largest change of a joint in one update, rad.
        damping: Damping for an error of 1 (m or rad); more is slower and calmer near singular
            postures.
        rest_gain: Part of the way to ``q_rest`` that one update goes, in the null space.

    Raises:
        IkTargetError: The target is not a rigid transform.
        RobotModelError: Unknown frame, or a joint vector of the wrong shape.
        JointLimitsError: The limits lack a joint of the arm.
    """
    target = _checked_pose(T_base_from_target)
    arm = limits.subset(ARM_JOINTS)
    q = np.array(q_seed, dtype=np.float64)
    rest = q.copy() if q_rest is None else np.array(q_rest, dtype=np.float64)
    for vector in (q, rest):
        model.to_pinocchio(vector)  # raises if it is not a joint vector
    q[ARM] = arm.clamp(q[ARM])

    for iteration in range(max_iterations + 1):
        error = _pose_error(model.frame_pose(q, frame), target)
        position_error = float(np.linalg.norm(error[:3]))
        rotation_error = float(np.linalg.norm(error[3:]))
        converged = position_error <= position_tolerance and rotation_error <= rotation_tolerance
        if converged or iteration == max_iterations:
            break
        step = _step(
            model.jacobian(q, frame)[:, ARM],
            error,
            rest_gain * (rest[ARM] - q[ARM]),
            lower=arm.lower - q[ARM],
            upper=arm.upper - q[ARM],
            damping=damping * float(error @ error) + 1e-8,
        )
        q[ARM] += step * min(1.0, max_step / max(float(np.abs(step).max()), 1e-12))
    return IkResult(q, converged, position_error, rotation_error)


def _step(
    jacobian: NDArray[np.float64],
    error: NDArray[np.float64],
    rest_step: NDArray[np.float64],
    *,
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    damping: float,
) -> NDArray[np.float64]:
    """Return an update (7,) between ``lower`` and ``upper`` that reduces the error (6,)."""
    step = np.zeros_like(rest_step)
    free = np.ones(len(step), dtype=bool)
    while free.any():
        part = jacobian[:, free]
        inverse = part.T @ np.linalg.inv(part @ part.T + damping * np.eye(6))
        null_space = np.eye(part.shape[1]) - inverse @ part
        remaining = error - jacobian[:, ~free] @ step[~free]
        step[free] = inverse @ remaining + null_space @ rest_step[free]
        outside = (step < lower) | (step > upper)
        if not (outside & free).any():
            break
        step = np.clip(step, lower, upper)
        free &= ~outside
    return step


def _pose_error(pose: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the way (m) and the turn (rotation vector, rad) from pose to target, in ``base``."""
    turn = pinocchio.log3(target[:3, :3] @ pose[:3, :3].T)
    return np.concatenate([target[:3, 3] - pose[:3, 3], turn])


def _checked_pose(pose: ArrayLike) -> NDArray[np.float64]:
    matrix = np.array(pose, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise IkTargetError(f'a target is a finite (4, 4) matrix, got {matrix}')
    rotation = matrix[:3, :3]
    if (
        not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
        or np.linalg.det(rotation) < 0.0
        or not np.allclose(matrix[3], [0.0, 0.0, 0.0, 1.0])
    ):
        raise IkTargetError(f'a target must be a rigid transform, got {matrix}')
    return matrix
