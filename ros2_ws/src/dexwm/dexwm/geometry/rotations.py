"""Rigid motions as 4x4 matrices, and Euler angles."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation


def euler_xyz(rotation: ArrayLike) -> NDArray[np.float64]:
    """Euler angles about the fixed axes x, then y, then z (scipy's 'xyz').

    Args:
        rotation: (..., 3, 3) rotation matrices.

    Returns:
        (..., 3), rad; x and z in [-pi, pi], y in [-pi/2, pi/2].
    """
    matrices = np.asarray(rotation, dtype=np.float64)
    angles = Rotation.from_matrix(matrices.reshape(-1, 3, 3)).as_euler('xyz')
    return np.asarray(angles).reshape(*matrices.shape[:-2], 3)


def wrap_angle(angle: ArrayLike) -> NDArray[np.float64]:
    """The same angles, rad, in [-pi, pi)."""
    return (np.asarray(angle, dtype=np.float64) + np.pi) % (2 * np.pi) - np.pi


def inverse_pose(T_a_from_b: ArrayLike) -> NDArray[np.float64]:
    """T_b_from_a of rigid motions T_a_from_b (..., 4, 4)."""
    pose = np.asarray(T_a_from_b, dtype=np.float64)
    inverse = np.zeros_like(pose)
    rotation = pose[..., :3, :3].swapaxes(-1, -2)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3] = -np.einsum('...ij,...j->...i', rotation, pose[..., :3, 3])
    inverse[..., 3, 3] = 1.0
    return inverse


def relative_pose(T_world_from_a: ArrayLike, T_world_from_b: ArrayLike) -> NDArray[np.float64]:
    """T_a_from_b, (..., 4, 4), of two poses in one frame; leading axes broadcast."""
    return inverse_pose(T_world_from_a) @ np.asarray(T_world_from_b, dtype=np.float64)


def transform_points(T_a_from_b: ArrayLike, points_b: ArrayLike) -> NDArray[np.float64]:
    """Points (..., n, 3) given in frame b, in frame a.

    Args:
        T_a_from_b: (..., 4, 4), one pose for each set of n points; leading axes broadcast.
        points_b: (..., n, 3).
    """
    pose = np.asarray(T_a_from_b, dtype=np.float64)
    points = np.asarray(points_b, dtype=np.float64)
    return points @ pose[..., :3, :3].swapaxes(-1, -2) + pose[..., None, :3, 3]
