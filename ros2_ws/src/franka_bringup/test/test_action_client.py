"""Answers that come before the request is noted are not lost."""

import os
import threading
import time

import pytest
import rclpy
from action_msgs.msg import GoalStatus
from dexwm_msgs.action import ExecutePlan
from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node

from dexwm_franka_bringup.action_client import ThreadedActionClient

pytestmark = pytest.mark.realtime

TIMEOUT = 60.0


class SlowHandle:
    """A client's handle whose requests are out for a while before the caller goes on."""

    def __init__(self, handle):
        self._handle = handle

    def __getattr__(self, name):
        method = getattr(self._handle, name)
        if not (name.startswith('send_') and name.endswith('_request')):
            return method

        def send(request):
            number = method(request)
            time.sleep(0.3)
            return number

        return send

    def __enter__(self):
        return self._handle.__enter__()

    def __exit__(self, *error):
        return self._handle.__exit__(*error)


@pytest.fixture
def client(monkeypatch):
    monkeypatch.setitem(os.environ, 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    context = Context()
    rclpy.init(context=context, domain_id=44)
    node = Node('node', context=context)
    group = ReentrantCallbackGroup()

    def execute(goal):
        while goal.request.plan.task == 'long' and not goal.is_cancel_requested:
            time.sleep(0.01)
        if goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.succeed()
        return ExecutePlan.Result(duration=1.5)

    server = ActionServer(
        node,
        ExecutePlan,
        '/execute',
        execute,
        cancel_callback=lambda _: CancelResponse.ACCEPT,
        callback_group=group,
    )
    client = ThreadedActionClient(node, ExecutePlan, '/execute', callback_group=group)
    client._client_handle = SlowHandle(client._client_handle)
    executor = MultiThreadedExecutor(num_threads=4, context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    assert client.wait_for_server(TIMEOUT)
    yield client
    executor.shutdown()
    thread.join()
    client.destroy()
    server.destroy()
    node.destroy_node()
    rclpy.shutdown(context=context)


def result_of(future):
    deadline = time.monotonic() + TIMEOUT
    while not future.done():
        assert time.monotonic() < deadline, 'the answer is lost'
        time.sleep(0.01)
    return future.result()


def test_early_answers_to_goal_and_result_come(client):
    handle = result_of(client.send_goal_async(ExecutePlan.Goal()))
    assert handle.accepted
    answer = result_of(handle.get_result_async())
    assert answer.status == GoalStatus.STATUS_SUCCEEDED
    assert answer.result.duration == 1.5


def test_an_early_answer_to_a_cancel_comes(client):
    goal = ExecutePlan.Goal()
    goal.plan.task = 'long'
    handle = result_of(client.send_goal_async(goal))
    assert len(result_of(handle.cancel_goal_async()).goals_canceling) == 1
    assert result_of(handle.get_result_async()).status == GoalStatus.STATUS_CANCELED
