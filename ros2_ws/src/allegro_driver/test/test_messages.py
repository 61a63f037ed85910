"""Settings that cannot be used, and the legacy command."""

import math
from types import SimpleNamespace

import pytest

from allegro_driver.joint_command import InvalidJointCommand, parse_joint_command
from allegro_driver.messages import GoTo, HandSettings, Torques
from dexwm.robot.joints import HAND_JOINTS


@pytest.mark.parametrize(
    ('field', 'value', 'reason'),
    [
        ('stiffness', (1.0,) * 15, 'needs 16 numbers'),
        ('damping', (-0.1,) * 16, 'not negative'),
        ('stiffness', (math.inf,) * 16, 'not negative'),
        ('torque_limits', (0.3,) * 16, r'joint_3.0 is 0.3 N m; the hand allows 0.2375'),
        ('command_timeout', 0.0, 'must be positive'),
        ('max_temperature', math.nan, 'must be positive'),
    ],
)
def test_settings_that_cannot_be_used_are_refused(field, value, reason):
    with pytest.raises(ValueError, match=reason):
        HandSettings('unix', '/x', **{field: value})


def command(name=(), position=(), effort=()):
    return SimpleNamespace(name=name, position=position, effort=effort)


def test_a_joint_command_is_read_by_name():
    values = [float(i) for i in range(16)]
    names = list(HAND_JOINTS)
    assert parse_joint_command(command(names[::-1], values[::-1])) == GoTo(tuple(values))
    assert parse_joint_command(command(effort=values)) == Torques(tuple(values))


@pytest.mark.parametrize(
    ('message', 'reason'),
    [
        (command(), 'either positions or efforts'),
        (command(position=[0.0] * 16, effort=[0.0] * 16), 'either positions or efforts'),
        (command(position=[0.0] * 15), '15 values for 16 names'),
        (command(['thumb'], [0.0]), 'joint_0.0 to joint_15.0'),
        (command(effort=[0.0] * 15 + [math.nan]), 'not finite'),
    ],
)
def test_joint_commands_that_cannot_be_understood(message, reason):
    with pytest.raises(InvalidJointCommand, match=reason):
        parse_joint_command(message)
