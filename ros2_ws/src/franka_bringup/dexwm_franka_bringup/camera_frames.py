"""The head camera's two frames: its body (as URDF places it) and its optical frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from dexwm.geometry.rotations import euler_xyz

R_LINK_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""Rotation of an optical frame in its camera's body frame (REP-103)."""


def optical_pose(xyz: ArrayLike, rpy: ArrayLike) -> NDArray[np.float64]:
    """Pose of the optical frame, from that of the body frame as URDF writes it.

    Args:
        xyz: (3,) origin of the body frame, m.
        rpy: (3,) its roll, pitch, yaw about fixed x, y, z, rad.

    Returns:
        (4, 4).
    """
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler('xyz', rpy).as_matrix() @ R_LINK_FROM_OPTICAL
    pose[:3, 3] = xyz
    return pose


def body_pose(T_base_from_optical: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The inverse of `optical_pose`: xyz (m) and rpy (rad) of the body frame."""
    pose = np.asarray(T_base_from_optical, dtype=np.float64)
    return pose[:3, 3].copy(), euler_xyz(pose[:3, :3] @ R_LINK_FROM_OPTICAL.T)
