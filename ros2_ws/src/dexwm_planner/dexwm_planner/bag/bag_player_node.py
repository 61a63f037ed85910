"""The node `player`: plays what a robot saw and felt from a recording into a live planner.

Camera, joint states and transforms are played at their recorded pace with their recorded stamps,
under names that begin with `/replay`, so that no other node takes them for a robot's; nothing
that moves a robot is ever played. The player is the clock (`/replay/clock`). Where the recorded
run asked for a plan, the player asks the live planner the same, from the same picture, without
execution, and says how the two plans compare.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import Any

import numpy as np
import rclpy
from dexwm_msgs.action import PlanToGoal
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from rclpy.time import Time
from rosgraph_msgs.msg import Clock

from dexwm.bag.bag_reader import BagError, BagReader, RawMessage
from dexwm.bag.recorded_run import RecordedPlan, read_run
from dexwm.planning.goal import KeypointGoal, PictureGoal
from dexwm_franka_bringup.action_client import ThreadedActionClient
from dexwm_franka_bringup.image_conversion import array_to_image
from dexwm_planner.bag.recorded_topics import PLANNER, PREFIX
from dexwm_planner.message_types import message_class

_ACTION = f'/{PLANNER}/plan_to_goal'
_CLOCK = '/clock'
_PLAYED = frozenset(
    f'sensor_msgs/msg/{name}' for name in ('Image', 'CompressedImage', 'CameraInfo', 'JointState')
) | frozenset(('tf2_msgs/msg/TFMessage', 'rosgraph_msgs/msg/Clock'))
_IMAGE = 'sensor_msgs/msg/Image'
_SERVER_TIMEOUT = 60.0
_ANSWER_TIMEOUT = 600.0
_POLL = 0.02
# Between a goal that was accepted and its picture: the planner begins to wait for it meanwhile.
_BEFORE_PICTURE = 0.3


class PlayerNode(Node):
    """Plays a recording once; `run` is for a thread that does not spin."""

    def __init__(self) -> None:
        super().__init__('player')
        described = ParameterDescriptor(description='the recording', read_only=True)
        path = self.declare_parameter('bag', '', described).value
        span = [FloatingPointRange(from_value=0.01, to_value=100.0)]
        described = ParameterDescriptor(
            description='recorded over real time', read_only=True, floating_point_range=span
        )
        self._rate = float(self.declare_parameter('rate', 1.0, described).value)
        described = ParameterDescriptor(description='whether to ask for plans', read_only=True)
        ask = bool(self.declare_parameter('ask', True, described).value)
        self._bag = BagReader(path)
        planner = {t.rpartition('/')[0] for t, kind in self._bag.topics.items() if _is_plan(kind)}
        self._topics = {
            topic: kind
            for topic, kind in self._bag.topics.items()
            if kind in _PLAYED and topic.rpartition('/')[0] not in planner
        }
        self._asked: dict[int, RecordedPlan] = {}
        if ask:
            plans = read_run(path, course=False).plans
            firsts = [plan for plan in plans if not plan.replan and not plan.missing]
            self._asked = {plan.observation_stamp_ns: plan for plan in firsts}
        self._clock_publisher = self.create_publisher(Clock, PREFIX + _CLOCK, 10)
        self._outputs = self._make_outputs()
        self._client = ThreadedActionClient(self, PlanToGoal, _ACTION)
        self._stop = threading.Event()
        self._answers: list[tuple[RecordedPlan, Future]] = []

    def stop(self) -> None:
        """Ends `run` early."""
        self._stop.set()

    def run(self) -> bool:
        """Plays the recording; whether every plan that was asked for was made."""
        log = self.get_logger()
        if not self._topics:
            log.error(f'{self._bag.path} has nothing to play: no camera and no joint states')
            return False
        if self._asked and not self._client.wait_for_server(timeout_sec=_SERVER_TIMEOUT):
            log.error(f'nobody answers on {_ACTION}: is the planner running?')
            return False
        log.info(f'playing {", ".join(sorted(self._topics))} of {self._bag.path}')
        begin, first_ns, count = time.monotonic(), 0, 0
        waited = 0.0
        for message in self._bag.raw_messages(self._topics):
            if self._stop.is_set():
                break
            first_ns = first_ns or message.stamp_ns
            due = begin + waited + (message.stamp_ns - first_ns) * 1e-9 / self._rate
            self._stop.wait(max(0.0, due - time.monotonic()))
            waited += self._ask_before(message)
            self._publish(message)
            count += 1
        for problem in self._bag.problems:
            log.warning(problem)
        log.info(f'played {count} messages in {time.monotonic() - begin:.1f} s')
        return all([self._compare(plan, future) for plan, future in self._answers])

    def _make_outputs(self) -> dict[str, Publisher]:
        publishers = {}
        for topic, kind in self._topics.items():
            if topic == _CLOCK:
                publishers[topic] = self._clock_publisher
                continue
            latched = topic.endswith('_static')
            durability = (
                QoSDurabilityPolicy.TRANSIENT_LOCAL if latched else QoSDurabilityPolicy.VOLATILE
            )
            profile = QoSProfile(depth=10, durability=durability)
            publishers[topic] = self.create_publisher(message_class(kind), PREFIX + topic, profile)
        return publishers

    def _publish(self, message: RawMessage) -> None:
        if _CLOCK not in self._topics:
            stamp = Time(nanoseconds=message.stamp_ns).to_msg()
            self._clock_publisher.publish(Clock(clock=stamp))
        self._outputs[message.topic].publish(message.data)

    def _ask_before(self, message: RawMessage) -> float:
        """Asks for a plan if this picture was one's observation; the seconds that took."""
        if message.kind != _IMAGE or not self._asked:
            return 0.0
        stamp = self._bag.content(message).header.stamp
        plan = self._asked.pop(int(stamp.sec) * 10**9 + int(stamp.nanosec), None)
        if plan is None:
            return 0.0
        begin = time.monotonic()
        goal = PlanToGoal.Goal(
            task=plan.task,
            preset=plan.preset.name,
            budget=plan.budget or 0.0,
            seed=plan.seed,
            execute=False,
        )
        if isinstance(plan.goal, PictureGoal):
            goal.goal_image = array_to_image(plan.goal.image, 'rgb8')
        elif isinstance(plan.goal, KeypointGoal):
            goal.goal_keypoints = plan.goal.to_message()
        self._answers.append((plan, self._client.send_goal_async(goal)))
        self._result(self._answers[-1][1])
        self._stop.wait(_BEFORE_PICTURE)
        return time.monotonic() - begin

    def _compare(self, recorded: RecordedPlan, answer: Future) -> bool:
        """Says how the live plan compares; whether there is one."""
        log = self.get_logger()
        handle = self._result(answer)
        result = None if handle is None else self._result(handle.get_result_async())
        if result is None:
            log.error('the planner did not answer')
            return False
        if result.result.error_code != PlanToGoal.Result.SUCCESSFUL:
            log.error(f'code {result.result.error_code}: {result.result.error_string}')
            return False
        plan = result.result.plan
        waypoints = np.array([point.positions for point in plan.waypoints])
        same_picture = plan.picture_digest == recorded.picture_digest
        what = 'the recorded picture' if same_picture else 'another picture than recorded'
        if waypoints.shape != recorded.waypoints.shape:
            how = f'{len(waypoints)} waypoints, recorded {len(recorded.waypoints)}'
        elif waypoints.tobytes() == recorded.waypoints.tobytes():
            how = 'identical'
        else:
            how = f'{np.abs(waypoints - recorded.waypoints).max():.3g} rad from the recorded one'
        log.info(
            f'plan for {plan.task} from {what} in {plan.planning_time:.1f} s: {how}, cost '
            f'{plan.costs[-1]:.4f}, recorded {recorded.costs[-1]:.4f}'
        )
        return True

    def _result(self, future: Future) -> Any:
        """The future's result; None if the run is stopped or it does not come."""
        deadline = time.monotonic() + _ANSWER_TIMEOUT
        while not future.done():
            if self._stop.wait(_POLL) or time.monotonic() > deadline:
                return None
        return future.result()


def _is_plan(kind: str) -> bool:
    return kind == 'dexwm_msgs/msg/Plan'


def main() -> int:
    """Plays the recording; 0 if it was played and its plans were made."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = PlayerNode()
    except BagError as error:
        print(error, file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: node.stop())
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinner = threading.Thread(target=executor.spin, name='spin', daemon=True)
    spinner.start()
    try:
        played = node.run()
    finally:
        executor.shutdown(timeout_sec=1.0)
        spinner.join(timeout=1.0)
        node.destroy_node()
        rclpy.try_shutdown()
    return 0 if played else 1


if __name__ == '__main__':
    sys.exit(main())
