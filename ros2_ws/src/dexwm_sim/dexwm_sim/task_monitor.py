"""Shows a judge what is observed through ROS, one state every ``STEP``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.robot.model import RobotModel
from dexwm_sim.robot_spec import FINGERTIPS, WRIST_SITE
from dexwm_sim.tasks import STEP, Judge, TaskState, Verdict

_STEP_NS = round(STEP * 1e9)
# States come at 20 Hz, stamped not exactly so: this much early still counts as the next step.
_EARLY_NS = _STEP_NS // 10


class TaskMonitor:
    """Takes in states as they come."""

    def __init__(self, model: RobotModel, judge: Judge) -> None:
        """Takes the robot and who judges."""
        self._model = model
        self._judge = judge
        self._due_ns: int | None = None

    def observe(
        self,
        stamp_ns: int,
        joint_positions: ArrayLike,
        object_positions: Mapping[str, NDArray[np.float64]],
        touched: frozenset[str],
    ) -> None:
        """Takes in a state of the cell: joint positions (23,), object centres (3,), contacts."""
        if self._due_ns is None:
            self._due_ns = stamp_ns
        if stamp_ns < self._due_ns - _EARLY_NS:
            return
        # States that did not come are not made up for: late steps make a streak longer, never
        # shorter.
        missed = max(0, stamp_ns - self._due_ns) // _STEP_NS
        self._due_ns += (1 + missed) * _STEP_NS
        points = [
            self._model.frame_pose(joint_positions, frame)[:3, 3]
            for frame in (WRIST_SITE, *FINGERTIPS)
        ]
        self._judge.update(TaskState(np.array(points), object_positions, touched))

    def verdict(self) -> Verdict:
        """Returns the verdict so far."""
        return self._judge.verdict()
