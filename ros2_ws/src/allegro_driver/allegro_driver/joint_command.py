"""Reading the legacy command of the Allegro drivers: a JointState with positions or efforts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from allegro_driver.messages import GoTo, Torques
from dexwm.robot.joints import HAND_JOINTS


class JointCommandMessage(Protocol):
    """Shape of sensor_msgs/JointState, as far as it is read."""

    name: Sequence[str]
    position: Sequence[float]
    effort: Sequence[float]


class InvalidJointCommand(ValueError):
    """A joint command that cannot be understood; the message says why."""


def parse_joint_command(message: JointCommandMessage) -> GoTo | Torques:
    """What a joint command asks for.

    Args:
        message: Positions (rad) or efforts (N m) of all 16 joints, not both; without names they
            are in the order of `HAND_JOINTS`.

    Raises:
        InvalidJointCommand: Both or none of them, unknown or missing joints, or numbers that are
            not finite.
    """
    if bool(len(message.position)) == bool(len(message.effort)):
        raise InvalidJointCommand('give either positions or efforts')
    values = list(message.position) or list(message.effort)
    names = list(message.name) or list(HAND_JOINTS)
    if sorted(names) != sorted(HAND_JOINTS) or len(values) != len(names):
        raise InvalidJointCommand(
            f'got {len(values)} values for {len(names)} names; needed are the joints '
            f'{HAND_JOINTS[0]} to {HAND_JOINTS[-1]}, each once'
        )
    if not all(map(math.isfinite, values)):
        raise InvalidJointCommand(f'got numbers that are not finite: {values}')
    by_name = dict(zip(names, values, strict=True))
    ordered = tuple(by_name[name] for name in HAND_JOINTS)
    return GoTo(ordered) if len(message.position) else Torques(ordered)
