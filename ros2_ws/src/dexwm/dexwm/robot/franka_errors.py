"""What Franka's error flags and robot modes mean, in words, and what to do about them.

The flags are those of libfranka's franka::Errors; the message franka_msgs/Errors has the same.
"""

from __future__ import annotations

from collections.abc import Iterable

_RECOVER = 'then call ~/recover'
_FREE = f'see what it touched and free it, {_RECOVER}'
_BACK = f'move it back by hand (guiding), {_RECOVER}'
_REPORT = f'slow down (speed_scale), {_RECOVER}; if it comes again, report it with a recording'
_NOT_OURS = f'another program commands the arm in Cartesian space; stop it, {_RECOVER}'

ERRORS: dict[str, tuple[str, str]] = {
    'joint_position_limits_violation': ('a joint is beyond its limits', _BACK),
    'cartesian_position_limits_violation': ('the hand left the allowed space', _BACK),
    'self_collision_avoidance_violation': ('the arm came too close to itself', _BACK),
    'joint_velocity_violation': ('a joint was too fast', _REPORT),
    'cartesian_velocity_violation': ('the hand was too fast', _REPORT),
    'force_control_safety_violation': ('force control became unsafe', _FREE),
    'joint_reflex': ('a joint felt a collision: its torque passed collision_torques', _FREE),
    'cartesian_reflex': ('the hand felt a collision: its force passed collision_forces', _FREE),
    'max_goal_pose_deviation_violation': ('the arm stopped away from its goal', _FREE),
    'max_path_pose_deviation_violation': ('the arm was pushed off its path', _FREE),
    'cartesian_velocity_profile_safety_violation': ('the hand was too fast', _REPORT),
    'joint_position_motion_generator_start_pose_invalid': (
        'a motion did not begin where the arm is',
        _REPORT,
    ),
    'joint_motion_generator_position_limits_violation': (
        'a commanded position is beyond the joint limits',
        _BACK,
    ),
    'joint_motion_generator_velocity_limits_violation': (
        'a commanded velocity is beyond the limits, which shrink near the end of a joint',
        _REPORT,
    ),
    'joint_motion_generator_velocity_discontinuity': (
        'the commanded velocity jumped: commands came late, or two programs command the arm',
        _REPORT,
    ),
    'joint_motion_generator_acceleration_discontinuity': (
        'the commanded acceleration jumped: commands came late, or two programs command the arm',
        _REPORT,
    ),
    **{
        f'cartesian_{name}': ('a Cartesian command was not allowed', _NOT_OURS)
        for name in (
            'position_motion_generator_start_pose_invalid',
            'motion_generator_elbow_limit_violation',
            'motion_generator_velocity_limits_violation',
            'motion_generator_velocity_discontinuity',
            'motion_generator_acceleration_discontinuity',
            'motion_generator_elbow_sign_inconsistent',
            'motion_generator_start_elbow_invalid',
            'motion_generator_joint_position_limits_violation',
            'motion_generator_joint_velocity_limits_violation',
            'motion_generator_joint_velocity_discontinuity',
            'motion_generator_joint_acceleration_discontinuity',
            'position_motion_generator_invalid_frame',
        )
    },
    'force_controller_desired_force_tolerance_violation': (
        'a commanded force was out of tolerance',
        _NOT_OURS,
    ),
    'controller_torque_discontinuity': ('the commanded torque jumped', _REPORT),
    'start_elbow_sign_inconsistent': ('a motion began with the elbow turned over', _NOT_OURS),
    'communication_constraints_violation': (
        'the robot missed too many commands in a row',
        'look at the network and the real-time kernel of this machine (docs/robot.md), '
        f'{_RECOVER}',
    ),
    'power_limit_violation': ('the robot drew too much power', _REPORT),
    'joint_p2p_insufficient_torque_for_planning': (
        'a joint is overloaded: the load in Desk is not what the arm carries',
        f"set the hand's mass and centre of mass in Desk, {_RECOVER}",
    ),
    'tau_j_range_violation': (
        'a torque sensor is out of its range',
        f'take the load off the arm and see whether the hand is mounted as in Desk, {_RECOVER}',
    ),
    'joint_via_motion_generator_planning_joint_limit_violation': (
        'a motion through points would leave the joint limits',
        _NOT_OURS,
    ),
    'joint_move_in_wrong_direction': (
        'a joint beyond its limits was commanded further out',
        _BACK,
    ),
    'cartesian_spline_motion_generator_violation': (
        'a Cartesian command was not allowed',
        _NOT_OURS,
    ),
    'base_acceleration_initialization_timeout': (
        "the base's acceleration sensor did not start",
        f'restart the robot with its base at rest, {_RECOVER}',
    ),
    'base_acceleration_invalid_reading': (
        "the base's acceleration sensor gives no valid reading",
        f'restart the robot with its base at rest, {_RECOVER}',
    ),
    'instability_detected': (
        'the arm began to oscillate',
        f"lower joint_stiffness and check the hand's mass in Desk, {_RECOVER}",
    ),
}
"""By flag: what happened, and what to do."""

MODES: dict[str, str] = {
    'Guiding': 'a person guides the arm by hand; let go of the button, then call ~/recover',
    'Reflex': 'the robot stopped by reflex',
    'UserStopped': (
        'the user stop is pressed, or the arm is locked; release it and activate FCI in Desk, '
        'then call ~/recover'
    ),
    'AutomaticErrorRecovery': 'the robot clears its errors; wait, then call ~/recover',
}
"""By libfranka's name of the robot mode: why the arm cannot be moved."""


def describe_errors(names: Iterable[str]) -> str:
    """Say what error flags mean; a flag that is not known is told by its name.

    Args:
        names: the flags that are set.

    Returns:
        One sentence for each, with what to do; empty if there are none.
    """
    sentences = []
    for name in names:
        if name in ERRORS:
            happened, remedy = ERRORS[name]
            sentences.append(f'{name}: {happened}; {remedy}')
        else:
            sentences.append(f"{name}: see the robot's log in Desk, {_RECOVER}")
    return '. '.join(sentences)


def describe_mode(mode: str) -> str:
    """Say why the arm cannot be moved in a mode; empty in one in which it can."""
    return MODES.get(mode, '')
