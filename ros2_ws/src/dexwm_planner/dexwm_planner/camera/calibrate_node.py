"""The node `calibrate`: finds where the camera is, with a ChArUco board in the robot's hand.

Somebody moves the arm (by hand guiding, or with any controller) from pose to pose; whenever it
rests with the board in sight, a view is taken. With enough of them the camera's pose is solved,
reported and written with its date. The node moves nothing.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from dexwm.calibration.board_view import BoardViewError
from dexwm.calibration.camera_pose import (
    MIN_VIEWS,
    CalibrationFailed,
    CameraPose,
    solve_camera_pose,
)
from dexwm.calibration.charuco_board import BoardError, CharucoBoard
from dexwm.calibration.collector import BoardCollector
from dexwm.calibration.hand_eye import DegeneratePosesError
from dexwm.calibration.lens import LensError
from dexwm.geometry.camera import CameraIntrinsics
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.camera_calibration import save_camera_calibration
from dexwm_franka_bringup.cell_config import CellConfigError, load_cell_config
from dexwm_franka_bringup.description import robot_description
from dexwm_planner.camera.lens_listener import LensListener
from dexwm_planner.planner.planner_inputs import PlannerInputs, StaleInputError

DEFAULT_OUTPUT = '~/.ros/dexwm/camera.yaml'

_PERIOD = 0.2
_REPEAT = timedelta(seconds=5)
_MORE_VIEWS = 4
_PRINT_PIXELS = 300
_SUSPICIOUS_SCALE = 0.005
_TIMEOUTS = {'image_timeout': 1.0, 'joint_state_timeout': 0.5, 'max_skew': 0.1}


class CalibrateNode(Node):
    """Collects views of the board and solves for the camera's pose.

    Attributes:
        found: the result, once there is one.

    Raises:
        ValueError: where a parameter cannot be used.
    """

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__('calibrate', **node_arguments)
        self.found: CameraPose | None = None
        default = CharucoBoard()
        self._board = CharucoBoard(
            columns=self._declare('board.columns', default.columns, 'squares along x'),
            rows=self._declare('board.rows', default.rows, 'squares along y'),
            square=self._declare('board.square', default.square, 'edge of a square, measured, m'),
            marker=self._declare('board.marker', default.marker, 'edge of a marker, m'),
            dictionary=self._declare('board.dictionary', default.dictionary, 'of the markers'),
        )
        self._print_to = self._declare(
            'print_board', '', 'PNG file for the board to print; then nothing else is done'
        )
        self._held_by = self._declare('held_by', 'palm_link', 'link that the board is fixed to')
        self._wanted = self._declare('views', 15, f'views to take, at least {MIN_VIEWS}')
        if self._wanted < MIN_VIEWS:
            raise ValueError(f'views is {self._wanted}: take at least {MIN_VIEWS}')
        output = self._declare('output', DEFAULT_OUTPUT, 'YAML file that the result goes to')
        self._output = Path(output).expanduser().absolute()
        cell = load_cell_config(
            self._declare('cell_config', '', "the cell's YAML file; empty: the installed one")
        )
        model = RobotModel.from_urdf(robot_description(cell, meshes=False))
        self._collector = BoardCollector(self._board, model, self._held_by)
        self._lens = LensListener(self)
        self._inputs = PlannerInputs(self, **_TIMEOUTS)
        self._intrinsics: CameraIntrinsics | None = None
        self._told = ''
        self._told_at = datetime.min.replace(tzinfo=UTC)
        self.create_timer(_PERIOD, self._look)

    def print_board(self) -> bool:
        """Writes the board's picture, if that was asked for; whether it was.

        Raises:
            ValueError: It cannot be written.
        """
        if not self._print_to:
            return False
        path = Path(self._print_to).expanduser().absolute()
        picture = self._board.picture(_PRINT_PIXELS)
        try:
            path.write_bytes(cv2.imencode('.png', picture)[1].tobytes())
        except OSError as error:
            raise ValueError(f'print_board: {error}') from error
        width, height = (n * self._board.square for n in (self._board.columns, self._board.rows))
        self.get_logger().info(
            f'{path}: print it {1e3 * width:.1f} mm wide and {1e3 * height:.1f} mm high with a '
            'white margin, glue it flat, and measure its squares'
        )
        return True

    def destroy_node(self) -> None:
        """Stops listening, then ends the node."""
        self._inputs.close()
        super().destroy_node()

    def _declare(self, name: str, default: Any, description: str) -> Any:
        descriptor = ParameterDescriptor(description=description, read_only=True)
        return self.declare_parameter(name, default, descriptor).value

    def _look(self) -> None:
        if self.found is not None:
            return
        try:
            lens = self._lens.lens()
            if lens is None:
                raise StaleInputError('no CameraInfo has come', True)
            seen = self._inputs.newest()
            if self._intrinsics not in (None, seen.intrinsics):
                raise LensError("the camera's matrix or picture size changed: start again")
            self._intrinsics = seen.intrinsics
            taken = self._collector.offer(
                seen.stamp_ns * 1e-9, seen.joint_positions, seen.image, seen.intrinsics, lens
            )
        except (BoardViewError, LensError, StaleInputError) as error:
            self._tell(str(error))
            return
        count = len(self._collector.views)
        if taken:
            self._tell(f'view {count} of {self._wanted}: move on')
        else:
            self._tell(f'{count} of {self._wanted} views: tilt and turn the board, then rest')
        if taken and count >= self._wanted:
            self._solve(seen.intrinsics)

    def _solve(self, intrinsics: CameraIntrinsics) -> None:
        try:
            found = solve_camera_pose(self._collector.views, intrinsics)
        except (CalibrationFailed, DegeneratePosesError) as error:
            self._wanted += _MORE_VIEWS
            self.get_logger().error(f'not solved: {error}. Going on with {_MORE_VIEWS} more views')
            return
        save_camera_calibration(self._output, found, intrinsics, self._held_by, datetime.now(UTC))
        self.get_logger().info(f'{describe(found)}\nwritten to {self._output}')
        if abs(found.scale - 1) > _SUSPICIOUS_SCALE:
            self.get_logger().warning(
                f'the squares look like {1e3 * found.scale * self._board.square:.2f} mm, not '
                f'{1e3 * self._board.square:.2f}: measure the print, and check the focal length'
            )
        self.found = found

    def _tell(self, text: str) -> None:
        """Says something when it is new, and again from time to time."""
        now = datetime.now(UTC)
        if text != self._told or now - self._told_at > _REPEAT:
            self._told, self._told_at = text, now
            self.get_logger().info(text)


def describe(found: CameraPose) -> str:
    """The result for people: pose, errors and residuals, view by view."""
    x, y, z = found.T_base_from_camera[:3, 3]
    lines = [
        f'camera at x {x:.4f}, y {y:.4f}, z {z:.4f} m in base, standard error '
        f'{1e3 * found.position_sigma:.2f} mm and {np.degrees(found.angle_sigma):.3f} degrees',
        f'reprojection error {found.reprojection_rms:.2f} pixels; board scale {found.scale:.4f}',
    ]
    for i, (pixels, shift, turn) in enumerate(
        zip(found.view_rms, found.residual_position, found.residual_angle, strict=True)
    ):
        left_out = ', left out' if i in found.outliers else ''
        lines.append(
            f'view {i + 1}: {pixels:.2f} pixels, {1e3 * shift:.1f} mm, '
            f'{np.degrees(turn):.2f} degrees{left_out}'
        )
    return '\n'.join(lines)


def main() -> int:
    """Runs the node until the camera's pose is found; 1 where it is not."""
    rclpy.init()
    node = None
    try:
        node = CalibrateNode()
        if node.print_board():
            return 0
        while node.found is None:
            rclpy.spin_once(node)
        return 0
    except (BoardError, BoardViewError, CellConfigError, OSError, ValueError) as error:
        print(f'calibrate: {error}', file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 1
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    sys.exit(main())
