"""Decides which moments become views: arm at rest, board seen, and not from there already."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from dexwm.calibration.board_view import BoardView, BoardViewError
from dexwm.calibration.charuco_board import CharucoBoard
from dexwm.calibration.lens import Lens
from dexwm.geometry.camera import CameraIntrinsics
from dexwm.geometry.rotations import inverse_pose
from dexwm.robot.model import RobotModel

STILL_RAD = 2e-3
STILL_SECONDS = 0.7
"""At rest: no joint moved further than this for so long."""

NEW_TURN = np.radians(8.0)
NEW_SHIFT = 0.05
"""A new pose is turned (rad) or shifted (m) at least so far from all that were taken."""


class BoardCollector:
    """Takes a view whenever the arm rests at a new pose with the board in sight.

    Attributes:
        views: what was taken so far.
    """

    def __init__(self, board: CharucoBoard, model: RobotModel, held_by: str) -> None:
        """Start with nothing.

        Args:
            board: what to look for.
            model: of the robot.
            held_by: link that the board is fixed to.

        Raises:
            BoardViewError: The robot has no such link; the message lists those there are.
        """
        if held_by not in model.frame_ids:
            raise BoardViewError(
                f'the robot has no link {held_by!r}: the board is held by one of '
                f'{", ".join(model.frame_ids)}'
            )
        self.views: list[BoardView] = []
        self._board, self._model, self._held_by = board, model, held_by
        self._rest: NDArray[np.float64] | None = None
        self._since = 0.0

    def offer(
        self,
        when: float,
        joint_positions: NDArray[np.float64],
        image: NDArray[np.uint8],
        intrinsics: CameraIntrinsics,
        lens: Lens,
    ) -> bool:
        """Takes a view, if this is a moment for one.

        Args:
            when: of the picture, s.
            joint_positions: (23,) at that time, rad.
            image: RGB (height, width, 3).
            intrinsics: of the picture.
            lens: its distortion.

        Returns:
            Whether one was taken.

        Raises:
            BoardViewError: It would be, but for what the picture shows.
        """
        if self._rest is None or np.abs(joint_positions - self._rest).max() > STILL_RAD:
            self._rest, self._since = np.array(joint_positions), when
        if when - self._since < STILL_SECONDS:
            return False
        hand = self._model.frame_pose(joint_positions, self._held_by)
        if not all(_differ(hand, view.T_base_from_hand) for view in self.views):
            return False
        self.views.append(BoardView.from_picture(image, self._board, hand, intrinsics, lens))
        return True


def _differ(T_base_from_a: NDArray[np.float64], T_base_from_b: NDArray[np.float64]) -> bool:
    motion = inverse_pose(T_base_from_a) @ T_base_from_b
    turn = Rotation.from_matrix(motion[:3, :3]).magnitude()
    return bool(turn >= NEW_TURN or np.linalg.norm(motion[:3, 3]) >= NEW_SHIFT)
