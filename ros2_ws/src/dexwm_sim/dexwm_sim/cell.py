"""The simulated cell: physics, joints in canonical order, objects."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.robot.joints import ARM, ARM_JOINTS, HAND, HAND_JOINTS, HOME, JOINTS
from dexwm_franka_bringup.cell_config import CellConfig
from dexwm_sim.robot_spec import BASE, FINGERTIPS, PALM, WRIST_SITE
from dexwm_sim.scene import TIMESTEP, apply_look, build_model
from dexwm_sim.scene_config import SceneConfig
from dexwm_sim.tasks import TaskState

_DROP_HEIGHT = 0.001
_SETTLING_TIME = 0.3
# Points inside an object, relative to the sides of the box around it (27, 3).
_INNER_GRID = 0.25 * np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=3)))


@dataclass(frozen=True)
class CellSnapshot:
    """A state of rest.

    Attributes:
        qpos: MuJoCo's generalised positions (nq,).
        command: Positions that the servos were sent (23,), rad: a hand that holds something is
            sent further than it gets.
    """

    qpos: NDArray[np.float64]
    command: NDArray[np.float64]


class CellError(ValueError):
    """A command or a question that the cell cannot answer."""


class Cell:
    """One scene with its state.

    Deterministic: the same scene and the same calls give the same state bit for bit.

    Attributes:
        config: The scene.
        model: Its MuJoCo model.
        data: Its state.
    """

    def __init__(
        self,
        config: SceneConfig,
        *,
        cell: CellConfig | None = None,
        timestep: float = TIMESTEP,
        arm_servos: bool = True,
        hand_servos: bool = True,
    ) -> None:
        """Builds the scene and puts it in its first state.

        Args:
            config: The scene.
            cell: Camera, mount of the hand and boxes; None: the project's configuration file.
            timestep: Simulation step (s).
            arm_servos: Whether the arm follows ``command``; else the caller applies torques.
            hand_servos: Whether the hand follows ``command`` and ``command_hand``; else it takes
                ``command_hand_torques``.
        """
        self._cell = cell
        self._timestep = timestep
        self._arm_servos = arm_servos
        self._hand_servos = hand_servos
        self._build(config)
        self.reset()

    def load(self, config: SceneConfig) -> None:
        """Changes to another scene and resets; quick if it has the same kinds of objects."""
        if tuple(item.kind for item in config.objects) == self.object_names:
            self.config = config
            apply_look(self.model, config)
        else:
            self._build(config)
        self.reset()

    def _build(self, config: SceneConfig) -> None:
        self.config = config
        self.model = build_model(
            config,
            cell=self._cell,
            timestep=self._timestep,
            arm_servos=self._arm_servos,
            hand_servos=self._hand_servos,
        )
        self.data = mujoco.MjData(self.model)
        model = self.model
        joints = [model.joint(name) for name in JOINTS]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._dof = np.array([joint.dofadr[0] for joint in joints])
        self._ctrl = np.array(
            [model.actuator(name).id for name in (JOINTS if self._arm_servos else HAND_JOINTS)]
        )
        # A position servo's damping pulls back a joint that moves as it should; the velocity
        # is fed forward through the position by this ratio.
        self._damping_time = (
            -model.actuator_biasprm[self._ctrl, 2] / (model.actuator_gainprm[self._ctrl, 0])
        )
        self.object_names = tuple(item.kind for item in config.objects)
        """Names of the objects; the first is the target."""
        self._object_qpos = {name: int(model.joint(name).qposadr[0]) for name in self.object_names}
        self._lowest = {}
        self._inner_points = {}
        for name in self.object_names:
            corners = _extent(model, name)
            self._lowest[name] = corners[0, 2]
            self._inner_points[name] = corners.mean(0) + _INNER_GRID * (corners[1] - corners[0])
        counter = model.geom('counter')
        self._counter_z = counter.pos[2] + counter.size[2]
        self._wrist = model.site(WRIST_SITE).id
        self._tips = np.array([model.body(name).id for name in FINGERTIPS])
        palm = model.body(PALM).id
        # Per geom: the object it belongs to, by its place in object_names, -1 for none.
        bodies = [model.body(name).id for name in self.object_names]
        root = model.body_rootid[model.geom_bodyid]
        self._geom_object = np.array([bodies.index(r) if r in bodies else -1 for r in root])
        base = model.body(BASE).id
        self._geom_robot = np.array([_is_below(model, b, base) for b in model.geom_bodyid])
        self._geom_hand = np.array([_is_below(model, b, palm) for b in model.geom_bodyid])

    def reset(
        self,
        positions: ArrayLike | None = None,
        object_poses: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Puts the objects where the scene has them, lets them settle, and sets the clock to 0.

        Args:
            positions: Joint positions of the robot (23,), rad; None: its resting posture.
            object_poses: Where some objects begin instead: position and quaternion xyzw (7,) in
                the base frame (m).

        Raises:
            CellError: If the scene has no object of a name.
        """
        model, data = self.model, self.data
        q = self._checked(HOME if positions is None else positions)
        mujoco.mj_resetData(model, data)
        for item in self.config.objects:
            start = self._object_qpos[item.kind]
            z = self._counter_z + _DROP_HEIGHT - self._lowest[item.kind]
            data.qpos[start : start + 3] = item.x, item.y, z
            data.qpos[start + 3 : start + 7] = math.cos(item.yaw / 2), 0, 0, math.sin(item.yaw / 2)
        for name, pose in (object_poses or {}).items():
            start = self._address(name)
            data.qpos[start : start + 7] = np.asarray(pose)[[0, 1, 2, 6, 3, 4, 5]]
        self._command_servos(q)
        for _ in range(round(_SETTLING_TIME / model.opt.timestep)):
            # The robot stands still meanwhile, whoever drives it.
            data.qpos[self._qpos] = q
            data.qvel[self._dof] = 0
            mujoco.mj_step(model, data)
        data.qpos[self._qpos] = q
        data.qvel[:] = 0
        data.time = 0.0
        mujoco.mj_forward(model, data)

    def snapshot(self) -> CellSnapshot:
        """Returns the state without its velocities."""
        if not (self._arm_servos and self._hand_servos):
            raise CellError('not all of the robot has servos in this cell')
        return CellSnapshot(self.data.qpos.copy(), self.data.ctrl[self._ctrl].copy())

    def restore(self, snapshot: CellSnapshot) -> None:
        """Sets a state at rest, and the clock to 0.

        Raises:
            CellError: If the snapshot is of a scene with other objects.
        """
        if snapshot.qpos.shape != self.data.qpos.shape:
            raise CellError(
                f'the snapshot has {snapshot.qpos.size} positions, this scene has '
                f'{self.data.qpos.size}: it is of a scene with other objects'
            )
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = snapshot.qpos
        self._command_servos(self._checked(snapshot.command))
        mujoco.mj_forward(self.model, self.data)

    def command(self, positions: ArrayLike, velocities: ArrayLike | None = None) -> None:
        """Sets the servos' targets.

        Args:
            positions: Joint positions (23,), rad.
            velocities: Joint velocities of the motion that passes there (23,), rad/s; None: 0.

        Raises:
            CellError: If a vector has another length or values that are not finite, or the arm
                or the hand has no servos.
        """
        if not (self._arm_servos and self._hand_servos):
            raise CellError(
                'not all of the robot has servos in this cell; use command_arm, command_hand'
            )
        target = self._checked(positions)
        if velocities is not None:
            target = target + self._damping_time * self._checked(velocities)
        self.data.ctrl[self._ctrl] = target

    def command_arm(self, positions: ArrayLike, velocities: ArrayLike | None = None) -> None:
        """Sets the targets of the arm's servos (7,), rad, as ``command`` does for all."""
        if not self._arm_servos:
            raise CellError('the arm has no servos in this cell')
        target = self._checked(positions, len(ARM_JOINTS))
        if velocities is not None:
            rate = self._checked(velocities, len(ARM_JOINTS))
            target = target + self._damping_time[ARM] * rate
        self.data.ctrl[self._ctrl[ARM]] = target

    def command_hand_torques(self, torques: ArrayLike) -> None:
        """Sets the torques of the hand's motors (16,), N m.

        Raises:
            CellError: If they are not 16 finite numbers, or the hand has servos.
        """
        if self._hand_servos:
            raise CellError('the hand has servos in this cell; use command_hand')
        self.data.ctrl[self._ctrl[-len(HAND_JOINTS) :]] = self._checked(torques, len(HAND_JOINTS))

    def command_hand(self, positions: ArrayLike, velocities: ArrayLike | None = None) -> None:
        """Sets the targets of the hand's servos (16,), rad, as ``command`` does for all."""
        if not self._hand_servos:
            raise CellError('the hand has no servos in this cell; use command_hand_torques')
        target = self._checked(positions, len(HAND_JOINTS))
        if velocities is not None:
            rate = self._checked(velocities, len(HAND_JOINTS))
            target = target + self._damping_time[-len(HAND_JOINTS) :] * rate
        self.data.ctrl[self._ctrl[-len(HAND_JOINTS) :]] = target

    def _command_servos(self, q: NDArray[np.float64]) -> None:
        """Sends what has servos to a posture (23,), rad."""
        if self._arm_servos:
            self.command_arm(q[ARM])
        if self._hand_servos:
            self.command_hand(q[HAND])

    def step(self, steps: int = 1) -> None:
        """Advances the simulation by a number of steps."""
        mujoco.mj_step(self.model, self.data, nstep=steps)
        # A step leaves the poses of the bodies where they were before it.
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def joint_positions(self) -> NDArray[np.float64]:
        """Returns the joint positions (23,), rad."""
        return self.data.qpos[self._qpos]

    def joint_velocities(self) -> NDArray[np.float64]:
        """Returns the joint velocities (23,), rad/s."""
        return self.data.qvel[self._dof]

    def hand_points(self) -> NDArray[np.float64]:
        """Returns wrist, index, middle, ring and thumb tip (5, 3) in the base frame (m)."""
        return np.vstack([self.data.site_xpos[self._wrist], self.data.xpos[self._tips]])

    def object_pose(self, name: str) -> NDArray[np.float64]:
        """Returns an object's position and quaternion xyzw (7,) in the base frame (m).

        Raises:
            CellError: If the scene has no such object.
        """
        start = self._address(name)
        pose = self.data.qpos[start : start + 7]
        return pose[[0, 1, 2, 4, 5, 6, 3]]

    def _address(self, name: str) -> int:
        """Returns where an object's position begins among the generalised positions."""
        if name not in self._object_qpos:
            raise CellError(f'no object {name!r} in the scene; there are {self.object_names}')
        return self._object_qpos[name]

    def objects_touched(self) -> frozenset[str]:
        """Returns the names of the objects in contact with the hand, palm included."""
        pairs = self.data.contact.geom[self.data.contact.dist <= 0]
        hand, objects = self._geom_hand[pairs], self._geom_object[pairs]
        touched = np.concatenate([objects[hand[:, 0], 1], objects[hand[:, 1], 0]])
        return frozenset(self.object_names[i] for i in touched if i >= 0)

    def is_visible(self, name: str, viewpoint: ArrayLike) -> bool:
        """Returns whether an object's centre is hidden by nothing but the object itself.

        Args:
            name: The object.
            viewpoint: Where it is looked at from (3,), in the base frame (m).

        Raises:
            CellError: If the scene has no such object.
        """
        return self._is_first_hit(name, viewpoint, self.object_pose(name)[:3])

    def visible_share(self, name: str, viewpoint: ArrayLike) -> float:
        """Returns how much of an object nothing but the object itself hides, from 0 to 1.

        Args:
            name: The object.
            viewpoint: Where it is looked at from (3,), in the base frame (m).

        Raises:
            CellError: If the scene has no such object.
        """
        start = self._address(name)
        rotation = np.empty(9)
        mujoco.mju_quat2Mat(rotation, self.data.qpos[start + 3 : start + 7])
        points = self._inner_points[name] @ rotation.reshape(3, 3).T
        points += self.data.qpos[start : start + 3]
        return float(np.mean([self._is_first_hit(name, viewpoint, point) for point in points]))

    def _is_first_hit(self, name: str, viewpoint: ArrayLike, point: ArrayLike) -> bool:
        """Whether a ray to a point inside an object meets that object first."""
        start = np.asarray(viewpoint, dtype=np.float64)
        hit = np.full((1, 1), -1, dtype=np.int32)
        shown = np.array([1, 1, 1, 0, 0, 0], dtype=np.uint8)
        mujoco.mj_ray(self.model, self.data, start, point - start, shown, 1, -1, hit)
        return bool(self._geom_object[hit[0, 0]] == self.object_names.index(name))

    def robot_in_contact(self) -> bool:
        """Returns whether the robot touches anything but itself."""
        robot = self._geom_robot[self.data.contact.geom[self.data.contact.dist <= 0]]
        return bool((robot[:, 0] != robot[:, 1]).any())

    def physics_warnings(self) -> list[str]:
        """Returns MuJoCo's names of what went wrong since the last reset; a good state has none.

        MuJoCo resets a state that blew up before it goes on.
        """
        return [
            mujoco.mjtWarning(kind).name
            for kind in range(len(self.data.warning))
            if self.data.warning[kind].number
        ]

    def task_state(self) -> TaskState:
        """Returns what the judges of the tasks look at."""
        positions = {name: self.object_pose(name)[:3] for name in self.object_names}
        return TaskState(self.hand_points(), positions, self.objects_touched())

    @staticmethod
    def _checked(vector: ArrayLike, length: int = len(JOINTS)) -> NDArray[np.float64]:
        values = np.asarray(vector, dtype=np.float64)
        if values.shape != (length,) or not np.isfinite(values).all():
            raise CellError(f'expected {length} finite numbers, one per joint, got {values!r}')
        return values


