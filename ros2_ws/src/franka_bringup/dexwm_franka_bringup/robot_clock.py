"""The time a trajectory is followed in: the robot's milliseconds, tied to ROS time."""

from __future__ import annotations

from dexwm.robot.joints import ARM_JOINTS, JointLimits, robot_limits

# Accelerations grow with the square of the rate: a stop at 95 % of the limits stays within them,
# and two quartz clocks differ by far less.
_MAX_RATE_CHANGE = 0.01
_TIME_CONSTANT = 0.5


class RobotClock:
    """Counts the robot's cycles and follows ROS time so gently that no joint notices.

    The robot wants a new position for every millisecond of its own time. Sampling a trajectory at
    the instants at which its packets happen to arrive would put the network's jitter into the
    velocity. So this clock advances by what the robot says has passed, at a rate within
    1 +- `MAX_RATE_CHANGE` that takes out the difference to ROS time, smoothly.
    """

    MAX_RATE_CHANGE = _MAX_RATE_CHANGE

    def __init__(self) -> None:
        """Make a clock that has not been set."""
        self._now_ns = 0.0
        self._rate_change = 0.0

    @property
    def now_ns(self) -> int:
        """The time (ns)."""
        return round(self._now_ns)

    def set(self, ros_ns: int) -> None:
        """Take over the ROS time at once. For an arm at rest."""
        self._now_ns = float(ros_ns)
        self._rate_change = 0.0

    def advance(self, passed_ns: int, ros_ns: int) -> int:
        """Advance by one cycle.

        Args:
            passed_ns: What the robot says has passed since the last cycle (ns).
            ros_ns: ROS time at which its packet arrived (ns).

        Returns:
            The new time (ns).
        """
        difference = (ros_ns - self._now_ns - passed_ns) * 1e-9
        wanted = max(-_MAX_RATE_CHANGE, min(_MAX_RATE_CHANGE, difference / _TIME_CONSTANT))
        passed = passed_ns * 1e-9
        self._rate_change += (wanted - self._rate_change) * min(1.0, passed / _TIME_CONSTANT)
        self._now_ns += passed_ns * (1.0 + self._rate_change)
        return self.now_ns


def loop_limits() -> JointLimits:
    """Limits of the seven joints for trajectories that this clock may run faster."""
    return robot_limits().subset(ARM_JOINTS).scaled(1.0 / (1.0 + RobotClock.MAX_RATE_CHANGE))
