"""Hand-eye calibration in closed form: a first guess for the refinement.

For a camera fixed beside the arm and a board held by its hand,
``T_base_from_hand[i] @ T_hand_from_board == T_base_from_camera @ T_camera_from_board[i]``.
Two views eliminate the board: ``A X = X B`` with X the camera's pose, A the hand's motion in the
base and B the board's in the camera. Rotations first, then translations: Park and Martin, "Robot
sensor calibration: solving AX = XB on the Euclidean group", 1994.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from dexwm.geometry.rotations import inverse_pose


class DegeneratePosesError(ValueError):
    """Poses that leave the camera's pose open; the message says what is missing."""


def turn_spread(T_base_from_hand: ArrayLike) -> NDArray[np.float64]:
    """How far the hand was turned, about which axes.

    Args:
        T_base_from_hand: (n, 4, 4).

    Returns:
        (3,) root mean square of the rotations between pairs of poses along their three principal
        axes, descending, rad. The camera's pose is determined if the second is not small.
    """
    poses = np.asarray(T_base_from_hand, dtype=np.float64)
    vectors = _turns(poses)
    return np.asarray(np.linalg.svd(vectors, compute_uv=False) / np.sqrt(len(vectors)))


def solve_hand_eye(
    T_base_from_hand: ArrayLike, T_camera_from_board: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns T_base_from_camera and T_hand_from_board, (4, 4) each, m.

    Args:
        T_base_from_hand: (n, 4, 4), from the arm's joints.
        T_camera_from_board: (n, 4, 4), from the pictures.

    Raises:
        DegeneratePosesError: where there are fewer than three poses, or all turn about one axis.
    """
    hands = np.asarray(T_base_from_hand, dtype=np.float64)
    boards = np.asarray(T_camera_from_board, dtype=np.float64)
    if len(hands) < 3:
        raise DegeneratePosesError(f'{len(hands)} poses do not tell where the camera is: take 3')
    if turn_spread(hands)[1] < 1e-3:
        raise DegeneratePosesError('all poses are turned about one axis: turn about others, too')
    rotation = _nearest_rotation(_turns(hands).T @ _turns(boards))
    X = np.eye(4)
    X[:3, :3] = rotation
    rows, values = [], []
    for i, j in combinations(range(len(hands)), 2):
        A = hands[j] @ inverse_pose(hands[i])
        B = boards[j] @ inverse_pose(boards[i])
        rows.append(A[:3, :3] - np.eye(3))
        values.append(rotation @ B[:3, 3] - A[:3, 3])
    X[:3, 3] = np.linalg.lstsq(np.concatenate(rows), np.concatenate(values), rcond=None)[0]
    held = inverse_pose(hands) @ X @ boards
    Y = np.eye(4)
    Y[:3, :3] = Rotation.from_matrix(held[:, :3, :3]).mean().as_matrix()
    Y[:3, 3] = np.median(held[:, :3, 3], axis=0)
    return X, Y


def _turns(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation vectors (n (n - 1) / 2, 3) from each pose to each later one, rad."""
    first, second = np.array(list(combinations(range(len(poses)), 2))).T
    relative = poses[second, :3, :3] @ poses[first, :3, :3].swapaxes(1, 2)
    return np.asarray(Rotation.from_matrix(relative).as_rotvec())


def _nearest_rotation(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation R with the largest trace(R^T matrix)."""
    u, _, vt = np.linalg.svd(matrix)
    return np.asarray(u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt)
