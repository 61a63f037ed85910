"""The cell node: stands in for arm and hand, in real time.

Topics, services and parameters are those of the controllers of a real robot where it has them;
`/cell/state`, `~/reset` and `~/user_stop` exist in simulation only.
"""

from __future__ import annotations

import ipaddress
import queue
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import can
from dexwm_msgs.msg import CellState
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Pose
from rcl_interfaces.msg import FloatingPointRange, IntegerRange
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMessage

from allegro_driver.driver import POSE_PERIOD
from allegro_driver.simulated_hand import SimulatedHand
from allegro_driver.unix_bus import UnixBus
from dexwm.control.joint_trajectory_controller import TrajectoryRejected
from dexwm.control.trajectory import InvalidTrajectory
from dexwm.control.trajectory_message import nanoseconds, parse_trajectory
from dexwm.robot.joints import ARM_JOINTS, HAND_JOINTS, JOINTS
from dexwm_franka_bringup.driver_node import DriverNode, key_values, run_driver
from dexwm_sim.cell import Cell, CellSnapshot
from dexwm_sim.episode_file import load_episode
from dexwm_sim.realtime import RealTimeLoop
from dexwm_sim.scene import TIMESTEP
from dexwm_sim.scene_config import SceneConfig
from dexwm_sim.shared_state import SharedState, default_name
from dexwm_sim.simulated_robot import RobotSnapshot, SimulatedRobot, SimulationError

BASE_FRAME = 'base'
CELL_STATE_RATE = 20
# What a physics that is late catches up with. A libfranka client must see every millisecond.
MAX_BACKLOG_NS = 200_000_000
# How long one Python thread may keep the others waiting (s). The physics needs the interpreter
# 500 times a second; the default of 5 ms would cost it its pace.
SWITCH_INTERVAL = 2e-4
CLOCK_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
SLOW_RTF = 0.99