def _is_below(model: mujoco.MjModel, body: int, ancestor: int) -> bool:
    while body not in (0, ancestor):
        body = model.body_parentid[body]
    return body == ancestor


def _extent(model: mujoco.MjModel, name: str) -> NDArray[np.float64]:
    """Returns lowest and highest solid x, y, z of an unrotated object about its origin (2, 3)."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    body = model.body(name).id
    lows, highs = [], []
    for geom in range(model.ngeom):
        if model.body_rootid[model.geom_bodyid[geom]] != body or not model.geom_contype[geom]:
            continue
        if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH:
            mesh = model.mesh(model.geom_dataid[geom])
            first, count = mesh.vertadr[0], mesh.vertnum[0]
            rotation = data.geom_xmat[geom].reshape(3, 3)
            points = model.mesh_vert[first : first + count] @ rotation.T + data.geom_xpos[geom]
        else:
            # Upright box (x, y, z), cylinder (radius, z) or sphere (radius): half sizes.
            sizes = model.geom_size[geom][model.geom_size[geom] > 0]
            half = sizes[[0, 1 if len(sizes) == 3 else 0, -1]]
            points = data.geom_xpos[geom] + np.array([-half, half])
        lows.append(points.min(0))
        highs.append(points.max(0))
    return np.array([np.min(lows, axis=0), np.max(highs, axis=0)]) - data.xpos[body]
