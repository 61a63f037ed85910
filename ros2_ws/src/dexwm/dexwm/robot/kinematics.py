"""Batched, differentiable forward kinematics of the hand's keypoints."""

from __future__ import annotations

import numpy as np
import pinocchio
import torch
from torch import Tensor

from dexwm.robot.joints import ARM_JOINTS, JOINTS
from dexwm.robot.keypoints import KEYPOINT_FRAMES
from dexwm.robot.model import RobotModel, RobotModelError

FINGERS = 4
JOINTS_PER_FINGER = 4


class BatchedKinematics(torch.nn.Module):
    """Keypoints of many joint vectors at once.

    A joint turns by ``R(q) = R0 (I + sin q K + (1 - cos q) K^2)`` (Rodrigues), with K the cross
    product matrix of its axis. The arm is a chain of 7, the four fingers are chains of 4 that run
    in parallel: 11 batched products for a whole robot.

    Constants are read from a :class:`~dexwm.robot.model.RobotModel`, as float64 buffers; convert
    with ``.float()`` or ``.to(device)`` as any module.
    """

    _constant: Tensor
    _sine: Tensor
    _versine: Tensor
    _origin: Tensor
    _point_joint: Tensor
    _point_offset: Tensor

    def __init__(
        self,
        rotation: Tensor,
        origin: Tensor,
        axis: Tensor,
        point_joint: Tensor,
        point_offset: Tensor,
    ) -> None:
        """Take the tree's constants; see :meth:`from_model`.

        Args:
            rotation: Each joint's rotation at q = 0 in its parent (23, 3, 3).
            origin: Each joint's origin in its parent (23, 3), m.
            axis: Each joint's axis (23, 3), unit length.
            point_joint: The joint that carries each keypoint (21,).
            point_offset: Each keypoint in that joint's frame (21, 3), m.
        """
        super().__init__()
        x, y, z = axis.unbind(-1)
        zero = torch.zeros_like(x)
        cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
        for name, value in {
            '_constant': rotation,
            '_sine': rotation @ cross,
            '_versine': rotation @ cross @ cross,
            '_origin': origin,
            '_point_joint': point_joint,
            '_point_offset': point_offset,
        }.items():
            self.register_buffer(name, value)

    @classmethod
    def from_model(cls, model: RobotModel) -> BatchedKinematics:
        """Read the constants from a robot model.

        Raises:
            RobotModelError: The tree is not an arm of 7 joints with four fingers of 4 on its end.
        """
        pin = model.pinocchio_model
        ids = [pin.getJointId(name) for name in JOINTS]
        wrist = len(ARM_JOINTS) - 1
        for i, joint in enumerate(ids):
            first_of_finger = i > wrist and (i - wrist - 1) % JOINTS_PER_FINGER == 0
            expected = 0 if i == 0 else ids[wrist if first_of_finger else i - 1]
            if pin.parents[joint] != expected:
                raise RobotModelError(
                    f'{JOINTS[i]} must be a child of {pin.names[expected]}, '
                    f'not of {pin.names[pin.parents[joint]]}'
                )
        # In its own frame, a joint's Jacobian is the joint's axis. This also holds for joints
        # that Pinocchio does not name by their axis, such as the thumb's about -x.
        data, neutral = pin.createData(), pinocchio.neutral(pin)
        axes = [
            pinocchio.computeJointJacobian(pin, data, neutral, joint)[3:, pin.joints[joint].idx_v]
            for joint in ids
        ]
        placements = [pin.jointPlacements[joint] for joint in ids]
        frames = [pin.frames[model.frame_ids[name]] for name in KEYPOINT_FRAMES.values()]
        return cls(
            rotation=torch.from_numpy(np.stack([p.rotation for p in placements])),
            origin=torch.from_numpy(np.stack([p.translation for p in placements])),
            axis=torch.from_numpy(np.stack(axes)),
            point_joint=torch.tensor([ids.index(frame.parentJoint) for frame in frames]),
            point_offset=torch.from_numpy(
                np.stack([frame.placement.translation for frame in frames])
            ),
        )

    def forward(self, q: Tensor) -> Tensor:
        """Return the keypoints (..., 21, 3) in ``base`` at joint positions ``q`` (..., 23), m.

        Raises:
            ValueError: ``q`` has not 23 columns or another dtype than the module.
        """
        if q.shape[-1:] != (len(JOINTS),):
            raise ValueError(
                f'expected (..., {len(JOINTS)}) joint positions, got {tuple(q.shape)}'
            )
        if q.dtype != self._origin.dtype:
            raise ValueError(
                f'joint positions are {q.dtype}, the kinematics {self._origin.dtype}: '
                'convert one with .to()'
            )
        angle = q[..., None, None]
        turn = self._constant + angle.sin() * self._sine + (1 - angle.cos()) * self._versine

        rotation, position = turn[..., 0, :, :], self._origin[0].expand(*q.shape[:-1], 3)
        rotations, positions = [rotation], [position]
        for i in range(1, len(ARM_JOINTS)):
            position = position + rotation @ self._origin[i]
            rotation = rotation @ turn[..., i, :, :]
            rotations.append(rotation)
            positions.append(position)

        finger_turn = turn[..., len(ARM_JOINTS) :, :, :].unflatten(
            -3, (FINGERS, JOINTS_PER_FINGER)
        )
        finger_origin = self._origin[len(ARM_JOINTS) :].unflatten(0, (FINGERS, JOINTS_PER_FINGER))
        rotation, position = rotation[..., None, :, :], position[..., None, :]
        finger_rotations, finger_positions = [], []
        for i in range(JOINTS_PER_FINGER):
            position = position + _rotate(rotation, finger_origin[:, i])
            rotation = rotation @ finger_turn[..., i, :, :]
            finger_rotations.append(rotation)
            finger_positions.append(position)

        all_rotations = torch.cat(
            [torch.stack(rotations, -3), torch.stack(finger_rotations, -3).flatten(-4, -3)], -3
        )
        all_positions = torch.cat(
            [torch.stack(positions, -2), torch.stack(finger_positions, -2).flatten(-3, -2)], -2
        )
        return all_positions[..., self._point_joint, :] + _rotate(
            all_rotations[..., self._point_joint, :, :], self._point_offset
        )


def _rotate(rotation: Tensor, vector: Tensor) -> Tensor:
    """Return the vectors (..., 3) turned by the rotations (..., 3, 3)."""
    return (rotation @ vector[..., None])[..., 0]
