"""The closing rule: what happens after the last plan of a grasp.

A goal picture shows where the fingers were stopped by the object. Fingers that are sent there
touch it without any force, so nothing is held. The rule sends them on, towards a closed hand, and
then lifts the hand straight up. It looks at nothing but the last waypoint. It is not in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.planning.dummy_motion import DUMMY_GRASP
from dexwm.planning.hand_motion import raised
from dexwm.robot.joints import HAND, JointLimits
from dexwm.robot.model import RobotModel

_SPREAD_JOINTS = (0, 4, 8)


@dataclass(frozen=True)
class ClosingRule:
    """How to close and to lift.

    Attributes:
        stages: waypoints of the closing.
        height: of the lift, metres.
        lift_steps: waypoints of the lift, so that the hand rises straight.

    Raises:
        ValueError: where a value is not positive.
    """

    stages: int = 2
    height: float = 0.15
    lift_steps: int = 3

    def __post_init__(self) -> None:
        if self.stages < 1 or self.lift_steps < 1 or not self.height > 0:
            raise ValueError(
                'stages, lift_steps and height must be positive, got '
                f'{self.stages}, {self.lift_steps} and {self.height}'
            )

    def close(self, waypoint: ArrayLike, limits: JointLimits) -> NDArray[np.float64]:
        """Waypoints (stages, 23) from a waypoint (23,) to the same with the hand closed, rad.

        No finger opens, and fingers are not spread.
        """
        begin = np.array(waypoint, dtype=np.float64)
        closed = begin.copy()
        closed[HAND] = np.maximum(begin[HAND], DUMMY_GRASP[-1, HAND])
        spread = HAND.start + np.array(_SPREAD_JOINTS)
        closed[spread] = begin[spread]
        part = np.arange(1, self.stages + 1)[:, None] / self.stages
        return limits.clamp(begin + part * (closed - begin))

    def lift(
        self, robot: RobotModel, waypoint: ArrayLike, limits: JointLimits
    ) -> NDArray[np.float64]:
        """Waypoints (lift_steps, 23) that raise the hand straight up, fingers as they are, rad.

        Raises:
            PlanningError: where the arm cannot reach so high from here.
        """
        return raised(robot, waypoint, limits, self.height, self.lift_steps)
