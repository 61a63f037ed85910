"""The planner node's parameters."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from dexwm_franka_bringup.camera_calibration import DEFAULT_MAX_AGE
from dexwm_planner.planner.goal_library import DEFAULT_FOLDER


class PlannerParameters:
    """Declares the parameters on a node and reads them; all are read once, at the start.

    Attributes:
        model: folder of the world model.
        preset: how plans are made unless a goal says; empty: as its task's default.
        device: where the model computes.
        threads: of PyTorch on the CPU; 0: as many as it likes.
        image_timeout: age at which a picture is too old, s.
        joint_state_timeout: age at which joint states are too old, s.
        max_skew: largest time between a picture and the joint states beside it, s.
        execute_timeout: longest time that a motion may take, s.
        close_hand: whether the closing rule ends a grasp.
        goals: folder of the goal library.
        cell_config: path of the cell's YAML file; empty for that of dexwm_franka_bringup.
        camera_calibration: file of the tool `calibrate`; empty for the pose in cell_config.
        calibration_max_age: age from which that file is called stale, days.
        autostart: whether the node configures and activates itself.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self.model = self._text('model', '', 'folder of the world model')
        self.preset = self._text(
            'preset', '', "how plans are made, by name; empty: by the default of the goal's task"
        )
        self.device = self._text('device', 'cpu', 'where the model computes: cpu or cuda')
        self.threads = int(
            self._declare(
                'threads',
                0,
                'threads of PyTorch on the CPU; 0: as many as it likes',
                integer_range=[IntegerRange(from_value=0, to_value=256)],
            )
        )
        self.image_timeout = self._seconds(
            'image_timeout', 1.0, 'age of a picture that is too old'
        )
        self.joint_state_timeout = self._seconds(
            'joint_state_timeout', 0.5, 'age of joint states that are too old'
        )
        self.max_skew = self._seconds(
            'max_skew', 0.2, 'largest time between a picture and the joint states beside it'
        )
        self.execute_timeout = self._seconds(
            'execute_timeout', 120.0, 'longest time that a motion may take'
        )
        self.close_hand = bool(
            self._declare('close_hand', True, 'whether a grasp ends with closing and lifting')
        )
        self.goals = self._text('goals', str(DEFAULT_FOLDER), 'folder of the goal library')
        self.cell_config = self._text(
            'cell_config', '', "the cell's YAML file; empty: the one of dexwm_franka_bringup"
        )
        self.camera_calibration = self._text(
            'camera_calibration',
            '',
            "camera pose as the tool calibrate wrote it; empty: the cell configuration's",
        )
        self.calibration_max_age = float(
            self._declare(
                'calibration_max_age',
                DEFAULT_MAX_AGE / timedelta(days=1),
                'age from which a camera calibration is called stale, days',
                floating_point_range=[FloatingPointRange(from_value=0.01, to_value=3650.0)],
            )
        )
        self.autostart = bool(
            self._declare('autostart', True, 'whether the node configures and activates itself')
        )

    def _declare(self, name: str, default: Any, description: str, **ranges: Any) -> Any:
        descriptor = ParameterDescriptor(description=description, read_only=True, **ranges)
        return self._node.declare_parameter(name, default, descriptor).value

    def _text(self, name: str, default: str, description: str) -> str:
        return str(self._declare(name, default, description))

    def _seconds(self, name: str, default: float, description: str) -> float:
        span = FloatingPointRange(from_value=0.01, to_value=3600.0)
        return float(
            self._declare(name, default, f'{description}, s', floating_point_range=[span])
        )
