"""The cell behind Franka's control interface: any libfranka client can drive its arm.

The protocol, the 1 kHz bookkeeping and the checks of the robot's motion limits and communication
constraints are franka-sim's; here its physics is replaced by the cell's. Both kinds of checks are
enforced: what would stop a real FR3 stops this one, and so does its user stop. Not simulated:
contact and collision reflexes, self-collision avoidance, brakes, and Cartesian motions.

Protocol and physics need the interpreter a thousand times a second each, so the protocol runs in
a process of its own and they meet in shared memory.

Time is the robot's: the number of its cycles, a millisecond each. franka-sim stretches a cycle
until the answer of a client is in, so on a busy machine a second of the robot takes longer than
one on the wall. The physics follows the cycles, and so does ROS time (`/clock`): being slow then
slows everything alike, and no motion falls behind its trajectory.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import RawArray, RawValue
from typing import Any

import mujoco
import numpy as np
from franka_sim.control_modes import ControlMode
from franka_sim.franka_protocol import Command, MessageHeader, MoveStatus, RobotMode
from franka_sim.franka_sim_server import FrankaSimServer
from franka_sim.mujoco_franka_sim import MujocoFrankaSim
from franka_sim.robot_state import RobotState
from numpy.typing import ArrayLike, NDArray

from allegro_driver.simulated_hand import SimulatedHand
from dexwm.robot.joints import ARM
from dexwm_franka_bringup.real_time import lock_memory, take_priority
from dexwm_sim.cell import Cell, CellSnapshot
from dexwm_sim.scene_config import SceneConfig
from dexwm_sim.seqlock import Seqlock
from dexwm_sim.simulated_robot import SimulatedRobot, SimulationError

FCI_PERIOD = 0.001
"""Period of the interface, and step of the physics behind it (s)."""

FCI_PERIOD_NS = 1_000_000

# The hand's servos need no more than this many commands in FCI periods.
_HAND_PERIODS = 2
_PROTOCOL_PRIORITY = 75
_STATUS_PERIOD = 0.05
_IDLE_PERIOD = 0.005
# How many cycles the protocol may be ahead of the physics, and how it waits (s). A client gives up
# after a second without a state.
_LAG = 4
_WAIT = 0.0002
_LONGEST_WAIT = 0.5
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 5.0

# What the protocol shows of the physics, by franka-sim's names, and what it commands.
_STATE = {
    **dict.fromkeys(('q', 'dq', 'ddq', 'q_d', 'dq_d', 'ddq_d', 'tau_J'), (7,)),
    'O_T_EE': (16,),
    'O_dP_EE': (3,),
    'O_J_EE': (6, 7),
}
_COMMAND = {
    'mode_changes': (1,),
    'mode': (1,),
    'torques': (7,),
    'positions': (7,),
    'velocities': (7,),
    'ee_transform': (16,),
}
_STATUS = {'connected': (1,), 'in_control': (1,), 'success_rate': (1,)}
_MODES = (ControlMode.POSITION, ControlMode.VELOCITY, ControlMode.TORQUE)

# Of libfranka's AutomaticErrorRecovery::Status.
_RECOVERY_REJECTED_BY_SAFETY_FUNCTIONS = 2

Vectors = dict[str, NDArray[np.float64]]


class _Record:
    """Named vectors in shared memory, all of one instant."""

    def __init__(self, memory: Any, layout: dict[str, tuple[int, ...]]) -> None:
        self._layout = layout
        view = memoryview(memory).cast('B')
        self._lock = Seqlock(view, 8 * self._length(layout))
        self._last: bytes | None = None

    @classmethod
    def memory(cls, layout: dict[str, tuple[int, ...]]) -> Any:
        """Shared memory for a record, to hand to the other process."""
        return RawArray('Q', Seqlock.size(8 * cls._length(layout)) // 8)

    @staticmethod
    def _length(layout: dict[str, tuple[int, ...]]) -> int:
        return sum(int(np.prod(shape)) for shape in layout.values())

    def write(self, vectors: dict[str, ArrayLike]) -> None:
        parts = [np.ravel(vectors[name]) for name in self._layout]
        self._lock.write(np.concatenate(parts, dtype=np.float64).tobytes())

    def read(self) -> Vectors | None:
        """The newest vectors, None before the first."""
        record = self._lock.read()
        return None if record is None else self._split(record)

    def changed(self) -> Vectors | None:
        """The newest vectors if they are others than the last time, else None."""
        record = self._lock.read()
        if record is None or record == self._last:
            return None
        self._last = record
        return self._split(record)

    def _split(self, record: bytes) -> Vectors:
        values, start, vectors = np.frombuffer(record), 0, {}
        for name, shape in self._layout.items():
            end = start + int(np.prod(shape))
            vectors[name] = values[start:end].reshape(shape)
            start = end
        return vectors


@dataclass(frozen=True)
class _Memories:
    """What both processes share."""

    state: Any
    command: Any
    status: Any
    cycles: Any
    simulated: Any
    user_stop: Any


class _ArmInCell(MujocoFrankaSim):
    """Franka's internal joint controllers as franka-sim models them, on the arm of a cell."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.dt = FCI_PERIOD
        self.prefix = 'fr3_'
        self._cell = cell
        self._mode_changes = 0.0
        self.model, self.data = cell.model, cell.data
        self._bind_model()
        self.hold()

    def hold(self) -> None:
        """Hold the arm where it is now."""
        self.update_joint_positions(self._cell.joint_positions()[ARM])
        self.set_control_mode(ControlMode.POSITION)
        mujoco.mj_forward(self.model, self.data)

    def obey(self, command: Vectors) -> None:
        """Take over a command; its targets first, then its mode."""
        self.update_torques(command['torques'])
        self.update_joint_positions(command['positions'])
        self.update_joint_velocities(command['velocities'])
        self.update_ee_transform(command['ee_transform'])
        if command['mode_changes'][0] != self._mode_changes:
            self._mode_changes = command['mode_changes'][0]
            self.set_control_mode(_MODES[int(command['mode'][0])])

    def apply_control(self) -> None:
        """Set the arm's torques for the next step."""
        self._apply_control()

    def state(self) -> dict[str, ArrayLike]:
        """The state as the protocol shows it."""
        self._read_and_publish_state()
        return self.get_robot_state()

    def _bind_self_collision(self) -> None:
        # It needs one convex hull per link, which the cell's arm does not have.
        self._self_collision_pairs = {}