class CellNode(DriverNode):
    """Publishes the cell's state and hands trajectories to its controllers."""

    def __init__(self) -> None:
        """Build the scene and start the physics.

        Raises:
            ValueError: If a parameter cannot be used.
        """
        super().__init__('cell')
        config, arm, hand, start = self._declare()
        rate = self.get_parameter('joint_state_rate').value
        name = self.get_parameter('shared_state').value or default_name()
        self._hand = self._make_hand() if hand == 'can' else None
        self._robot = self._make_robot(config, arm, start)
        # What the drivers of other parts publish is theirs.
        joints = {'sim': ARM_JOINTS, 'fci': ()}[arm] + (HAND_JOINTS if hand == 'sim' else ())
        self._published = [JOINTS.index(name) for name in joints]
        cell = self._robot.cell
        self._shared = SharedState.create(name, config.to_json(), cell.model.nq)
        step_ns = round(cell.model.opt.timestep * 1e9)
        self._steps_per_snapshot = max(1, round(1e9 / (rate * step_ns)))
        self._snapshots_per_state = max(1, round(rate / CELL_STATE_RATE))
        self._steps = 0
        self._snapshots: queue.SimpleQueue[RobotSnapshot | None] = queue.SimpleQueue()
        self._loop = RealTimeLoop(self._step, step_ns, MAX_BACKLOG_NS, self._robot.clock)

        self._accepted: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._last_rejection: dict[str, str] = {}
        self._cell_states = self.create_publisher(CellState, '/cell/state', 10)
        # Where the simulated robot's time is its own, everybody else's is that, too.
        self._clock_publisher = (
            self.create_publisher(Clock, '/clock', CLOCK_QOS) if self._robot.clock else None
        )
        for controller in self._robot.controllers:
            self._listen(controller)
        self.create_service(Trigger, '~/reset', self._reset)
        self.create_service(SetBool, '~/user_stop', self._set_user_stop)
        self.create_timer(1.0, self._diagnose)
        self._publisher = threading.Thread(target=self._publish, name='publisher', daemon=True)
        self._publisher.start()
        self._loop.start()
        while not self._robot.stamp_ns:
            # A trajectory may not come before there is a present that it can begin in.
            self._loop.check()
            time.sleep(0.001)
        self.get_logger().info(
            f'Scene {config.seed} with {", ".join(cell.object_names) or "no objects"}; '
            f'arm: {arm}; hand: {hand}; shared state: {name}'
        )

    def check(self) -> None:
        """Raise what stopped the physics, if something did.

        Raises:
            RuntimeError: The physics has stopped.
        """
        self._loop.check()

    def destroy_node(self) -> None:
        """Stop the physics and take the shared state away."""
        self._robot.close()
        self._loop.stop()
        if self._hand is not None:
            self._hand.close()
        self._snapshots.put(None)
        self._publisher.join()
        self._shared.close()
        super().destroy_node()

    def _declare(self) -> tuple[SceneConfig, str, str, CellSnapshot | None]:
        """Declare the parameters; return the scene, who drives arm and hand, and the start."""
        declare = self.declare
        seed = declare(
            'scene_seed',
            0,
            'Seed that the scene is drawn from.',
            integer_range=[IntegerRange(from_value=0, to_value=2**63 - 1)],
        )
        objects = declare(
            'objects', [''], 'Kinds of objects, the target first; one empty string: drawn.'
        )
        quality = declare('quality', 'standard', 'Quality of the pictures: fast, standard, fine.')
        declare(
            'joint_state_rate',
            100.0,
            'Rate of /joint_states (Hz).',
            floating_point_range=[FloatingPointRange(from_value=CELL_STATE_RATE, to_value=500.0)],
        )
        episode_file = declare(
            'episode_file',
            '',
            'Episode whose scene and start to take; empty: scene_seed, objects.',
        )
        declare('shared_state', '', 'Name of the state that cameras attach to; empty: by domain.')
        arm = declare('arm', 'sim', 'What drives the arm: sim (trajectories) or fci (libfranka).')
        hand = declare(
            'hand', 'sim', 'What drives the hand: sim (trajectories) or can (torques by CAN).'
        )
        declare('hand_channel', '', "Path of the hand's end of the CAN bus (hand: can).")
        declare('fci_address', '127.0.0.1', 'Loopback address of the FCI server (arm: fci).')
        if arm not in ('sim', 'fci'):
            raise ValueError(f'arm is {arm!r}; it must be sim or fci.')
        if hand not in ('sim', 'can'):
            raise ValueError(f'hand is {hand!r}; it must be sim or can.')
        if episode_file:
            episode = load_episode(Path(episode_file))
            if (arm, hand) != ('sim', 'sim') and episode.task == 'place':
                raise ValueError('A place episode begins with a grasp: use arm: sim, hand: sim.')
            return replace(episode.scene, quality=quality), arm, hand, episode.start
        scene = SceneConfig.sample(seed, [o for o in objects if o] or None, quality=quality)
        return scene, arm, hand, None

    def _make_robot(
        self, config: SceneConfig, arm: str, start: CellSnapshot | None
    ) -> SimulatedRobot:
        if arm == 'sim':
            if self._hand is None:
                return SimulatedRobot(Cell(config, timestep=TIMESTEP), start=start)
            cell = Cell(config, timestep=POSE_PERIOD / 2, hand_servos=False)
            return SimulatedRobot(cell, start=start, hand=self._hand)
        try:
            from dexwm_sim.fci_server import FciRobot
        except ModuleNotFoundError as error:
            if error.name != 'franka_sim':
                raise
            raise ValueError('arm: fci needs the Python package franka-sim.') from error
        address = self.get_parameter('fci_address').value
        if not ipaddress.ip_address(address).is_loopback:
            raise ValueError(f'fci_address {address} is not a loopback address such as 127.0.0.1.')
        return FciRobot(config, address, start, self._hand)

    def _make_hand(self) -> SimulatedHand:
        channel = self.get_parameter('hand_channel').value
        if not channel:
            raise ValueError('hand: can needs hand_channel, a path for the socket.')
        try:
            return SimulatedHand(UnixBus(channel, listen=True))
        except can.CanError as error:
            raise ValueError(f'hand_channel: {error}.') from error

    def _listen(self, controller: str) -> None:
        self.create_subscription(
            JointTrajectoryMessage,
            f'/{controller}/joint_trajectory',
            lambda message: self._take(controller, message),
            QoSProfile(depth=10),
        )

    def _take(self, controller: str, message: JointTrajectoryMessage) -> None:
        try:
            stamp_ns = nanoseconds(message.header.stamp)
            self._robot.accept(controller, parse_trajectory(message), stamp_ns)
            self._accepted[controller] += 1
        except (InvalidTrajectory, TrajectoryRejected) as error:
            self._rejected[controller] += 1
            self._last_rejection[controller] = str(error)
            self.get_logger().warning(f'{controller} rejected a trajectory: {error}')

    def _step(self, stamp_ns: int) -> None:
        """One step of the physics, in its thread."""
        robot = self._robot
        robot.step(stamp_ns)
        self._shared.write(robot.cell.data.time, robot.stamp_ns, robot.cell.data.qpos)
        self._steps += 1
        if self._steps % self._steps_per_snapshot == 0:
            self._snapshots.put(robot.snapshot())

    def _publish(self) -> None:
        """Publish snapshots as they come, in a thread of its own."""
        count = 0
        while (snapshot := self._snapshots.get()) is not None:
            stamp = Time(nanoseconds=snapshot.stamp_ns).to_msg()
            if self._clock_publisher is not None:
                self._clock_publisher.publish(Clock(clock=stamp))
            if self._published:
                joints = self._published
                self.publish_joints(
                    [JOINTS[joint] for joint in joints],
                    snapshot.stamp_ns,
                    snapshot.positions[joints].tolist(),
                    snapshot.velocities[joints].tolist(),
                    snapshot.efforts[joints].tolist(),
                )
            if count % self._snapshots_per_state == 0:
                self._cell_states.publish(self._cell_state(snapshot, stamp))
            if snapshot.references:
                self.publish_references(
                    list(snapshot.references),
                    snapshot.stamp_ns,
                    list(snapshot.references.values()),
                )
            count += 1

    def _cell_state(self, snapshot: RobotSnapshot, stamp: object) -> CellState:
        message = CellState()
        message.header.stamp = stamp
        message.header.frame_id = BASE_FRAME
        message.object_names = list(snapshot.object_poses)
        message.object_poses = [_pose(pose) for pose in snapshot.object_poses.values()]
        message.object_touched = [
            name in snapshot.objects_touched for name in snapshot.object_poses
        ]
        message.scene_seed = self._robot.cell.config.seed
        message.sim_time = snapshot.sim_time
        message.real_time_factor = self._loop.real_time_factor()
        return message

    def _reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            self._robot.reset()
            response.success = True
            response.message = f'Scene {self._robot.cell.config.seed} is back at its start.'
        except SimulationError as error:
            response.message = str(error)
        return response

    def _set_user_stop(
        self, request: SetBool.Request, response: SetBool.Response
    ) -> SetBool.Response:
        try:
            self._robot.set_user_stop(request.data)
            response.success = True
            response.message = f'the user stop is {"pressed" if request.data else "released"}'
        except SimulationError as error:
            response.message = str(error)
        return response

    def _diagnose(self) -> None:
        rtf = self._loop.real_time_factor()
        physics = DiagnosticStatus(name='cell: physics', hardware_id='simulation')
        physics.level, physics.message = DiagnosticStatus.OK, 'in real time'
        if rtf < SLOW_RTF:
            physics.level = DiagnosticStatus.WARN
            physics.message = f'slower than real time: the machine is too busy ({rtf:.2f})'
        physics.values = key_values(
            {
                'real_time_factor': f'{rtf:.3f}',
                'dropped_time': f'{self._loop.dropped_time:.3f}',
                **self._robot.diagnostics(),
            }
        )
        controllers = []
        for name in self._robot.controllers:
            status = DiagnosticStatus(name=f'cell: {name}', hardware_id='simulation')
            status.level, status.message = DiagnosticStatus.OK, 'ready'
            if self._rejected[name]:
                status.level = DiagnosticStatus.WARN
                status.message = 'rejected trajectories'
            status.values = key_values(
                {
                    'accepted': self._accepted[name],
                    'rejected': self._rejected[name],
                    'last_rejection': self._last_rejection.get(name, ''),
                }
            )
            controllers.append(status)
        self.publish_diagnostics(physics, *controllers)


def _pose(pose: object) -> Pose:
    message = Pose()
    p, o = message.position, message.orientation
    p.x, p.y, p.z, o.x, o.y, o.z, o.w = map(float, pose)
    return message


def main() -> int:
    """Run the node until it is told to stop; the exit code is 1 if the physics broke down."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    return run_driver('cell', CellNode)
