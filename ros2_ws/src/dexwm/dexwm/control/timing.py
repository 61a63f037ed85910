"""Jerk-limited time parameterisation of joint waypoints, and stop ramps, with ruckig."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import ruckig
from numpy.typing import ArrayLike

from dexwm.control.trajectory import Floats, JointState, JointTrajectory
from dexwm.robot.joints import JointLimits

SAMPLE_PERIOD = 0.01
"""Spacing of the points of a timed motion (s)."""

ACCELERATION_SHARE = 0.25
"""Part of the acceleration limits that a motion plans with; the rest is for stopping."""

JERK_SHARE = 0.2
"""Largest part of the jerk limits that a motion plans with."""

RISE_TIME = 0.02
"""Least time to build up full acceleration (s): two samples, which the splines then follow."""

SLOW_DOWN = 0.8
"""Factor on the speed scale when a motion breaks a limit that depends on the position."""

SLOWEST = 0.02
"""Speed scale at which slowing down is given up."""

_POSITION_TOLERANCE = 1e-6
_VELOCITY_TOLERANCE = 1e-6
_STANDSTILL = 1e-5


class TimingError(ValueError):
    """There is no motion through the waypoints within the limits."""


@dataclass(frozen=True)
class TimedMotion:
    """A motion through waypoints, timed.

    Attributes:
        trajectory: points every `SAMPLE_PERIOD` with positions, velocities and accelerations,
            from the start state at time zero to rest at the last waypoint.
        arrival_times: (K,) when each waypoint is reached (s).
        speed_scale: the speed scale that was used; smaller than the one asked for if a
            position-dependent velocity limit made the motion slow down.
        notes: what was done differently from what was asked, in readable lines.
    """

    trajectory: JointTrajectory
    arrival_times: Floats
    speed_scale: float
    notes: tuple[str, ...] = ()


def motion_limits(limits: JointLimits, speed_scale: float) -> JointLimits:
    """The limits that a motion plans with.

    The speed scale acts on velocities. Accelerations and jerks are a fixed share of the robot's
    whatever the speed, so that enough is left to stop from any point of a motion.

    Raises:
        TimingError: if `speed_scale` is not in (0, 1].
    """
    if not 0.0 < speed_scale <= 1.0:
        raise TimingError(f'the speed scale must be in (0, 1], got {speed_scale}')
    acceleration = ACCELERATION_SHARE * limits.acceleration
    return replace(
        limits,
        velocity=speed_scale * limits.velocity,
        acceleration=acceleration,
        jerk=np.minimum(JERK_SHARE * limits.jerk, acceleration / RISE_TIME),
    )


def stop_ramp(state: JointState, limits: JointLimits) -> JointTrajectory:
    """The fastest way to rest from `state` within acceleration and jerk limits.

    Each joint brakes for itself (ruckig's velocity interface), so the path bends; a motion that
    must stay on its path is stopped by `dexwm.control.motion`. A joint stays inside its position
    limits if its acceleration limit lets it brake before them.

    Args:
        state: where the robot is, (n,).
        limits: of the same n joints.

    Returns:
        Points every `SAMPLE_PERIOD`, the first one `state`, the last one at rest.

    Raises:
        TimingError: if ruckig finds no way.
    """
    return _resample([_brake(state, limits)], limits.names, None)


def time_waypoints(
    start: JointState,
    waypoints: ArrayLike,
    limits: JointLimits,
    speed_scale: float,
    times_from_start: ArrayLike | None = None,
) -> TimedMotion:
    """Time a motion from `start` through `waypoints` to rest at the last one.

    Every waypoint is passed exactly at its arrival time (the sampled trajectory comes within
    1e-4 rad). All joints arrive together. A joint passes a waypoint without stopping if it goes
    on in the same direction, at no more than the mean speed of the slower of the two sides;
    otherwise it turns there. From rest to rest the path is straight in joint space (within 1e-5
    rad); elsewhere it bends, so collisions are to be checked on the result, not on the waypoints.

    If a way with flying passages leaves the position limits, the motion rests at each waypoint;
    if even that does (the start is too fast towards a limit), it brakes first. If a velocity limit
    that depends on the position would be broken, all is done again more slowly.

    Args:
        start: state of the n joints to begin with; may move.
        waypoints: (K, n) in rad, K >= 1.
        limits: the robot's limits; positions hold on every sample (where the start is outside,
            no sample is farther outside), velocities and accelerations as in `motion_limits`.
        speed_scale: part of the velocity limits to use, in (0, 1].
        times_from_start: (K,) earliest arrival times (s), or None for no such wish.

    Raises:
        TimingError: if shapes are wrong, or no motion within the limits is found.
    """
    points = np.asarray(waypoints, dtype=np.float64)
    n = len(limits.names)
    if points.ndim != 2 or points.shape[0] == 0 or points.shape[1] != n:
        raise TimingError(f'waypoints must be (K, {n}) with K >= 1, got {points.shape}')
    earliest = np.zeros(len(points)) if times_from_start is None else np.asarray(times_from_start)
    if earliest.shape != (len(points),):
        raise TimingError(f'{len(points)} waypoints but times of shape {earliest.shape}')

    scale, broken = speed_scale, ''
    while scale >= SLOWEST:
        planned = motion_limits(limits, scale)
        for pieces_of in _STRATEGIES:
            try:
                pieces = pieces_of(start, points, planned, limits, earliest)
            except TimingError as error:
                broken = str(error)
                continue
            trajectory = _resample(pieces, limits.names, points[-1])
            broken = _position_breach(trajectory, start, limits)
            if not broken:
                break
        else:
            raise TimingError(f'no motion through the waypoints stays within limits: {broken}')
        broken = _velocity_breach(trajectory, limits)
        if not broken:
            arrivals = np.cumsum([piece.duration for piece in pieces])[-len(points) :]
            notes = []
            if scale < speed_scale:
                notes.append(
                    f'slowed down to speed scale {scale:.3f} for the velocity limits near the '
                    'ends of the joint ranges'
                )
            return TimedMotion(trajectory, arrivals, scale, tuple(notes))
        scale *= SLOW_DOWN
    raise TimingError(f'even at a speed scale of {SLOWEST} a velocity limit is broken: {broken}')


def _calculate(problem: ruckig.InputParameter) -> ruckig.Trajectory:
    profile = ruckig.Trajectory(problem.degrees_of_freedom)
    try:
        result = ruckig.Ruckig(problem.degrees_of_freedom).calculate(problem, profile)
    except ruckig.RuckigError as error:
        raise TimingError(f'ruckig refuses the motion: {error}') from error
    if result not in (ruckig.Result.Working, ruckig.Result.Finished):
        raise TimingError(f'ruckig finds no motion: {result.name}')
    return profile


def _problem(state: JointState, limits: JointLimits) -> ruckig.InputParameter:
    problem = ruckig.InputParameter(len(limits.names))
    problem.current_position = state.positions
    problem.current_velocity = state.velocities
    problem.current_acceleration = state.accelerations
    problem.max_velocity = limits.velocity
    problem.max_acceleration = limits.acceleration
    problem.max_jerk = limits.jerk
    return problem


def _brake(state: JointState, limits: JointLimits) -> ruckig.Trajectory:
    problem = _problem(state, limits)
    problem.control_interface = ruckig.ControlInterface.Velocity
    problem.synchronization = ruckig.Synchronization.No
    problem.target_velocity = np.zeros(len(limits.names))
    problem.target_acceleration = np.zeros(len(limits.names))
    return _calculate(problem)


def _straight(distances: Floats, limits: JointLimits) -> JointLimits:
    """Limits in proportion to the distances (n,): with them all joints have the same profile."""
    moves = distances > _STANDSTILL

    def shared(values: Floats) -> Floats:
        scaled = values.copy()
        if moves.any():
            scaled[moves] = distances[moves] * (values[moves] / distances[moves]).min()
        return scaled

    return replace(
        limits,
        velocity=shared(limits.velocity),
        acceleration=shared(limits.acceleration),
        jerk=shared(limits.jerk),
    )


def _segment(
    state: JointState,
    target: Floats,
    target_velocity: Floats,
    limits: JointLimits,
    minimum_duration: float,
) -> ruckig.Trajectory:
    if not (state.velocities.any() or state.accelerations.any() or target_velocity.any()):
        limits = _straight(np.abs(target - state.positions), limits)
    problem = _problem(state, limits)
    problem.target_position = target
    problem.target_velocity = target_velocity
    problem.target_acceleration = np.zeros(len(limits.names))
    if minimum_duration > 0.0:
        problem.minimum_duration = minimum_duration
    return _calculate(problem)


def _chain(
    start: JointState,
    points: Floats,
    passing: Floats,
    limits: JointLimits,
    earliest: Floats,
    clock: float = 0.0,
) -> list[ruckig.Trajectory]:
    """One profile a segment, with the velocities `passing` (K, n) at the waypoints."""
    pieces, state = [], start
    for target, velocity, time in zip(points, passing, earliest, strict=True):
        piece = _segment(state, target, velocity, limits, float(time) - clock)
        clock += piece.duration
        pieces.append(piece)
        state = JointState(target, velocity, np.zeros_like(target))
    return pieces


def _flying(
    start: JointState, points: Floats, planned: JointLimits, _: JointLimits, earliest: Floats
) -> list[ruckig.Trajectory]:
    """Pass the waypoints without stopping where joints go on in the same direction."""
    distances = np.diff(points, axis=0, prepend=start.positions[None])
    passing = np.zeros_like(points)
    pieces = _chain(start, points, passing, planned, earliest)
    # The passing velocities depend on the durations and these on them; it settles quickly.
    for _iteration in range(4 if len(points) > 1 else 0):
        durations = np.array([max(piece.duration, SAMPLE_PERIOD) for piece in pieces])
        mean = distances / durations[:, None]
        slower = np.where(np.abs(mean[:-1]) < np.abs(mean[1:]), mean[:-1], mean[1:])
        passing[:-1] = np.where(mean[:-1] * mean[1:] > 0.0, slower, 0.0)
        passing = np.clip(passing, -planned.velocity, planned.velocity)
        pieces = _chain(start, points, passing, planned, earliest)
    return pieces


def _resting(
    start: JointState, points: Floats, planned: JointLimits, _: JointLimits, earliest: Floats
) -> list[ruckig.Trajectory]:
    """Come to rest at every waypoint."""
    return _chain(start, points, np.zeros_like(points), planned, earliest)


def _braking(
    start: JointState, points: Floats, planned: JointLimits, limits: JointLimits, earliest: Floats
) -> list[ruckig.Trajectory]:
    """Brake as hard as allowed, then go and rest at every waypoint."""
    ramp = _brake(start, limits)
    rest = JointState.at_rest(ramp.at_time(ramp.duration)[0])
    passing = np.zeros_like(points)
    return [ramp, *_chain(rest, points, passing, planned, earliest, clock=ramp.duration)]


_STRATEGIES: tuple[Callable[..., list[ruckig.Trajectory]], ...] = (_flying, _resting, _braking)


def _states(
    pieces: Sequence[ruckig.Trajectory], times: Floats
) -> Iterator[tuple[list[float], list[float], list[float]]]:
    starts = np.concatenate([[0.0], np.cumsum([piece.duration for piece in pieces])])
    for t in times:
        i = min(int(np.searchsorted(starts, t, side='right')) - 1, len(pieces) - 1)
        yield pieces[i].at_time(float(t - starts[i]))


def _resample(
    pieces: Sequence[ruckig.Trajectory], names: tuple[str, ...], end: Floats | None
) -> JointTrajectory:
    """Sample profiles on a regular grid whose last point is at rest, at `end` if given."""
    duration = sum(piece.duration for piece in pieces)
    count = max(1, int(np.ceil(duration / SAMPLE_PERIOD - 1e-9)))
    times: Floats = np.arange(count + 1, dtype=np.float64) * SAMPLE_PERIOD
    q, v, a = (np.array(column) for column in zip(*_states(pieces, times), strict=True))
    if end is not None:
        q[-1] = end
    v[-1], a[-1] = 0.0, 0.0
    return JointTrajectory(names, times, q, v, a)


def _position_breach(trajectory: JointTrajectory, start: JointState, limits: JointLimits) -> str:
    """The first position that is outside the limits and farther outside than the start."""
    lower = np.minimum(limits.lower, start.positions) - _POSITION_TOLERANCE
    upper = np.maximum(limits.upper, start.positions) + _POSITION_TOLERANCE
    outside = np.argwhere((trajectory.positions < lower) | (trajectory.positions > upper))
    if not outside.size:
        return ''
    i, joint = outside[0]
    return (
        f'{limits.names[joint]} comes to {trajectory.positions[i, joint]:.4f} rad after '
        f'{trajectory.times[i]:.2f} s, its range is '
        f'[{limits.lower[joint]:.4f}, {limits.upper[joint]:.4f}]'
    )


def _velocity_breach(trajectory: JointTrajectory, limits: JointLimits) -> str:
    """The first velocity outside `limits.velocity_bounds` of its position."""
    velocities = trajectory.velocities
    assert velocities is not None
    lower, upper = limits.velocity_bounds(trajectory.positions)
    outside = np.argwhere(
        (velocities < lower - _VELOCITY_TOLERANCE) | (velocities > upper + _VELOCITY_TOLERANCE)
    )
    if not outside.size:
        return ''
    i, joint = outside[0]
    return (
        f'{limits.names[joint]} at {trajectory.positions[i, joint]:.4f} rad would move at '
        f'{velocities[i, joint]:.3f} rad/s, allowed are [{lower[i, joint]:.3f}, '
        f'{upper[i, joint]:.3f}]'
    )