class _ArmElsewhere:
    """What the protocol takes for its physics: a stand-in for the arm in the other process."""

    enable_vis = False

    def __init__(self, memories: _Memories) -> None:
        self.dt = FCI_PERIOD
        self._state = _Record(memories.state, _STATE)
        self._record = _Record(memories.command, _COMMAND)
        self._cycles, self._simulated = memories.cycles, memories.simulated
        self._stands_still_at = 0
        self._lock = threading.Lock()
        first = self._state.read()
        assert first is not None, 'the physics shows its state before the protocol starts'
        self._command: dict[str, ArrayLike] = {
            'mode_changes': [0.0],
            'mode': [0.0],
            'torques': np.zeros(7),
            'positions': first['q'],
            'velocities': np.zeros(7),
            'ee_transform': np.eye(4).ravel(),
        }

    def pass_time(self, cycles: int) -> None:
        """Let the physics come to this cycle, and wait for it where it is far behind."""
        self._cycles.value = cycles
        begun, simulated = time.monotonic(), self._simulated.value
        # Physics that stands still, before its start or after its end, is not waited for.
        while self._stands_still_at < simulated < cycles - _LAG:
            time.sleep(_WAIT)
            simulated = self._simulated.value
            if time.monotonic() - begun > _LONGEST_WAIT:
                self._stands_still_at = simulated

    def get_robot_state(self) -> dict[str, Any]:
        """The newest state of the physics."""
        return {**(self._state.read() or {}), 'self_collision': None}

    def set_control_mode(self, mode: ControlMode) -> None:
        with self._lock:
            changes = np.ravel(self._command['mode_changes'])[0] + 1.0
            self._update(mode=[float(_MODES.index(mode))], mode_changes=[changes])

    def update_torques(self, torques: ArrayLike) -> None:
        with self._lock:
            self._update(torques=torques)

    def update_joint_positions(self, positions: ArrayLike) -> None:
        with self._lock:
            self._update(positions=positions)

    def update_joint_velocities(self, velocities: ArrayLike) -> None:
        with self._lock:
            self._update(velocities=velocities)

    def update_ee_transform(self, f_t_ee: ArrayLike) -> None:
        with self._lock:
            self._update(ee_transform=f_t_ee)

    def stop(self) -> None:
        """The physics goes on; it is not the protocol's to stop."""

    def _update(self, **vectors: ArrayLike) -> None:
        self._command.update(vectors)
        self._record.write(self._command)


