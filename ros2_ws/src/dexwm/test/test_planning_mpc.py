"""Tasks on a robot that goes exactly where it is sent, and the closing rule."""

import numpy as np
import pytest

from dexwm.planning.closing import ClosingRule
from dexwm.planning.errors import PlanningError
from dexwm.planning.mpc import REPLACEMENTS, MotionRefused, PlantError, run_task
from dexwm.robot.joints import ARM, HAND, HOME, robot_limits

from .planning_scene import deep_model, observation, picture_goal, planner


class Obedient:
    """Holds the posture that it was sent to."""

    def __init__(self):
        self.q = HOME.copy()
        self.motions = []

    def observe(self):
        return observation(len(self.motions), self.q)

    def execute(self, waypoints, what):
        self.motions.append((what, waypoints))
        self.q = waypoints[-1].copy()


@pytest.fixture(scope='module')
def deep():
    return deep_model()


def test_each_plan_begins_where_the_last_motion_ended(deep, model):
    p = planner(deep, model, horizon=3, replans=3, executed=1, sigma_decay=0.5)
    plant, told, iterations = Obedient(), [], []
    result = run_task(
        p,
        plant,
        picture_goal(),
        task='reach',
        seed=3,
        on_plan=told.append,
        on_iteration=lambda replan, i: iterations.append((replan, i.iteration)),
        closing=ClosingRule(),
    )
    assert result.outcome == 'done' and not result.closed
    assert list(result.plans) == told
    assert [plan.replan for plan in told] == [0, 1, 2]
    assert [len(plan.waypoints) for plan in told] == [3, 2, 1]
    assert iterations == [(r, i) for r in range(3) for i in range(3)]
    assert [what for what, _ in plant.motions] == [f'reach, plan {i} of 3' for i in (1, 2, 3)]
    for plan, (_, waypoints) in zip(told, plant.motions, strict=True):
        np.testing.assert_array_equal(waypoints, plan.waypoints[:1])
    # Open loop: all waypoints of the one plan at once.
    plant = Obedient()
    run_task(
        planner(deep, model, horizon=2, executed=2), plant, picture_goal(), task='reach', seed=3
    )
    assert [len(waypoints) for _, waypoints in plant.motions] == [2]


def test_a_grasp_ends_with_closing_and_lifting(deep, model):
    p = planner(deep, model, replans=2)
    plant = Obedient()
    result = run_task(
        p, plant, picture_goal(), task='grasp', seed=0, closing=ClosingRule(height=0.05)
    )
    assert result.closed and len(result.plans) == 2
    *_, (closing, closed), (lifting, lifted) = plant.motions
    assert (closing, lifting) == ('closing the hand', 'lifting')
    last = result.plans[-1].waypoints[0]
    np.testing.assert_allclose(closed[:, ARM], np.tile(last[ARM], (2, 1)))
    np.testing.assert_allclose(lifted[:, HAND], np.tile(closed[-1, HAND], (3, 1)))
    without = Obedient()
    result = run_task(p, without, picture_goal(), task='grasp', seed=0)
    assert not result.closed and len(without.motions) == 2


def test_closing_opens_and_spreads_no_finger():
    begin = HOME.copy()
    begin[8:11] = 1.5
    first, second = ClosingRule().close(begin, robot_limits())[:, HAND]
    flexion = [i for i in range(16) if i not in (0, 4, 8)]
    assert (second >= begin[HAND] - 1e-12).all()
    np.testing.assert_array_equal(second[[0, 4, 8]], begin[HAND][[0, 4, 8]])
    np.testing.assert_array_equal(second[1:4], begin[HAND][1:4])
    assert (second[flexion] > 0.5).all()
    np.testing.assert_allclose(first, (begin[HAND] + second) / 2)


def test_the_lift_is_straight_and_too_high_a_one_is_refused(model):
    rises = ClosingRule(height=0.12, lift_steps=3).lift(model, HOME, robot_limits())
    below = model.frame_pose(HOME, 'allegro_wrist')
    for step, q in enumerate(rises, 1):
        pose = model.frame_pose(q, 'allegro_wrist')
        np.testing.assert_allclose(pose[:3, :3], below[:3, :3], atol=3e-3)
        np.testing.assert_allclose(pose[:3, 3] - below[:3, 3], [0, 0, 0.04 * step], atol=3e-4)
    with pytest.raises(PlanningError, match=r'cannot be lifted by 2.0 m.*Lift less'):
        ClosingRule(height=2.0).lift(model, HOME, robot_limits())
    with pytest.raises(ValueError, match='must be positive'):
        ClosingRule(height=0.0)


@pytest.mark.parametrize('motions', [0, 1, 2, 3])
def test_a_cancelled_task_moves_no_further(deep, model, motions):
    plant = Obedient()
    result = run_task(
        planner(deep, model, replans=2),
        plant,
        picture_goal(),
        task='grasp',
        seed=0,
        closing=ClosingRule(height=0.05),
        should_stop=lambda: len(plant.motions) == motions,
    )
    assert result.outcome == 'cancelled' and len(plant.motions) == motions
    assert not result.closed


def test_what_the_robot_refuses_reaches_the_caller(deep, model):
    class Refusing(Obedient):
        def execute(self, waypoints, what):
            raise PlantError(f'{what}: emergency stop')

    with pytest.raises(PlantError, match='reach, plan 1 of 1: emergency stop'):
        run_task(planner(deep, model), Refusing(), picture_goal(), task='reach', seed=0)


@pytest.mark.parametrize('refusals', [1, REPLACEMENTS])
def test_a_refused_plan_is_replaced_by_one_of_another_seed(deep, model, refusals):
    class Picky(Obedient):
        refused = 0

        def execute(self, waypoints, what):
            if self.motions and self.refused < refusals:
                self.refused += 1
                raise MotionRefused(f'{what}: the index finger meets the counter')
            super().execute(waypoints, what)

    plant, told = Picky(), []
    p = planner(deep, model, horizon=2, replans=2)
    result = run_task(p, plant, picture_goal(), task='reach', seed=7, on_plan=told.append)
    assert [plan.seed for plan in told] == [7, 7, *(8 + n for n in range(refusals))]
    assert list(result.plans) == [told[0], told[-1]]
    np.testing.assert_array_equal(plant.motions[-1][1], told[-1].waypoints[:1])
    again = p.plan(
        observation(1, told[0].waypoints[0]),
        picture_goal(),
        seed=7 + refusals,
        replan=1,
        previous=told[0],
    )
    np.testing.assert_array_equal(again.waypoints, told[-1].waypoints)


def test_a_plant_that_refuses_everything_ends_the_task(deep, model):
    class Refusing(Obedient):
        def execute(self, waypoints, what):
            raise MotionRefused(f'{what}: the index finger meets the counter')

    told = []
    with pytest.raises(MotionRefused, match='the index finger meets the counter'):
        run_task(
            planner(deep, model),
            Refusing(),
            picture_goal(),
            task='reach',
            seed=0,
            on_plan=told.append,
        )
    assert len(told) == 1 + REPLACEMENTS
