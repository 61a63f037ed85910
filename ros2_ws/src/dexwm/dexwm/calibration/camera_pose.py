"""Solves for the pose of a camera fixed beside the arm, and judges the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, least_squares
from scipy.spatial.transform import Rotation

from dexwm.calibration.board_view import BoardView
from dexwm.calibration.hand_eye import DegeneratePosesError, solve_hand_eye, turn_spread
from dexwm.geometry.camera import CameraIntrinsics
from dexwm.geometry.rotations import inverse_pose, transform_points

MIN_VIEWS = 8
"""Fewest views that are solved."""

MIN_TURN = np.radians(10.0)
"""Least root mean square of the hand's turns about the second of their principal axes, rad."""

MAX_RMS = 2.0
"""Largest reprojection error that is believed, root mean square, pixels."""

_ROBUST_PIXELS = 1.0
_FINEST_PIXELS = 0.3
_OUTLIER = 3.0
_NEAREST = 1e-3
_STEP = 1e-6


class CalibrationFailed(ValueError):
    """The views do not give a camera pose that can be trusted; the message says what to do."""


@dataclass(frozen=True)
class CameraPose:
    """Where the camera is, and how well that is known.

    Attributes:
        T_base_from_camera: (4, 4) pose of the optical frame in the arm's base, m.
        T_hand_from_board: (4, 4) how the board was held, m.
        reprojection_rms: of all corners, pixels.
        view_rms: (n,) the same for each view, pixels.
        residual_position: (n,) how far each view's board is from where the hand has it, m.
        residual_angle: (n,) by how much it is turned against that, rad.
        position_sigma: standard error of the camera's position, m.
        angle_sigma: standard error of its orientation, rad.
        scale: size of the board's squares that fits the arm's motions best, as a fraction of the
            size given. Far from 1, the print (or the camera's focal length) is not what was said.
        outliers: numbers of views that contradict the others.
    """

    T_base_from_camera: NDArray[np.float64]
    T_hand_from_board: NDArray[np.float64]
    reprojection_rms: float
    view_rms: NDArray[np.float64]
    residual_position: NDArray[np.float64]
    residual_angle: NDArray[np.float64]
    position_sigma: float
    angle_sigma: float
    scale: float
    outliers: tuple[int, ...]


def solve_camera_pose(views: Sequence[BoardView], intrinsics: CameraIntrinsics) -> CameraPose:
    """Solves for the camera's pose and the board's in the hand, eye-on-base.

    A closed form gives the first guess; then the distances in pixels between seen and projected
    corners of all views are minimised over both poses (12 numbers), with a loss that lets a bad
    view pull little (soft L1).

    Args:
        views: at different poses of the hand.
        intrinsics: of the camera, distortion taken out.

    Raises:
        DegeneratePosesError: where there are too few views, or the hand was not turned enough.
        CalibrationFailed: where the views contradict each other.
    """
    hands = np.array([view.T_base_from_hand for view in views])
    check_poses(hands)
    boards = np.array([view.T_camera_from_board(intrinsics) for view in views])
    problem = _Problem(intrinsics, *solve_hand_eye(hands, boards))
    fit = problem.fit(views)
    view_rms = problem.view_rms(fit.x, views)
    # The median: a few bad views are left out and named, many make a bad calibration.
    typical = float(np.median(view_rms))
    if typical > MAX_RMS:
        raise CalibrationFailed(
            f'the views contradict each other: seen and expected corners are {typical:.1f} '
            f'pixels apart in half of them, at most {MAX_RMS:g} are allowed. Either the board '
            'slipped in the hand, or the link that holds it, its size, the camera matrix or the '
            'joint states are not what was said'
        )
    outliers = np.flatnonzero(view_rms > _OUTLIER * max(typical, _FINEST_PIXELS))
    good = [i for i in range(len(views)) if i not in outliers]
    if len(good) < MIN_VIEWS:
        raise CalibrationFailed(
            f'views {[int(i) + 1 for i in outliers]} contradict the others, and without them too '
            'few are left: take more views, each with arm and board at rest'
        )
    check_poses(hands[good])
    kept = [views[i] for i in good]
    fit = problem.fit(kept)
    scaled = problem.fit(kept, with_scale=True)
    T_camera_from_base, T_hand_from_board = problem.poses(fit.x)
    T_base_from_camera = inverse_pose(T_camera_from_base)
    held = inverse_pose(hands @ T_hand_from_board) @ T_base_from_camera @ boards
    squared = problem.residuals(fit.x, kept) ** 2
    position_sigma, angle_sigma = problem.standard_errors(fit, kept)
    return CameraPose(
        T_base_from_camera=T_base_from_camera,
        T_hand_from_board=T_hand_from_board,
        reprojection_rms=float(np.sqrt(2 * squared.mean())),
        view_rms=problem.view_rms(fit.x, views),
        residual_position=np.linalg.norm(held[:, :3, 3], axis=1),
        residual_angle=Rotation.from_matrix(held[:, :3, :3]).magnitude(),
        position_sigma=position_sigma,
        angle_sigma=angle_sigma,
        scale=float(scaled.x[-1]),
        outliers=tuple(int(i) for i in outliers),
    )


