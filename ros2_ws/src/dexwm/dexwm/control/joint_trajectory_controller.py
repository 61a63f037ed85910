"""The trajectory semantics of ros2_control's JointTrajectoryController, without ROS or a clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm.control.trajectory import Floats, JointState, JointTrajectory
from dexwm.robot.joints import JointLimits

REST_VELOCITY = float(np.finfo(np.float32).eps)
"""Largest velocity of the last point that counts as rest (rad/s), as in ros2_controllers."""


class TrajectoryRejected(ValueError):
    """A controller refuses a trajectory; the message is the reason. What ran before still runs."""


@dataclass(frozen=True)
class _Running:
    """A trajectory with its place in time."""

    trajectory: JointTrajectory
    start_ns: int

    @property
    def end_ns(self) -> int:
        return self.start_ns + round(self.trajectory.duration * 1e9)

    def sample(self, now_ns: int) -> JointState:
        return self.trajectory.sample((now_ns - self.start_ns) * 1e-9)


class JointTrajectoryController:
    """Follows joint trajectories as Jazzy's `joint_trajectory_controller` does.

    Compared with ros2_controllers 4.42 and these parameters: `interpolate_from_desired_state:
    true`, `allow_nonzero_velocity_at_trajectory_end: false`, `allow_partial_joints_goal: false`,
    `decelerate_on_cancel: false`. There is no measured state in here: the desired state is what
    `sample` says (open loop).

    * A stamp of zero means now. A stamp may lie in the past as long as the trajectory ends in
      the future; sampling then begins in its midst.
    * A new trajectory replaces the old at once, the old one is forgotten. Until its first point
      the way is interpolated from the desired state at acceptance, with the spline that the
      points call for. It is the sender who avoids jumps: with a first point that is already due,
      the desired state is the new trajectory's from now on.
    * An empty trajectory cancels: the desired position of that moment is held, without a ramp.
    * After the last point its position is held.

    One instance is for one thread at a time, except that `sample` may run beside `accept`: what
    runs is replaced by one assignment.

    Args:
        names: joints of the controller; vectors are in this order.
        positions: (n,) where the robot is now (rad); held until a trajectory comes.
        limits: hard limits; if given, trajectories with a point outside them are rejected,
            except on the way back in.
    """

    def __init__(
        self, names: Sequence[str], positions: ArrayLike, limits: JointLimits | None = None
    ):
        self.names = tuple(names)
        self._limits = None if limits is None else limits.subset(self.names)
        self._running: _Running
        self.hold(positions)

    def hold(self, positions: ArrayLike) -> None:
        """Forget any trajectory and hold `positions` (n,) (rad), as on activation."""
        q = np.array(positions, dtype=np.float64)
        if q.shape != (len(self.names),) or not np.isfinite(q).all():
            raise ValueError(f'to hold are {len(self.names)} finite positions, got {q}')
        self._running = _Running(JointTrajectory(self.names, np.zeros(1), q[None]), 0)

    def is_active(self, now_ns: int) -> bool:
        """Whether a trajectory is still under way at `now_ns`."""
        return now_ns < self._running.end_ns

    @property
    def end_time_ns(self) -> int:
        """When the last accepted trajectory ends, in the clock of the stamps; 0 when holding."""
        return self._running.end_ns

    def sample(self, now_ns: int) -> JointState:
        """The desired state at `now_ns`, in the order of `names`."""
        return self._running.sample(now_ns)

    def positions_at(self, times_ns: NDArray[np.int64]) -> Floats:
        """The desired positions (K, n) at `times_ns` (K,), if nothing else is accepted."""
        running = self._running
        seconds = (times_ns - running.start_ns).astype(np.float64) * 1e-9
        return running.trajectory.positions_at(seconds)

    def cancel(self, now_ns: int) -> None:
        """Hold the desired position of `now_ns`."""
        self.hold(self.sample(now_ns).positions)

    def accept(self, trajectory: JointTrajectory | None, stamp_ns: int, now_ns: int) -> None:
        """Replace what runs by `trajectory`.

        Args:
            trajectory: joints in any order; None (a message without points) cancels.
            stamp_ns: time at which the trajectory's time zero is, in nanoseconds; 0 means now.
            now_ns: the time now, of the same clock.

        Raises:
            TrajectoryRejected: with the reason. What ran before still runs.
        """
        if trajectory is None:
            self.cancel(now_ns)
            return
        start_ns = stamp_ns or now_ns
        self._check_joints(trajectory)
        trajectory = trajectory.select(self.names)
        self._check_end(trajectory, start_ns, now_ns)
        self._check_limits(trajectory, now_ns)
        first_ns = start_ns + round(trajectory.times[0] * 1e9)
        if first_ns > now_ns:
            trajectory, start_ns = self._lead_in(trajectory, start_ns, now_ns), now_ns
        self._running = _Running(trajectory, start_ns)

    def _check_joints(self, trajectory: JointTrajectory) -> None:
        unknown = [name for name in trajectory.names if name not in self.names]
        missing = [name for name in self.names if name not in trajectory.names]
        if unknown:
            raise TrajectoryRejected(
                f'unknown joints {", ".join(unknown)}; this controller has {", ".join(self.names)}'
            )
        if missing:
            raise TrajectoryRejected(
                f'joints missing: {", ".join(missing)}; partial trajectories are not accepted'
            )

    @staticmethod
    def _check_end(trajectory: JointTrajectory, start_ns: int, now_ns: int) -> None:
        if trajectory.velocities is not None:
            speed = np.abs(trajectory.velocities[-1])
            if speed.max() > REST_VELOCITY:
                joint = int(speed.argmax())
                raise TrajectoryRejected(
                    f'{trajectory.names[joint]} still moves at '
                    f'{trajectory.velocities[-1, joint]:.6g} rad/s at the end; the last point '
                    'must be at rest'
                )
        end_ns = start_ns + round(trajectory.duration * 1e9)
        if end_ns < now_ns:
            raise TrajectoryRejected(
                f'the trajectory ended {(now_ns - end_ns) * 1e-9:.3f} s ago; stamp it with the '
                'present time or with zero'
            )

    def _check_limits(self, trajectory: JointTrajectory, now_ns: int) -> None:
        if self._limits is not None:
            # A robot that is outside (by a bent finger, say) must be able to come back.
            here = self.sample(now_ns).positions
            lower = np.minimum(self._limits.lower, here)
            upper = np.maximum(self._limits.upper, here)
            outside = (trajectory.positions < lower) | (trajectory.positions > upper)
            for i in np.flatnonzero(outside.any(axis=1)):
                reason = '; '.join(self._limits.violations(trajectory.positions[i]))
                raise TrajectoryRejected(f'point {i} is out of limits: {reason}')

    def _lead_in(self, trajectory: JointTrajectory, start_ns: int, now_ns: int) -> JointTrajectory:
        """`trajectory` with the desired state of now in front, timed from now."""
        state = self.sample(now_ns)

        def prepend(row: np.ndarray, rows: np.ndarray | None) -> np.ndarray | None:
            return None if rows is None else np.concatenate([row[None], rows])

        shifted = trajectory.times + (start_ns - now_ns) * 1e-9
        return JointTrajectory(
            trajectory.names,
            np.concatenate([[0.0], shifted]),
            np.concatenate([state.positions[None], trajectory.positions]),
            prepend(state.velocities, trajectory.velocities),
            prepend(state.accelerations, trajectory.accelerations),
        )
