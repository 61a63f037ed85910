"""The cell as a robot: controllers in, joint states out. Knows no ROS and no clock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from allegro_driver.simulated_hand import SimulatedHand
from dexwm.control.joint_trajectory_controller import JointTrajectoryController
from dexwm.control.trajectory import JointTrajectory
from dexwm.robot.joints import ARM_JOINTS, HAND, HAND_JOINTS, JOINTS, robot_limits
from dexwm_sim.cell import Cell, CellSnapshot

ARM_CONTROLLER = 'fr3_arm_controller'
HAND_CONTROLLER = 'allegro_hand_controller'

_RESET_TIMEOUT = 10.0


class SimulationError(RuntimeError):
    """The physics has left what can be computed with, or does not run."""


@dataclass(frozen=True)
class RobotSnapshot:
    """State of the cell at one instant.

    Attributes:
        stamp_ns: System time at which the state holds (ns).
        sim_time: Simulated time since the start or the last reset (s).
        positions: Joint positions, canonical order (23,), rad.
        velocities: Joint velocities (23,), rad/s.
        efforts: Torques of the joints' drives (23,), N m.
        references: Where each controller holds or wants its joints, by joint, rad.
        object_poses: Pose of each object by name: position (m) and quaternion xyzw (7,).
        objects_touched: Names of the objects in contact with the hand.
    """

    stamp_ns: int
    sim_time: float
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    efforts: NDArray[np.float64]
    references: dict[str, float]
    object_poses: dict[str, NDArray[np.float64]]
    objects_touched: frozenset[str]


class SimulatedRobot:
    """Two joint trajectory controllers in front of the cell's servos.

    `step` belongs to one thread, the physics; the other methods may be called from any.
    """

    def __init__(
        self,
        cell: Cell,
        arm_controller: bool = True,
        start: CellSnapshot | None = None,
        hand: SimulatedHand | None = None,
    ) -> None:
        """Take over a cell.

        Args:
            cell: The cell, made without arm servos if `arm_controller` is false.
            arm_controller: Whether the arm follows trajectories, or something else drives it.
            start: State that the cell starts in and is reset to; None: the scene's first. An arm
                or a hand without servos takes only the robot's posture from it.
            hand: The hand's end of a CAN bus, whose driver moves the hand of a cell without hand
                servos; None: the hand follows trajectories.
        """
        self.cell = cell
        self._start = start
        self._has_servos = arm_controller and hand is None
        self._hand = hand
        self._step_ns = round(cell.model.opt.timestep * 1e9)
        self._dof = np.array([cell.model.joint(name).dofadr[0] for name in JOINTS])
        q = self._begin()
        limits = robot_limits()
        names = {}
        if hand is None:
            names[HAND_CONTROLLER] = HAND_JOINTS
        if arm_controller:
            names[ARM_CONTROLLER] = ARM_JOINTS
        self._controllers = {
            controller: JointTrajectoryController(
                joints, q[[JOINTS.index(name) for name in joints]], limits
            )
            for controller, joints in names.items()
        }
        self._stamp_ns = 0
        self._wanted_reset: Callable[[], None] | None = None
        self._reset_lock = threading.Lock()

    @property
    def controllers(self) -> tuple[str, ...]:
        """Names of the controllers."""
        return tuple(self._controllers)

    def controller(self, name: str) -> JointTrajectoryController:
        """The controller of that name."""
        return self._controllers[name]

    @property
    def stamp_ns(self) -> int:
        """Time that the present state stands for (ns); 0 before the first step."""
        return self._stamp_ns

    def accept(self, controller: str, trajectory: JointTrajectory | None, stamp_ns: int) -> None:
        """Give a controller a trajectory, or None to cancel the one it follows.

        Args:
            controller: Name of the controller.
            trajectory: What to follow.
            stamp_ns: Time of the trajectory's start (ns); 0 means now.

        Raises:
            TrajectoryRejected: With the reason; what ran before still runs.
        """
        self._controllers[controller].accept(trajectory, stamp_ns, self._stamp_ns)

    def step(self, stamp_ns: int) -> None:
        """Advance by one step of the physics.

        Args:
            stamp_ns: Time that the state before the step stands for (ns).

        Raises:
            SimulationError: If the physics diverged.
        """
        if self._wanted_reset is not None:
            self._wanted_reset()
        self._command(stamp_ns)
        self._advance()
        self._stamp_ns = stamp_ns + self._step_ns
        if self.cell.data.warning[mujoco.mjtWarning.mjWARN_BADQACC].number:
            raise SimulationError('MuJoCo reports accelerations out of bounds: the scene exploded')

    def snapshot(self) -> RobotSnapshot:
        """Copy the state. For the thread that steps."""
        cell = self.cell
        return RobotSnapshot(
            stamp_ns=self._stamp_ns,
            sim_time=cell.data.time,
            positions=cell.joint_positions(),
            velocities=cell.joint_velocities(),
            efforts=(cell.data.qfrc_actuator + cell.data.qfrc_applied)[self._dof],
            references=self._references(),
            object_poses={name: cell.object_pose(name) for name in cell.object_names},
            objects_touched=cell.objects_touched(),
        )

    def _references(self) -> dict[str, float]:
        return {
            name: float(position)
            for controller in self._controllers.values()
            for name, position in zip(
                controller.names, controller.sample(self._stamp_ns).positions, strict=True
            )
        }

    def diagnostics(self) -> dict[str, str]:
        """What a person may want to know about the physics, by name."""
        values = {'sim_time': f'{self.cell.data.time:.3f}'}
        if self._hand is not None:
            values['hand_servo_on'] = str(self._hand.servo_on)
            values['hand_answers_missed'] = str(self._hand.stretched)
        return values

    def reset(self) -> None:
        """Put the scene back to its start between two steps, and wait until that is done.

        Raises:
            SimulationError: If nothing steps the physics.
        """
        done = threading.Event()

        def reset() -> None:
            self._wanted_reset = None
            self._reset()
            done.set()

        with self._reset_lock:
            self._wanted_reset = reset
            if not done.wait(_RESET_TIMEOUT):
                raise SimulationError('The physics does not run: nothing was reset.')

    def set_user_stop(self, pressed: bool) -> None:
        """Press or release the arm's user stop.

        Raises:
            SimulationError: If the arm has none.
        """
        raise SimulationError("The user stop is the FCI's: start the cell with arm: fci.")

    @property
    def clock(self) -> Callable[[], int] | None:
        """The robot's own time (ns), to be that of the simulation; None: the system's."""
        return None

    def close(self) -> None:
        """End what goes on besides the steps."""

    def _begin(self) -> NDArray[np.float64]:
        """Put the cell into its start; return what the controllers hold (23,), rad."""
        if self._start is None:
            self.cell.reset()
            return self.cell.joint_positions()
        if self._has_servos:
            self.cell.restore(self._start)
        else:
            self.cell.reset(self._start.command)
        # A hand that holds something is sent further than it gets.
        return self._start.command

    def _reset(self) -> None:
        q = dict(zip(JOINTS, self._begin(), strict=True))
        for controller in self._controllers.values():
            controller.hold([q[name] for name in controller.names])

    def _command(self, stamp_ns: int) -> None:
        arm = self._controllers[ARM_CONTROLLER].sample(stamp_ns)
        self.cell.command_arm(arm.positions, arm.velocities)
        self._command_hand(stamp_ns)

    def _command_hand(self, stamp_ns: int) -> None:
        if self._hand is None:
            hand = self._controllers[HAND_CONTROLLER].sample(stamp_ns)
            self.cell.command_hand(hand.positions, hand.velocities)
        else:
            positions = self.cell.joint_positions()[HAND]
            self.cell.command_hand_torques(self._hand.step(positions, self._step_ns * 1e-9))

    def _advance(self) -> None:
        self.cell.step(1)