def check_poses(T_base_from_hand: NDArray[np.float64]) -> None:
    """Checks that poses of the hand can tell where the camera is.

    Args:
        T_base_from_hand: (n, 4, 4).

    Raises:
        DegeneratePosesError: where they cannot; the message says which are missing.
    """
    if len(T_base_from_hand) < MIN_VIEWS:
        raise DegeneratePosesError(
            f'{len(T_base_from_hand)} views of the board are too few: take at least {MIN_VIEWS}'
        )
    first, second, _ = np.degrees(turn_spread(T_base_from_hand))
    if second < np.degrees(MIN_TURN):
        raise DegeneratePosesError(
            f'the hand was turned by {first:.0f} degrees about one axis but only {second:.0f} '
            f'about any other (root mean square, at least {np.degrees(MIN_TURN):.0f} are needed): '
            'tilt the board left and right as well as up and down, and turn it in its plane'
        )


class _Problem:
    """Reprojection residuals as a function of both poses, near a first guess.

    The unknowns x are a turn (rotation vector, rad) and a shift (m) of each pose in its own frame,
    away from the guess, so that no orientation is special; then, if asked for, the board's scale.
    """

    def __init__(
        self,
        intrinsics: CameraIntrinsics,
        T_base_from_camera: NDArray[np.float64],
        T_hand_from_board: NDArray[np.float64],
    ) -> None:
        self._intrinsics = intrinsics
        self._camera, self._board = inverse_pose(T_base_from_camera), T_hand_from_board

    def poses(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """T_camera_from_base and T_hand_from_board."""
        return self._camera @ _motion(x[:6]), self._board @ _motion(x[6:12])

    def residuals(self, x: NDArray[np.float64], views: Sequence[BoardView]) -> NDArray[np.float64]:
        """(2 n,) pixels between where corners should be and where they were seen."""
        T_camera_from_base, T_hand_from_board = self.poses(x)
        scale = x[12] if len(x) > 12 else 1.0
        parts = []
        for view in views:
            chain = T_camera_from_base @ view.T_base_from_hand @ T_hand_from_board
            points = transform_points(chain, scale * view.points_board)
            # A guess may put a corner behind the camera: there, too, a finite, large residual.
            points[:, 2] = np.maximum(points[:, 2], _NEAREST)
            parts.append(self._intrinsics.project(points) - view.pixels)
        return np.concatenate(parts).ravel()

    def view_rms(self, x: NDArray[np.float64], views: Sequence[BoardView]) -> NDArray[np.float64]:
        """(n,) root mean square distance of each view's corners, pixels."""
        return np.array([np.sqrt(2 * (self.residuals(x, [v]) ** 2).mean()) for v in views])

    def fit(self, views: Sequence[BoardView], *, with_scale: bool = False) -> OptimizeResult:
        start = np.append(np.zeros(12), [1.0] if with_scale else [])
        return least_squares(
            self.residuals, start, args=(views,), loss='soft_l1', f_scale=_ROBUST_PIXELS
        )

    def standard_errors(
        self, fit: OptimizeResult, views: Sequence[BoardView]
    ) -> tuple[float, float]:
        """Standard errors of the camera's position (m) and orientation (rad).

        From the linearised fit and how far views scatter, not corners: an arm that is not quite
        where its joints say moves all corners of a view alike (a sandwich estimate, clustered by
        view). What all views have in common, such as a wrong focal length, does not show.
        """
        residuals = self.residuals(fit.x, views)
        ends = np.cumsum([2 * len(view.pixels) for view in views])[:-1]
        pulls = np.array(
            [
                jacobian.T @ residual
                for jacobian, residual in zip(
                    np.split(fit.jac, ends), np.split(residuals, ends), strict=True
                )
            ]
        )
        # A view tells a pose, 6 numbers; 12 are solved for.
        correction = len(views) / (len(views) - 2)
        bread = np.linalg.pinv(fit.jac.T @ fit.jac)
        covariance = correction * bread @ pulls.T @ pulls @ bread
        change = np.array([self._change(fit.x, step) for step in _STEP * np.eye(12)]).T / _STEP
        variance = np.diag(change @ covariance @ change.T)
        return float(np.sqrt(variance[3:].sum())), float(np.sqrt(variance[:3].sum()))

    def _change(self, x: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.float64]:
        """(6,) the camera's turn (rad) and shift (m) in the base that a step makes."""
        before, after = (inverse_pose(self.poses(v)[0]) for v in (x, x + step))
        turn = Rotation.from_matrix(after[:3, :3] @ before[:3, :3].T).as_rotvec()
        return np.concatenate([turn, after[:3, 3] - before[:3, 3]])


def _motion(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(vector[:3]).as_matrix()
    pose[:3, 3] = vector[3:]
    return pose
