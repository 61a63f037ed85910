"""From joint waypoints to what the world model is told about them.

The same numbers as `dexwm.data.actions` makes of recorded frames, in torch: batched over
candidates and differentiable. The camera stands still, so its rows of the action are zero (paper,
appendix B); the left hand is unknown, so its rows are zero too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dexwm.data.actions import ActionOptions
from dexwm.data.episode import HAND_KEYPOINTS, KEYPOINTS_PER_HAND
from dexwm.geometry.camera import CameraIntrinsics
from dexwm.geometry.heatmaps import HEATMAP_KEYPOINTS
from dexwm.geometry.rotations import inverse_pose
from dexwm.planning.errors import PlanningError
from dexwm.planning.observation import Observation
from dexwm.robot.kinematics import BatchedKinematics

RIGHT_HEATMAP_KEYPOINTS: tuple[int, ...] = tuple(
    row - KEYPOINTS_PER_HAND for row in HEATMAP_KEYPOINTS if row >= KEYPOINTS_PER_HAND
)
"""Rows of a hand's 21 keypoints that heat maps show: wrist and five tips."""

RIGHT_HAND = slice(len(HEATMAP_KEYPOINTS) - len(RIGHT_HEATMAP_KEYPOINTS), len(HEATMAP_KEYPOINTS))
"""Rows of the 12 heat map keypoints that belong to the robot's hand."""

_RIGHT_ROWS = slice(KEYPOINTS_PER_HAND, HAND_KEYPOINTS)


class JointActions:
    """Actions of candidates that all start from one observation.

    Attributes:
        start: (23,) joint positions at the observation, rad.
        intrinsics: the camera of the input picture.
    """

    def __init__(
        self,
        kinematics: BatchedKinematics,
        options: ActionOptions,
        observation: Observation,
        intrinsics: CameraIntrinsics,
    ) -> None:
        """Prepares what all candidates share.

        Args:
            kinematics: of float32, where the candidates are.
            options: what the model is told.
            observation: where the candidates start.
            intrinsics: the camera of the input picture, after preprocessing.

        Raises:
            PlanningError: where the model is not told about the hand, so that no motion of it
                could be planned.
        """
        if KEYPOINTS_PER_HAND not in options.keypoint_rows:
            raise PlanningError(
                f"the model's actions ('{options.subset}') do not tell it where the right hand "
                'goes: it can only predict camera motion. Use a model of another action subset'
            )
        self._kinematics, self._options = kinematics, options
        device = next(kinematics.buffers()).device
        self._rows = torch.tensor(options.keypoint_rows, device=device)
        pose = inverse_pose(np.asarray(observation.T_base_from_camera))
        T_camera_from_base = torch.from_numpy(pose).float().to(device)
        self._rotation, self._translation = T_camera_from_base[:3, :3], T_camera_from_base[:3, 3]
        self.start = torch.from_numpy(observation.joint_positions).float().to(device)
        self.start_keypoints_base = kinematics(self.start)
        self.intrinsics = intrinsics
        self._visible = torch.tensor(RIGHT_HEATMAP_KEYPOINTS, device=device)

    def keypoints(self, joints: Tensor) -> Tensor:
        """The hand's keypoints (..., 21, 3) in the base, metres, at joints (..., 23), rad."""
        points: Tensor = self._kinematics(joints)
        return points

    def conditioning(self, keypoints_base: Tensor) -> Tensor:
        """What the model is told about the steps to hand keypoints.

        Args:
            keypoints_base: (N, T, 21, 3), metres.

        Returns:
            (N, T, A), step t leading to waypoint t.
        """
        count, steps = keypoints_base.shape[:2]
        start = self.start_keypoints_base.expand(count, 1, -1, -1)
        hand = self._to_camera(torch.cat([start, keypoints_base], dim=1))
        both = hand.new_zeros(count, steps + 1, HAND_KEYPOINTS, 3)
        # Written once and never again: autograd follows.
        both[:, :, _RIGHT_ROWS] = hand
        told = both[:, :, self._rows]
        parts = [told.diff(dim=1), told.new_zeros(count, steps, 2, 3)]
        if self._options.absolute:
            parts.append(told[:, :-1])
        if self._options.pixels:
            seen = hand.new_zeros(both.shape)
            seen[:, :, _RIGHT_ROWS] = self._seen(hand)
            seen = seen[:, :, self._rows]
            parts += [seen[:, :-1], seen[:, 1:]]
        return torch.cat(parts, dim=2).flatten(2)

    def __call__(self, joints: Tensor) -> tuple[Tensor, Tensor]:
        """What the model is told about joint waypoints.

        Args:
            joints: (N, T, 23), rad.

        Returns:
            Conditioning (N, T, A), and the hand's keypoints in the base (N, T, 21, 3), metres.
        """
        keypoints = self.keypoints(joints)
        return self.conditioning(keypoints), keypoints

    def project(self, keypoints_base: Tensor) -> tuple[Tensor, Tensor]:
        """Where the 12 heat map keypoints are in the input picture.

        Args:
            keypoints_base: (..., 21, 3), metres.

        Returns:
            Pixels (..., 12, 2), columns and rows; depths (..., 12) along the camera's axis,
            metres. NaN for the left hand; pixels NaN for points behind the camera.
        """
        points = self._to_camera(keypoints_base[..., self._visible, :])
        depth = points[..., 2]
        shown = self._seen(points)[..., :2]
        right = torch.where(depth[..., None] > 0, shown, torch.nan)
        left = torch.full_like(right, torch.nan)
        return torch.cat([left, right], dim=-2), torch.cat([left[..., 0], depth], dim=-1)

    def unproject(self, pixels: Tensor, depths: Tensor) -> Tensor:
        """Points of the base (..., 3), metres, at pixels (..., 2) of the input picture.

        Args:
            pixels: columns and rows.
            depths: (...) along the camera's axis, metres.
        """
        camera = self.intrinsics
        points = torch.stack(
            [
                (pixels[..., 0] - camera.cx) / camera.fx * depths,
                (pixels[..., 1] - camera.cy) / camera.fy * depths,
                depths,
            ],
            dim=-1,
        )
        return (points - self._translation) @ self._rotation

    def _seen(self, points: Tensor) -> Tensor:
        """Pixels and depths (..., 3) of points in the camera; zero behind it."""
        camera = self.intrinsics
        in_front = points[..., 2:] > 0
        z = torch.where(in_front[..., 0], points[..., 2], 1.0)
        u = camera.fx * points[..., 0] / z + camera.cx
        v = camera.fy * points[..., 1] / z + camera.cy
        return torch.where(in_front, torch.stack([u, v, z], dim=-1), 0.0)

    def _to_camera(self, points_base: Tensor) -> Tensor:
        return points_base @ self._rotation.T + self._translation