class _Server(FrankaSimServer):
    """franka-sim's server with a clock that never stops, as a robot's: with no client, too."""

    def __init__(self, address: str, arm: _ArmElsewhere) -> None:
        self._arm_elsewhere = arm
        super().__init__(
            host=address,
            physics_sim=arm,
            enable_gripper=False,
            enforce_comm_constraints=True,
            enforce_motion_limits=True,
        )
        self.robot_state = _RobotState(arm)

    def reset_state(self) -> None:
        cycles, user_stopped = self.robot_time, self.robot_state.user_stopped
        super().reset_state()
        self.robot_state = _RobotState(self._arm_elsewhere, cycles, user_stopped)

    def set_user_stop(self, pressed: bool) -> None:
        """Take in where the user stop is; pressed, it ends the motion under way."""
        if pressed == self.robot_state.user_stopped:
            return
        with self._motion_lock:
            self.robot_state.user_stopped = pressed
            if pressed:
                self._abort_with_error((), 'user stop')
                if self._pending_move_response is not None:
                    motion, _, packed = self._pending_move_response
                    self._pending_move_response = (motion, MoveStatus.kEmergencyAborted, packed)
            else:
                self.robot_state.set_robot_mode(RobotMode.kIdle)

    def handle_automatic_error_recovery_command(
        self, client_socket: socket.socket, header: MessageHeader, payload: bytes
    ) -> None:
        """As franka-sim's; refused while the user stop is pressed."""
        if not self.robot_state.user_stopped:
            super().handle_automatic_error_recovery_command(client_socket, header, payload)
            return
        answer = struct.pack('<B3x', _RECOVERY_REJECTED_BY_SAFETY_FUNCTIONS)
        size = 12 + len(answer)
        answer_header = MessageHeader(Command.kAutomaticErrorRecovery, header.command_id, size)
        self._send_tcp(client_socket, answer_header.to_bytes() + answer)

    def _refuse_move_while_latched(
        self, client_socket: socket.socket, header: MessageHeader
    ) -> bool:
        if not self.robot_state.user_stopped:
            return super()._refuse_move_while_latched(client_socket, header)
        status = MoveStatus.kCommandRejectedDueToActivatedSafetyFunctions
        self.send_move_response(client_socket, command_id=header.command_id, status=status)
        return True

    @property
    def robot_time(self) -> int:
        """Cycles since the start."""
        return self.robot_state.state['message_id']


class _RobotState(RobotState):
    """The state that the protocol sends; its cycles go on counting from client to client."""

    def __init__(self, arm: _ArmElsewhere, cycles: int = 1, user_stopped: bool = False) -> None:
        super().__init__()
        self._arm = arm
        self.user_stopped = user_stopped
        self._message_id = cycles - 1
        self.update()

    def update(self) -> None:
        super().update()
        self._arm.pass_time(self._message_id)

    def pack_state(self) -> bytes:
        if self.user_stopped:
            # Whatever else sets the mode, such as the end of a motion.
            self.set_robot_mode(RobotMode.kUserStopped)
        return super().pack_state()


