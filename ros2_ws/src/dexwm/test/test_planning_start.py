"""Where plans begin to look."""

import numpy as np
import pytest
import torch

from dexwm.data.actions import ActionOptions
from dexwm.planning.cost import Candidates
from dexwm.planning.costs.keep_out import KeepOut
from dexwm.planning.dummy_motion import DUMMY_GRASP, dummy_waypoints, grasp_ending_at
from dexwm.planning.joint_actions import RIGHT_HEATMAP_KEYPOINTS, JointActions
from dexwm.planning.optimisers.optimiser import Interrupted, Problem
from dexwm.planning.start import best_sweep, fit_keypoints, keypoint_start, push_start
from dexwm.planning.target import Target
from dexwm.planning.timing import PartTimes
from dexwm.robot.box import Box
from dexwm.robot.joints import ARM, HAND, HOME, robot_limits
from dexwm.robot.kinematics import BatchedKinematics

from .planning_scene import INTRINSICS, observation

END = np.array(HOME) + np.linspace(-0.2, 0.2, 23)


def test_the_dummy_grasp_is_moved_to_its_end():
    waypoints = grasp_ending_at(HOME, END, 3)
    np.testing.assert_array_equal(waypoints[-1], END)
    # From above, as in the dummy grasp, fingers open until the end.
    np.testing.assert_allclose(
        np.diff(waypoints[:, ARM], axis=0), np.diff(DUMMY_GRASP[:, ARM], axis=0)
    )
    np.testing.assert_array_equal(waypoints[:-1, HAND], DUMMY_GRASP[:-1, HAND])


def test_fewer_waypoints_are_the_last_and_more_lie_between():
    three = grasp_ending_at(HOME, END, 3)
    for count in (1, 2):
        np.testing.assert_array_equal(grasp_ending_at(HOME, END, count), three[-count:])
    six = grasp_ending_at(HOME, END, 6)
    np.testing.assert_allclose(six[1::2], three)
    np.testing.assert_allclose(six[0], (np.array(HOME) + three[0]) / 2)


def test_a_dummy_grasp_that_ends_where_it_does_is_the_dummy_grasp():
    np.testing.assert_allclose(
        grasp_ending_at(HOME, DUMMY_GRASP[-1], 3), dummy_waypoints(HOME, 3), atol=1e-12
    )


@pytest.fixture(scope='module')
def actions(model):
    kinematics = BatchedKinematics.from_model(model).float()
    return JointActions(kinematics, ActionOptions(), observation(), INTRINSICS)


def target_of(model, posture):
    points = torch.full((21, 3), torch.nan)
    rows = list(RIGHT_HEATMAP_KEYPOINTS)
    points[rows] = torch.from_numpy(model.keypoints(posture)[rows]).float()
    return Target(None, None, None, points, None, None, 'digest')


def generator(seed):
    return torch.Generator().manual_seed(seed)


def never():
    return False


def problem(actions, count):
    limits = robot_limits()
    sigma = torch.full((count, 23), 0.3)
    sigma[:, HAND] = 0.1
    lower, upper = (torch.from_numpy(np.array(x)).float() for x in (limits.lower, limits.upper))

    def unused(candidates: Candidates):
        raise AssertionError('a fit does not ask the problem')

    return Problem(unused, actions.start.expand(count, -1), sigma, lower, upper)


def test_a_grasp_closes_the_fingers_where_the_tips_leave_them_open(model, actions):
    """Six points of a closed hand are met by stretched fingers of another hand as well."""
    posture = np.array(HOME)
    posture[ARM] += [0.1, 0.3, 0.0, 0.1, 0.0, 0.2, 0.0]
    posture[HAND] = DUMMY_GRASP[-1, HAND]
    target = target_of(model, posture)
    found = {
        task: fit_keypoints(
            target, actions, problem(actions, 1), task, None, generator(0), never, PartTimes()
        ).numpy()
        for task in ('grasp', 'reach')
    }
    seen = list(RIGHT_HEATMAP_KEYPOINTS)
    hidden = [row for row in range(21) if row not in seen]
    truth = model.keypoints(posture)
    error = {task: np.linalg.norm(model.keypoints(q) - truth, axis=1) for task, q in found.items()}
    assert error['grasp'][seen].mean() < 0.01
    assert error['grasp'][hidden].mean() < 0.01
    assert error['grasp'][hidden].mean() < 0.5 * error['reach'][hidden].mean()


