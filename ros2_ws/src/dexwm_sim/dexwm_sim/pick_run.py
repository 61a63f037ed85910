"""The scripted grasp through ROS, without ROS: its stages, its judge, its summary."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.robot.joints import ARM
from dexwm.robot.model import RobotModel
from dexwm_sim.expert import Leg
from dexwm_sim.task_monitor import TaskMonitor
from dexwm_sim.tasks import GraspJudge, Verdict

STAGES: tuple[tuple[str, ...], ...] = (('approach', 'descend'), ('curl', 'close'), ('lift',))
"""Legs of the expert that go to the trajectory node as one plan each."""


@dataclass(frozen=True)
class Stage:
    """One plan for the trajectory node.

    Attributes:
        name: Names of its legs.
        waypoints: Joint positions (T, 23), rad.
        dwell: How long to stay afterwards (s).
    """

    name: str
    waypoints: NDArray[np.float64]
    dwell: float


def stages(legs: Sequence[Leg]) -> tuple[Stage, ...]:
    """Groups the legs of a pick into the plans of ``STAGES``.

    Raises:
        ValueError: If they are not the legs of a pick.
    """
    if [leg.name for leg in legs] != [name for names in STAGES for name in names]:
        raise ValueError(f'these are not the legs of a pick: {[leg.name for leg in legs]}')
    by_name = {leg.name: leg for leg in legs}
    return tuple(
        Stage(
            '+'.join(names),
            np.array([by_name[name].target for name in names]),
            by_name[names[-1]].dwell,
        )
        for names in STAGES
    )


class PickMonitor(TaskMonitor):
    """Judges the grasp by what is observed."""

    def __init__(self, model: RobotModel, target: str, start_height: float) -> None:
        """Takes the robot, the object and its height at the start, in the base frame (m)."""
        super().__init__(model, GraspJudge(target, start_height))
        self._target = target
        self._start_height = start_height
        self.highest = 0.0
        """How far the object was lifted at most (m)."""

    def observe(
        self,
        stamp_ns: int,
        joint_positions: ArrayLike,
        object_positions: Mapping[str, NDArray[np.float64]],
        touched: frozenset[str],
    ) -> None:
        """Takes in a state of the cell, see `TaskMonitor.observe`."""
        lifted = float(object_positions[self._target][2] - self._start_height)
        self.highest = max(self.highest, lifted)
        super().observe(stamp_ns, joint_positions, object_positions, touched)


class ArmTracking:
    """Largest tracking error of the arm; the hand's says how much it holds, not how well."""

    def __init__(self) -> None:
        self.largest = 0.0
        """Radians."""

    def observe(self, tracking_error: ArrayLike) -> None:
        """Takes in desired minus measured positions (23,), rad."""
        self.largest = max(self.largest, float(np.abs(np.asarray(tracking_error)[ARM]).max()))


@dataclass
class PickSummary:
    """What is left of a pick, as JSON.

    Attributes:
        verdict: ``lifted``, ``not lifted``, or ``failed``.
        reason: Why it failed; empty otherwise.
        target: The object.
        scene_seed: Seed of the scene.
        paper_grasp: Whether DexWM's grasp criterion was met (appendix C.4).
        strict_lift: Whether the object was 5 cm up for a second.
        height: How far up the object is at the end (m).
        highest: How far up it was at most (m).
        stages: Per plan: its name, duration of the motion and time until its result (s).
        duration: From the first plan to the verdict (s).
        frames_received: Pictures from the camera.
        frames_recorded: Pictures in the video.
        frame_rate: Pictures per second.
        max_tracking_error_arm: Largest tracking error of an arm joint (rad).
        real_time_factor: Least simulated over wall time that the cell reported.
        video: File name of the video; empty if none.
    """

    verdict: str = 'failed'
    reason: str = ''
    target: str = ''
    scene_seed: int = 0
    paper_grasp: bool = False
    strict_lift: bool = False
    height: float = 0.0
    highest: float = 0.0
    stages: list[dict[str, object]] = field(default_factory=list)
    duration: float = 0.0
    frames_received: int = 0
    frames_recorded: int = 0
    frame_rate: float = 0.0
    max_tracking_error_arm: float = 0.0
    real_time_factor: float = 0.0
    video: str = ''

    @property
    def succeeded(self) -> bool:
        """Whether the verdict is what was to be done; in the JSON too."""
        return self.verdict == 'lifted'

    def conclude(self, verdict: Verdict, highest: float) -> None:
        """Takes in the judge's verdict."""
        self.verdict = 'lifted' if verdict.strict_success else 'not lifted'
        self.paper_grasp = verdict.success
        self.strict_lift = verdict.strict_success
        self.height, self.highest = verdict.measure, highest

    def to_json(self) -> str:
        """Returns the summary as JSON."""
        return (
            json.dumps({**dataclasses.asdict(self), 'succeeded': self.succeeded}, indent=2) + '\n'
        )
