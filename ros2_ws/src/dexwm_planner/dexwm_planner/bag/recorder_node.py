"""The node `recorder`: what a run said, as a rosbag2 recording in MCAP.

It subscribes to each topic of its list as soon as somebody publishes there, reliably and latched
where the publishers are. Messages are kept as they came, without being looked at. With the
standard tools the same is `ros2 bag record`; this one needs none of its packages.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
)
from rclpy.signals import SignalHandlerOptions
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)

from dexwm.bag.bag_reader import BagError
from dexwm.bag.bag_writer import BagWriter
from dexwm_planner.bag.recorded_topics import FOLDER, TOPICS
from dexwm_planner.message_types import (
    MessageTypeError,
    message_class,
    message_definition,
    type_hash,
)

# Looked for often at first: what is published before somebody listens is lost, unless latched.
_LOOK_PERIOD = 0.1
_DEPTH = 500
_FOREVER = QosTime(9223372036, 854775807)


class RecorderNode(Node):
    """Records from its making until `close`.

    Attributes:
        recorded: messages of each topic so far.
        problem: why the recording broke off; empty if it did not.
    """

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__('recorder', **node_arguments)
        self._directory = Path(self._text('output_dir', '.', 'directory of the run'))
        read_only = ParameterDescriptor(description='topics to record', read_only=True)
        self._topics = set(self.declare_parameter('topics', list(TOPICS), read_only).value)
        self._writer = BagWriter(self._directory / FOLDER)
        self.recorded: Counter[str] = Counter()
        self._subscribed: set[str] = set()
        self.problem = ''
        self.create_timer(_LOOK_PERIOD, self._look)

    def close(self) -> None:
        """Ends the recording; keeps with it what the run wrote about itself until now."""
        notes = {}
        for name in ('run', 'summary'):
            file = self._directory / f'{name}.json'
            if file.is_file():
                notes[name] = file.read_text()
        self._writer.close(notes)
        self.get_logger().info(
            f'{sum(self.recorded.values())} messages recorded, processor time '
            f'{time.process_time():.1f} s'
        )

    def _look(self) -> None:
        for topic, kinds in self.get_topic_names_and_types():
            if topic not in self._topics or topic in self._subscribed:
                continue
            publishers = self.get_publishers_info_by_topic(topic)
            if not publishers:
                continue
            self._subscribed.add(topic)
            try:
                self._record(topic, kinds[0], publishers)
            except (BagError, MessageTypeError) as error:
                self.get_logger().warning(f'{topic} is not recorded: {error}')

    def _record(self, topic: str, kind: str, publishers: Sequence[TopicEndpointInfo]) -> None:
        offered = [publisher.qos_profile for publisher in publishers]
        reliable = all(qos.reliability == QoSReliabilityPolicy.RELIABLE for qos in offered)
        latched = all(qos.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL for qos in offered)
        self._writer.add_topic(
            topic, kind, message_definition(kind), type_hash(kind), [_kept(qos) for qos in offered]
        )
        profile = QoSProfile(
            depth=_DEPTH,
            reliability=QoSReliabilityPolicy.RELIABLE
            if reliable
            else QoSReliabilityPolicy.BEST_EFFORT,
            durability=QoSDurabilityPolicy.TRANSIENT_LOCAL
            if latched
            else QoSDurabilityPolicy.VOLATILE,
        )
        self.create_subscription(
            message_class(kind), topic, lambda data: self._write(topic, data), profile, raw=True
        )

    def _write(self, topic: str, data: bytes) -> None:
        if self.problem:
            return
        try:
            self._writer.write(topic, time.time_ns(), data)
            self.recorded[topic] += 1
        except OSError as error:
            self.problem = f'the recording broke off: {error}'
            self.get_logger().error(self.problem)

    def _text(self, name: str, default: str, description: str) -> str:
        descriptor = ParameterDescriptor(description=description, read_only=True)
        return str(self.declare_parameter(name, default, descriptor).value)


def _kept(qos: QoSProfile) -> Qos:
    """How a topic was published, as recordings keep it, so that it is played alike."""
    reliable = qos.reliability == QoSReliabilityPolicy.RELIABLE
    latched = qos.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL
    return Qos(
        QosHistory.KEEP_LAST,
        max(1, qos.depth),
        QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        _FOREVER,
        _FOREVER,
        QosLiveliness.AUTOMATIC,
        _FOREVER,
        False,
    )


def main() -> int:
    """Records until SIGINT or SIGTERM; 0 if the recording is whole."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = RecorderNode()
    except BagError as error:
        print(error, file=sys.stderr)
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not stop.is_set() and not node.problem:
            executor.spin_once(timeout_sec=0.2)
    except ExternalShutdownException:
        pass
    finally:
        node.close()
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.try_shutdown()
    return 1 if node.problem else 0


if __name__ == '__main__':
    sys.exit(main())
