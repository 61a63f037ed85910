"""What the nodes that drive an arm, a hand or a simulated robot have in common."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from sensor_msgs.msg import JointState

SIGNAL_LATENCY = 0.2
"""How long a signal to stop may go unnoticed (s)."""

REFERENCE_RATE = 10.0
"""Rate of `/desired_joint_states` (Hz)."""


class DriverNode(Node):
    """Publishes `/joint_states`, `/desired_joint_states` and `/diagnostics`.

    What it is told by parameters stays.
    """

    def __init__(self, name: str) -> None:
        """Make the publishers.

        Args:
            name: Name of the node.
        """
        super().__init__(name)
        self._joint_states = self.create_publisher(JointState, '/joint_states', 10)
        self._references = self.create_publisher(JointState, '/desired_joint_states', 10)
        self._references_ns = 0
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)

    def check(self) -> None:
        """Raise what ended the driver, if something did.

        Raises:
            RuntimeError: It has ended.
        """
        raise NotImplementedError

    def declare(self, name: str, default: Any, description: str, **ranges: Any) -> Any:
        """Declare a parameter that cannot be changed later; return its value, lists as tuples.

        Args:
            name: Of the parameter.
            default: Its value where none is given.
            description: For `ros2 param describe`.
            **ranges: `integer_range` or `floating_point_range`.
        """
        descriptor = ParameterDescriptor(description=description, read_only=True, **ranges)
        value = self.declare_parameter(name, default, descriptor).value
        return tuple(value) if isinstance(default, list) else value

    def publish_joints(
        self,
        names: Sequence[str],
        stamp_ns: int,
        positions: Sequence[float],
        velocities: Sequence[float],
        efforts: Sequence[float],
    ) -> None:
        """Publish the state of joints.

        Args:
            names: Their names.
            stamp_ns: When, ROS time (ns).
            positions: rad.
            velocities: rad/s.
            efforts: N m.
        """
        message = JointState(name=list(names))
        message.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
        message.position = list(positions)
        message.velocity = list(velocities)
        message.effort = list(efforts)
        self._joint_states.publish(message)

    def publish_references(
        self, names: Sequence[str], stamp_ns: int, positions: Sequence[float]
    ) -> None:
        """Publish where joints are held or moved to, REFERENCE_RATE times a second at most.

        A hand that has grasped something is held further closed than it gets; whoever moves it
        next must begin there, or it lets go.

        Args:
            names: Names of the joints that are held.
            stamp_ns: When, ROS time (ns).
            positions: rad.
        """
        if 0 <= stamp_ns - self._references_ns < 1e9 / REFERENCE_RATE:
            return
        self._references_ns = stamp_ns
        message = JointState(name=list(names), position=list(positions))
        message.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
        self._references.publish(message)

    def publish_diagnostics(self, *statuses: DiagnosticStatus) -> None:
        """Publish statuses, stamped now."""
        message = DiagnosticArray(status=statuses)
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def key_values(values: Mapping[str, object]) -> list[KeyValue]:
    """Values of a diagnostic status."""
    return [KeyValue(key=key, value=str(value)) for key, value in values.items()]


class CycleRate:
    """Rate of a counter over the last few times that it was looked at."""

    def __init__(self, window: int = 5) -> None:
        """Start with nothing seen.

        Args:
            window: Looks that count.
        """
        self._seen: deque[tuple[int, int]] = deque(maxlen=window)

    @property
    def is_settled(self) -> bool:
        """Whether it was looked at often enough."""
        return len(self._seen) == self._seen.maxlen

    def update(self, cycles: int) -> float:
        """Take the counter's value now; return the rate (Hz), 0 at first."""
        self._seen.append((time.monotonic_ns(), cycles))
        (then_ns, cycles_then), (now_ns, cycles_now) = self._seen[0], self._seen[-1]
        return (cycles_now - cycles_then) / ((now_ns - then_ns) * 1e-9 or 1.0)


def run_driver(name: str, make: Callable[[], DriverNode]) -> int:
    """Run a driver's node until it is told to stop; return the exit code, 1 if it broke down.

    It is destroyed before the context is, while it can still bring its robot to rest.

    Args:
        name: For the log, should it not come to a node.
        make: Makes the node.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    # rclpy's own handlers would end the context, and with it the publishers, under the node.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = None
    try:
        node = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not stop.is_set():
            executor.spin_once(timeout_sec=SIGNAL_LATENCY)
            node.check()
    except (ValueError, RuntimeError, OSError) as error:
        rclpy.logging.get_logger(name).fatal(str(error))
        return 1
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