@pytest.mark.parametrize('task', ['reach', 'grasp'])
def test_the_way_to_the_fit(model, actions, task):
    posture = np.array(HOME)
    posture[ARM] += [0.1, 0.3, 0.0, 0.1, 0.0, 0.2, 0.0]
    target = target_of(model, posture)
    end = fit_keypoints(
        target, actions, problem(actions, 3), task, None, generator(1), never, PartTimes()
    )
    way = keypoint_start(end, actions, 3, task)
    torch.testing.assert_close(way[-1], end)
    if task == 'reach':
        torch.testing.assert_close(way[0], actions.start + (end - actions.start) / 3)
    else:
        heights = [model.keypoints(q.numpy().astype(float))[0, 2] for q in way]
        assert heights[0] > heights[1] + 0.08
        torch.testing.assert_close(way[1, ARM], end[ARM])


def test_a_grasp_comes_and_closes_outside_of_boxes(model, actions):
    posture = np.array(HOME)
    posture[ARM] += [0.1, 0.3, 0.0, 0.1, 0.0, 0.2, 0.0]
    posture[HAND] = DUMMY_GRASP[-1, HAND]
    # Its top is where the lowest of the closed hand's points is.
    top = model.keypoints(posture)[:, 2].min()
    box = Box('counter', np.array([4.0, 4.0, 1.0]), np.array([0.5, 0.0, top - 0.5]))
    target, inside, times = target_of(model, posture), {}, PartTimes()
    for name, keep_out in (('free', None), ('kept', KeepOut([box], torch.device('cpu')))):
        end = fit_keypoints(
            target, actions, problem(actions, 3), 'grasp', keep_out, generator(0), never, times
        )
        way = keypoint_start(end, actions, 3, 'grasp')
        lowest = [model.keypoints(q.numpy().astype(float))[:, 2].min() for q in way]
        inside[name] = top - min(lowest)
    assert set(times.seconds) == {'kinematics', 'terms'}
    assert inside['free'] > 0.01
    assert inside['kept'] < 0.002


def height(model, q):
    return model.frame_pose(q.numpy().astype(float), 'allegro_wrist')[2, 3]


def test_a_push_goes_up_before_it_leaves(model, actions):
    swept, end = torch.from_numpy(END).float(), actions.start
    limits = robot_limits()
    whole = push_start(swept, end, 5, 5, model, limits)
    torch.testing.assert_close(whole[0], swept)
    assert height(model, whole[1]) == pytest.approx(height(model, swept) + 0.1, abs=1e-3)
    torch.testing.assert_close(
        whole[2:], whole[1] + torch.tensor([[1], [2], [3]]) / 3 * (end - whole[1])
    )
    # Later plans begin where the one before has come to, and make what is left.
    rising = push_start(swept, end, 4, 5, model, limits)
    torch.testing.assert_close(rising, whole[1:])
    torch.testing.assert_close(push_start(rising[0], end, 3, 5, model, limits), whole[2:])
    torch.testing.assert_close(push_start(rising[0], end, 1, 5, model, limits)[0], end)


def test_the_best_sweep_is_the_one_that_is_judged_best(model, actions):
    seen = []

    def left(joints):
        """Best is furthest to the left; what cannot be judged is not taken."""
        assert joints.shape[1:] == (1, 23)
        seen.append(joints)
        points = [model.frame_pose(q.numpy().astype(float), 'allegro_wrist') for q in joints[:, 0]]
        costs = -torch.tensor([pose[1, 3] for pose in points])
        costs[costs.argmin()] = torch.nan
        return costs

    limits = robot_limits()
    best = best_sweep(left, actions.start, model, limits, 20, generator(0))
    (tried,) = seen
    assert tried.shape == (21, 1, 23)
    torch.testing.assert_close(tried[0, 0], actions.start)
    order = left(tried).argsort()
    torch.testing.assert_close(best, tried[order[0], 0])

    def worst(joints):
        return torch.arange(len(joints)).float()

    torch.testing.assert_close(
        best_sweep(worst, actions.start, model, limits, 20, generator(0)), actions.start
    )

    def stopped(joints):
        raise Interrupted

    torch.testing.assert_close(
        best_sweep(stopped, actions.start, model, limits, 20, generator(0)), actions.start
    )
