"""An action client that may be used from a thread that does not spin."""

from __future__ import annotations

import threading
from typing import Any

from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from rclpy.task import Future


class ThreadedActionClient(ActionClient):
    """`ActionClient` that loses no answer.

    The one of rclpy sends a request and only then notes that it waits for the answer. An answer
    that another thread takes in between is thrown away, and the caller waits for ever while the
    goal is carried out (https://github.com/ros2/rclpy/issues/1123).
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        """Takes what `ActionClient` takes."""
        self._sending = threading.Lock()
        super().__init__(*arguments, **keywords)

    def send_goal_async(self, *arguments: Any, **keywords: Any) -> Future:
        """Sends a goal, see `ActionClient.send_goal_async`."""
        with self._sending:
            return super().send_goal_async(*arguments, **keywords)

    def _get_result_async(self, goal_handle: ClientGoalHandle) -> Future:
        with self._sending:
            return super()._get_result_async(goal_handle)

    def _cancel_goal_async(self, goal_handle: ClientGoalHandle) -> Future:
        with self._sending:
            return super()._cancel_goal_async(goal_handle)

    async def execute(self, taken_data: Any) -> None:
        """Handles what has come in, once the requests before it are noted."""
        with self._sending:
            pass
        await super().execute(taken_data)
