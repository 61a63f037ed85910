"""The robot's rigid-body model: Pinocchio, spoken to in the canonical joint order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pinocchio
from numpy.typing import ArrayLike, NDArray

from dexwm.robot.joints import JOINTS
from dexwm.robot.keypoints import KEYPOINT_FRAMES


class RobotModelError(ValueError):
    """The description, a frame's name or a joint vector does not fit the robot."""


class RobotModel:
    """Kinematics of the 23 joints.

    All joint vectors are in the canonical order of :data:`dexwm.robot.joints.JOINTS`. Pinocchio
    sorts joints its own way; this class converts by name, and nobody else has to.

    An object holds scratch memory: use one per thread.

    Attributes:
        pinocchio_model: The wrapped model.
        pinocchio_index: Index (23,) of each canonical joint in Pinocchio's joint vector.
        frame_ids: Pinocchio's index of each link's frame, by the link's name.
    """

    def __init__(self, pinocchio_model: Any) -> None:
        """Wrap a Pinocchio model; see :meth:`from_urdf`."""
        names = list(pinocchio_model.names)[1:]
        if missing := [name for name in JOINTS if name not in names]:
            raise RobotModelError(f'the robot description lacks the joints {missing}')
        if extra := [name for name in names if name not in JOINTS]:
            raise RobotModelError(
                f'the robot description has movable joints that are not ours: {extra}'
            )
        self.pinocchio_model = pinocchio_model
        self.pinocchio_index = np.array(
            [pinocchio_model.joints[pinocchio_model.getJointId(name)].idx_q for name in JOINTS]
        )
        self.frame_ids: dict[str, int] = {
            frame.name: i
            for i, frame in enumerate(pinocchio_model.frames)
            if frame.type == pinocchio.FrameType.BODY
        }
        self._keypoint_ids = [self._frame_id(name) for name in KEYPOINT_FRAMES.values()]
        self._data = pinocchio_model.createData()

    @classmethod
    def from_urdf(cls, urdf_xml: str) -> RobotModel:
        """Read a URDF given as text.

        Raises:
            RobotModelError: It is not a URDF, or not one of this robot.
        """
        try:
            model = pinocchio.buildModelFromXML(urdf_xml)
        except (RuntimeError, ValueError) as error:
            raise RobotModelError(f'cannot read the robot description: {error}') from error
        return cls(model)

    def to_pinocchio(self, q: ArrayLike) -> NDArray[np.float64]:
        """Return canonical joint positions (23,) in Pinocchio's order.

        Raises:
            RobotModelError: Wrong shape or not finite.
        """
        values = np.asarray(q, dtype=np.float64)
        if values.shape != (len(JOINTS),):
            raise RobotModelError(f'expected {len(JOINTS)} joint positions, got {values.shape}')
        if not np.isfinite(values).all():
            raise RobotModelError(f'joint positions must be finite, got {values}')
        result = np.empty(len(JOINTS))
        result[self.pinocchio_index] = values
        return result

    def frame_pose(self, q: ArrayLike, frame: str) -> NDArray[np.float64]:
        """Return ``T_base_from_frame`` (4, 4) at joint positions ``q`` (23,), m.

        Raises:
            RobotModelError: Unknown frame, or ``q`` has the wrong shape or is not finite.
        """
        frame_id = self._frame_id(frame)
        pinocchio.forwardKinematics(self.pinocchio_model, self._data, self.to_pinocchio(q))
        pose = pinocchio.updateFramePlacement(self.pinocchio_model, self._data, frame_id)
        return np.array(pose.homogeneous)

    def keypoints(self, q: ArrayLike) -> NDArray[np.float64]:
        """Return the hand's keypoints (21, 3) in ``base`` at joint positions ``q`` (23,), m.

        Their order is :data:`dexwm.robot.keypoints.KEYPOINTS`.

        Raises:
            RobotModelError: ``q`` has the wrong shape or is not finite.
        """
        pinocchio.framesForwardKinematics(self.pinocchio_model, self._data, self.to_pinocchio(q))
        return np.stack([self._data.oMf[i].translation for i in self._keypoint_ids])

    def jacobian(self, q: ArrayLike, frame: str) -> NDArray[np.float64]:
        """Return the Jacobian (6, 23) of a frame at joint positions ``q`` (23,).

        Rows: velocity of the frame's origin (m/s), then its angular velocity (rad/s), both along
        the axes of ``base``. Columns: canonical joints.

        Raises:
            RobotModelError: Unknown frame, or ``q`` has the wrong shape or is not finite.
        """
        jacobian = pinocchio.computeFrameJacobian(
            self.pinocchio_model,
            self._data,
            self.to_pinocchio(q),
            self._frame_id(frame),
            pinocchio.ReferenceFrame.LOCAL_WORLD_ALIGNED,
        )
        return np.array(jacobian[:, self.pinocchio_index])

    def _frame_id(self, name: str) -> int:
        try:
            return self.frame_ids[name]
        except KeyError:
            raise RobotModelError(
                f'unknown frame {name!r}; known are {sorted(self.frame_ids)}'
            ) from None
