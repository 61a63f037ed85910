"""How the execution of a plan can end."""

from __future__ import annotations

import enum


class Outcome(enum.IntEnum):
    """Outcomes of an execution; the numbers are those of the action dexwm_msgs/ExecutePlan."""

    SUCCESSFUL = 0
    INVALID_PLAN = -1
    LIMITS = -2
    COLLISION = -3
    STALE_STATE = -4
    NO_CONTROLLER = -5
    TRACKING = -6
    PREEMPTED = -7
    STOPPED = -8
    REFUSED = -9


class PlanRefused(ValueError):
    """A plan is not executed.

    Attributes:
        code: what kind of reason.
        reason: the reason, and what to do about it.
    """

    def __init__(self, code: Outcome, reason: str):
        super().__init__(f'{code.name}: {reason}')
        self.code = code
        self.reason = reason
