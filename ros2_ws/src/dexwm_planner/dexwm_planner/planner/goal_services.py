"""The planner's services of goals: add a picture, capture one, list them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from dexwm_msgs.msg import Goal as GoalMessage
from dexwm_msgs.srv import CaptureGoal, ListGoals, SetGoal
from numpy.typing import NDArray
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from dexwm.geometry.preprocess import ResizeAndCrop
from dexwm.planning.goal import GoalError
from dexwm_franka_bringup.image_conversion import array_to_image
from dexwm_planner.planner.goal_library import GoalLibrary, GoalLibraryError, StoredGoal
from dexwm_planner.planner.planner_inputs import StaleInputError

_THUMBNAIL_WIDTH = 192


class GoalServices:
    """Offers a goal library as `~/set_goal`, `~/capture_goal` and `~/list_goals`."""

    def __init__(
        self,
        node: Node,
        library: GoalLibrary,
        capture: Callable[[], NDArray[np.uint8]],
        image_size: Callable[[], tuple[int, int] | None],
        callback_group: CallbackGroup,
    ) -> None:
        """Creates the services.

        Args:
            node: offers them.
            library: has the goals.
            capture: gives a picture (H, W, 3) of now; raises `GoalLibraryError` or
                `StaleInputError` where there is none.
            image_size: rows and columns of the model's pictures; None without a model.
            callback_group: of the services.
        """
        self._node, self._library = node, library
        self._capture, self._image_size = capture, image_size
        for kind, name, callback in (
            (SetGoal, '~/set_goal', self._on_set),
            (CaptureGoal, '~/capture_goal', self._on_capture),
            (ListGoals, '~/list_goals', self._on_list),
        ):
            node.create_service(kind, name, callback, callback_group=callback_group)

    def _on_set(self, request: SetGoal.Request, response: SetGoal.Response) -> SetGoal.Response:
        try:
            stored = self._library.import_file(request.name, request.path)
            response.goal = self._described(stored)
            response.success = True
        except (GoalError, GoalLibraryError) as error:
            response.message = str(error)
        return response

    def _on_capture(
        self, request: CaptureGoal.Request, response: CaptureGoal.Response
    ) -> CaptureGoal.Response:
        try:
            response.goal = self._described(self._library.add(request.name, self._capture()))
            response.success = True
        except (GoalError, GoalLibraryError, StaleInputError) as error:
            response.message = str(error)
        return response

    def _on_list(self, _: ListGoals.Request, response: ListGoals.Response) -> ListGoals.Response:
        goals, problems = self._library.list()
        for problem in problems:
            self._node.get_logger().warning(problem)
        response.goals = [self._described(goal) for goal in goals]
        return response

    def _described(self, goal: StoredGoal) -> GoalMessage:
        """A goal as others see it, its thumbnail as the model sees it where there is a model."""
        picture = goal.image
        size = self._image_size()
        if size is not None:
            height, width = picture.shape[:2]
            picture = ResizeAndCrop.to_cover(width, height, *size).apply(picture)
        height, width = picture.shape[:2]
        rows = max(1, round(height * _THUMBNAIL_WIDTH / width))
        small = ResizeAndCrop.to_cover(width, height, rows, _THUMBNAIL_WIDTH).apply(picture)
        stamp = Time(nanoseconds=goal.stamp_ns).to_msg()
        thumbnail = array_to_image(small, 'rgb8', Header(stamp=stamp))
        return GoalMessage(name=goal.name, stamp=stamp, digest=goal.digest, thumbnail=thumbnail)