class FciRobot(SimulatedRobot):
    """A cell whose arm obeys libfranka clients and whose hand follows trajectories.

    One step is one period of the interface. The physics follows the protocol's cycles, which wait
    only if it falls behind by several: waiting each time would cost more than a millisecond has.
    """

    def __init__(
        self,
        config: SceneConfig,
        address: str,
        start: CellSnapshot | None = None,
        hand: SimulatedHand | None = None,
    ) -> None:
        """Build the scene and listen.

        Args:
            config: The scene.
            address: Loopback address to listen on; the port is libfranka's.
            start: See `SimulatedRobot`.
            hand: See `SimulatedRobot`.

        Raises:
            SimulationError: If the address cannot be listened on.
        """
        cell = Cell(config, timestep=FCI_PERIOD, arm_servos=False, hand_servos=hand is None)
        super().__init__(cell, False, start, hand)
        self._arm = _ArmInCell(self.cell)
        self._steps = 0
        records = map(_Record.memory, (_STATE, _COMMAND, _STATUS))
        memories = _Memories(*records, RawValue('Q', 0), RawValue('Q', 0), RawValue('B', 0))
        self._cycles, self._simulated = memories.cycles, memories.simulated
        self._user_stop = memories.user_stop
        self._state = _Record(memories.state, _STATE)
        self._commands = _Record(memories.command, _COMMAND)
        self._status = _Record(memories.status, _STATUS)
        self._state.write(self._arm.state())
        context = multiprocessing.get_context('spawn')
        self._lifeline, theirs = context.Pipe()
        self._server = context.Process(
            target=_serve, args=(address, memories, theirs), name='fci server', daemon=True
        )
        self._server.start()
        theirs.close()
        try:
            problem = self._lifeline.recv() if self._lifeline.poll(_START_TIMEOUT) else 'time-out'
        except EOFError:
            problem = 'its process ended'
        if problem:
            raise SimulationError(f'No FCI server on {address}: {problem}')

    def step(self, stamp_ns: int) -> None:
        """Advance by one cycle; see `SimulatedRobot.step`."""
        super().step(stamp_ns)
        self._simulated.value = self.stamp_ns // FCI_PERIOD_NS

    @property
    def clock(self) -> Callable[[], int]:
        """The robot's time (ns)."""
        return lambda: self._cycles.value * FCI_PERIOD_NS

    def reset(self) -> None:
        """Put the scene back to its start.

        Raises:
            SimulationError: If a client controls the arm: it would be torn out of its hands.
        """
        status = self._status.read()
        if status is not None and status['in_control'][0]:
            raise SimulationError(
                'A libfranka client controls the arm: stop the FCI node, then reset the scene.'
            )
        super().reset()

    def set_user_stop(self, pressed: bool) -> None:
        """Press or release the user stop: the arm stops, and no client may move it."""
        self._user_stop.value = pressed

    def diagnostics(self) -> dict[str, str]:
        """What a person may want to know about the physics and the interface, by name."""
        status = self._status.read() or {name: np.zeros(1) for name in _STATUS}
        return {
            **super().diagnostics(),
            'fci_client_connected': str(bool(status['connected'][0])),
            'fci_client_in_control': str(bool(status['in_control'][0])),
            'fci_command_success_rate': f'{status["success_rate"][0]:.2f}',
        }

    def close(self) -> None:
        """Disconnect the client and stop listening."""
        self._lifeline.close()
        self._server.join(_STOP_TIMEOUT)
        if self._server.is_alive():
            self._server.kill()
            self._server.join()

    def _reset(self) -> None:
        super()._reset()
        self._arm.hold()

    def _command(self, stamp_ns: int) -> None:
        if self._hand is not None or self._steps % _HAND_PERIODS == 0:
            self._command_hand(stamp_ns)
        self._steps += 1
        command = self._commands.changed()
        if command is not None:
            self._arm.obey(command)
        self._arm.apply_control()

    def _advance(self) -> None:
        super()._advance()
        self._state.write(self._arm.state())
        if not self._server.is_alive():
            raise SimulationError(
                f'the FCI server ended with exit code {self._server.exitcode}: see above'
            )


def _serve(address: str, memories: _Memories, lifeline: Connection) -> None:
    """Main function of the protocol's process; ends when the other end of the lifeline does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    take_priority(_PROTOCOL_PRIORITY)
    lock_memory()
    server = _Server(address, _ArmElsewhere(memories))
    try:
        server._bind_listener()
    except OSError as error:
        lifeline.send(str(error))
        return
    threading.Thread(target=server.run_server, name='protocol', daemon=True).start()
    lifeline.send('')
    status = _Record(memories.status, _STATUS)
    with contextlib.suppress(OSError):
        while not lifeline.poll(0.0):
            status.write(
                {
                    'connected': [server.client_socket is not None],
                    'in_control': [server.comm.active],
                    'success_rate': [server.comm.success_rate],
                }
            )
            _let_time_pass(server, memories.user_stop, _STATUS_PERIOD)
    server.stop()


def _let_time_pass(server: _Server, user_stop: Any, seconds: float) -> None:
    """Sleep, but look at the user stop.

    Where no client makes cycles go by, they do so by the clock on the wall.
    """
    begun, counted = time.monotonic(), 0
    while (passed := time.monotonic() - begun) < seconds:
        server.set_user_stop(bool(user_stop.value))
        due = round(passed / FCI_PERIOD)
        if not server.transmitting_state:
            for _ in range(due - counted):
                server.robot_state.update()
        counted = due
        time.sleep(_IDLE_PERIOD)
