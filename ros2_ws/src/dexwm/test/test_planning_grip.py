import numpy as np
import pytest

from dexwm.planning.grip import keep_grip
from dexwm.robot.joints import HOME, robot_limits

LIMITS = robot_limits()


def test_fingers_press_on_as_before_whatever_the_plan():
    measured = HOME.copy()
    commanded = measured.copy()
    commanded[[8, 9, 12]] += [0.2, 0.15, 0.3]
    commanded[0] += 0.01
    plan = np.stack([measured, measured])
    plan[1, [0, 9]] += [0.3, -0.1]
    targets = keep_grip(plan, commanded, measured, LIMITS)
    np.testing.assert_allclose(targets[:, :7], plan[:, :7])
    np.testing.assert_allclose(targets[:, 8] - plan[:, 8], 0.2)
    np.testing.assert_allclose(targets[:, 9] - plan[:, 9], 0.15)
    np.testing.assert_allclose(targets[:, 12] - plan[:, 12], 0.3)
    # The same grip again from there: the offset does not add up.
    again = keep_grip(plan, targets[0], measured, LIMITS)
    np.testing.assert_allclose(again[0, 7:], targets[0, 7:])


def test_the_result_stays_inside_the_limits():
    commanded = HOME.copy()
    commanded[8] += 5.0
    targets = keep_grip(HOME[None], commanded, HOME, LIMITS)
    assert targets[0, 8] == LIMITS.upper[8]


@pytest.mark.parametrize(
    ('waypoints', 'commanded', 'match'),
    [
        (HOME, HOME, r'expected waypoints \(T, 23\)'),
        (HOME[None], HOME[:7], r'commanded must be \(23,\)'),
        (HOME[None], HOME * np.nan, 'finite'),
    ],
)
def test_what_cannot_be_is_refused(waypoints, commanded, match):
    with pytest.raises(ValueError, match=match):
        keep_grip(waypoints, commanded, HOME, LIMITS)
