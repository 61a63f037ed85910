"""Where a plan begins to look: the first mean of its optimiser."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dexwm.planning.candidate_cost import CandidateCost
from dexwm.planning.cost import CostTerm, WeightedCost
from dexwm.planning.costs.keypoint_distance import KeypointDistance
from dexwm.planning.costs.projected_pixels import ProjectedPixels
from dexwm.planning.costs.step_size import StepSize
from dexwm.planning.dummy_motion import dummy_waypoints
from dexwm.planning.errors import PlanningError
from dexwm.planning.joint_actions import JointActions
from dexwm.planning.optimisers.gradient import Gradient
from dexwm.planning.optimisers.optimiser import Problem, ShouldStop
from dexwm.planning.target import Target

# It asks no world model, so a fit takes half a second. CEM (256 x 20) ends 2 cm further away.
_FIT = Gradient(starts=8, iterations=100)
_WEIGHT_PER_METRE = 1.0
_WEIGHT_PER_PIXEL = 0.003
_WEIGHT_OF_STEP = 0.0005


def keypoint_term(target: Target, actions: JointActions) -> tuple[float, CostTerm]:
    """How far a posture's hand is from the goal's, and the term's weight in a fit.

    In space where the goal tells points in space, otherwise in the picture.

    Raises:
        PlanningError: where the goal does not tell where the hand is.
    """
    if target.points_base is not None:
        return _WEIGHT_PER_METRE, KeypointDistance(target.points_base)
    if target.pixels is not None:
        project = ProjectedPixels(lambda points: actions.project(points)[0], target.pixels)
        return _WEIGHT_PER_PIXEL, project
    raise PlanningError(
        "the goal does not tell where the hand is: use a preset whose start is not 'keypoints'"
    )


def fit_keypoints(
    target: Target,
    actions: JointActions,
    problem: Problem,
    generator: torch.Generator,
    should_stop: ShouldStop,
) -> Tensor:
    """The posture (23,) near the start whose hand is where the goal shows it, rad.

    Args:
        target: the goal.
        actions: kinematics and camera.
        problem: its sigma and limits are used.
        generator: for the fit's samples.
        should_stop: ends the fit early.

    Raises:
        PlanningError: where the goal does not tell where the hand is.
    """
    sigma = problem.sigma[:1]
    cost = WeightedCost([keypoint_term(target, actions), (_WEIGHT_OF_STEP, StepSize(sigma[0]))])
    judge = CandidateCost(actions, None, cost, _FIT.starts, should_stop)
    fit = Problem(judge, actions.start[None], sigma, problem.lower, problem.upper)
    return _FIT.optimise(fit, generator, lambda _: None, should_stop).joints[0]


def dummy_start(actions: JointActions, count: int) -> Tensor:
    """The dummy grasp (count, 23) from the observed posture, rad."""
    waypoints = dummy_waypoints(actions.start.cpu().numpy(), count)
    return torch.from_numpy(waypoints.astype(np.float32)).to(actions.start.device)
