"""Receives what the trajectory node watches, in a thread of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, JointState


class TrajectoryInputs:
    """Subscribes to joint states and heartbeats beside a node, with a hidden node and executor.

    rclpy's multi-threaded executor, which the actions need, takes several times the computing
    time for each message of a fast topic and makes it wait behind other callbacks.

    Args:
        node: whose names, remappings and context are used.
        heartbeats: CameraInfo topics.
        on_joint_state: called with each joint state, in the thread.
        on_reference: called with each joint state that tells where controllers hold the joints.
        on_heartbeat: called with the topic (as given) and message of each heartbeat.
        on_diagnostics: called with the diagnostics of all nodes.
    """

    def __init__(
        self,
        node: Node,
        heartbeats: Sequence[str],
        on_joint_state: Callable[[JointState], None],
        on_reference: Callable[[JointState], None],
        on_heartbeat: Callable[[str, CameraInfo], None],
        on_diagnostics: Callable[[DiagnosticArray], None],
    ):
        self._node = Node(
            f'_{node.get_name()}_inputs',
            namespace=node.get_namespace(),
            context=node.context,
            use_global_arguments=False,
            start_parameter_services=False,
            enable_rosout=False,
        )

        def listen(kind: type, topic: str, callback: Callable[..., None]) -> None:
            name = node.resolve_topic_name(topic)
            self._node.create_subscription(kind, name, callback, qos_profile_sensor_data)

        listen(JointState, '/joint_states', on_joint_state)
        listen(JointState, '/desired_joint_states', on_reference)
        listen(DiagnosticArray, '/diagnostics', on_diagnostics)
        for topic in heartbeats:
            listen(CameraInfo, topic, lambda message, name=topic: on_heartbeat(name, message))
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name='inputs', daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        # The context may be shut down by somebody else.
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def is_alive(self) -> bool:
        """Whether messages are received."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop receiving."""
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
