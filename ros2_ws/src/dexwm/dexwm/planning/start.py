"""Where a plan begins to look: the first mean of its optimiser."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dexwm.planning.candidate_cost import CandidateCost
from dexwm.planning.cost import Candidates, CostTerm, WeightedCost
from dexwm.planning.costs.keep_out import KeepOut
from dexwm.planning.costs.keypoint_distance import KeypointDistance
from dexwm.planning.costs.orientation import EndEffectorOrientation, up_in_palm
from dexwm.planning.costs.posture import Posture
from dexwm.planning.costs.projected_pixels import ProjectedPixels
from dexwm.planning.dummy_motion import DUMMY_GRASP, dummy_waypoints, grasp_ending_at
from dexwm.planning.errors import PlanningError
from dexwm.planning.hand_motion import raised, swept
from dexwm.planning.joint_actions import JointActions
from dexwm.planning.optimisers.gradient import Gradient
from dexwm.planning.optimisers.optimiser import Interrupted, Problem, ShouldStop
from dexwm.planning.target import Target
from dexwm.planning.timing import PartTimes
from dexwm.robot.joints import ARM, HAND, JOINTS, JointLimits
from dexwm.robot.model import RobotModel

# It asks no world model, so a fit takes a second. CEM (256 x 20) ends 2 cm further away.
_FIT = Gradient(starts=16, iterations=150)
_WEIGHT_PER_METRE = 1.0
_WEIGHT_PER_PIXEL = 0.003
# A square of the arm's joints over their sigma, in metres.
_WEIGHT_OF_ARM = 0.0005
# A rad² of the fingers from where they are expected, in metres. With it the palm of a grasp ends
# 2 cm and 12 degrees from the goal's, without it 7 cm and 39 degrees.
_WEIGHT_OF_KNOWN_FINGERS = 0.5
_WEIGHT_OF_FINGERS = 0.1
_WEIGHT_OF_KEEP_OUT = 1.0
_WEIGHT_OF_TILT = 0.15
# How far a hand is raised before it leaves what it has pushed (m).
_LEAVING_HEIGHT = 0.1


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


@dataclass(frozen=True)
class _WithFingers:
    """A term of the same arms with other fingers."""

    term: CostTerm
    actions: JointActions
    fingers: Tensor
    name: str
    times: PartTimes
    needs_latents: bool = False

    def __call__(self, candidates: Candidates) -> Tensor:
        fingers = self.fingers.expand(*candidates.joints.shape[:-1], -1)
        joints = torch.cat([candidates.joints[..., ARM], fingers], dim=-1)
        points = self.times.both_ways('kinematics', self.actions.keypoints, joints)
        return self.term(replace(candidates, joints=joints, keypoints_base=points))


def fit_keypoints(
    target: Target,
    actions: JointActions,
    problem: Problem,
    task: str,
    keep_out: KeepOut | None,
    generator: torch.Generator,
    should_stop: ShouldStop,
    times: PartTimes,
) -> Tensor:
    """The posture (23,) whose hand is where the goal shows it, rad.

    Wrist and five tips leave much of 23 joints open. Arm and fingers stay near where they are,
    but for a grasp, which ends near the dummy grasp's posture, closed: moved to the end of an arm
    that is bent aside, its way from above would not come from above.

    Args:
        target: the goal.
        actions: kinematics and camera.
        problem: its sigma and limits are used.
        task: in place the fingers hold something, in grasp they close.
        keep_out: boxes that the hand must not touch, in grasp not with curled fingers either, as
            it comes; None: none.
        generator: for the fit's samples.
        should_stop: ends the fit early.
        times: counts as `CandidateCost` does.

    Raises:
        PlanningError: where the goal does not tell where the hand is.
    """
    sigma = problem.sigma[:1]
    dummy = actions.start.new_tensor(DUMMY_GRASP)
    expected = dummy[-1] if task == 'grasp' else actions.start
    of_arm, of_hand = torch.full((2, len(JOINTS)), torch.inf, device=expected.device)
    of_arm[ARM], of_hand[HAND] = sigma[0, ARM], 1.0
    known = task in ('grasp', 'place')
    terms = [
        keypoint_term(target, actions),
        (_WEIGHT_OF_ARM, Posture(expected, of_arm, 'arm_posture')),
        (
            _WEIGHT_OF_KNOWN_FINGERS if known else _WEIGHT_OF_FINGERS,
            Posture(expected, of_hand, 'hand_posture'),
        ),
    ]
    if task == 'grasp':
        neutral = up_in_palm(actions.keypoints(dummy[-1]))
        terms.append((_WEIGHT_OF_TILT, EndEffectorOrientation(neutral)))
    if keep_out is not None:
        terms.append((_WEIGHT_OF_KEEP_OUT, keep_out))
        if task == 'grasp':
            curled, closed = dummy[-2:, HAND]
            for name, fingers in (('curled', curled), ('closing', (curled + closed) / 2)):
                term = _WithFingers(keep_out, actions, fingers, name, times)
                terms.append((_WEIGHT_OF_KEEP_OUT, term))
    judge = CandidateCost(actions, None, WeightedCost(terms), _FIT.starts, should_stop, times)
    fit = Problem(judge, expected[None], sigma, problem.lower, problem.upper)
    return _FIT.optimise(fit, generator, lambda _: None, should_stop).joints[0]


def keypoint_start(posture: Tensor, actions: JointActions, count: int, task: str) -> Tensor:
    """Waypoints (count, 23) to a fitted posture (23,): straight, in grasp from above; rad."""
    if task == 'grasp':
        waypoints = grasp_ending_at(actions.start.cpu().numpy(), posture.cpu().numpy(), count)
        return torch.from_numpy(waypoints.astype(np.float32)).to(posture.device)
    part = torch.arange(1, count + 1, device=posture.device)[:, None] / count
    return actions.start + part * (posture - actions.start)


def best_sweep(
    judge: CandidateCost,
    start: Tensor,
    robot: RobotModel,
    limits: JointLimits,
    count: int,
    generator: torch.Generator,
) -> Tensor:
    """The posture (23,) at the end of the best of many level motions of the hand, rad.

    To stay where it is, is one of them; so it does where `judge` is told to stop.

    Args:
        judge: costs of single waypoints.
        start: (23,) where the hand is, rad.
        robot: the robot.
        limits: which the postures keep.
        count: how many are tried.
        generator: where they go.

    Raises:
        PlanningError: where no level motion can be reached.
    """
    drawn = torch.randint(2**31, (2,), generator=generator, device=generator.device)
    rng = np.random.default_rng(drawn.tolist())
    away = swept(robot, start.cpu().numpy(), limits, count, rng)
    joints = torch.cat([start[None], start.new_tensor(away)])
    try:
        costs = judge(joints[:, None])
    except Interrupted:
        return start
    return joints[torch.where(torch.isfinite(costs), costs, torch.inf).argmin()]


def push_start(
    begin: Tensor, posture: Tensor, count: int, whole: int, robot: RobotModel, limits: JointLimits
) -> Tensor:
    """The last of the waypoints of a push and of leaving what was pushed (count, 23), rad.

    The whole goes to the end of the sweep, up from there so that the hand takes nothing along,
    and straight to where it is to be.

    Args:
        begin: (23,) the end of the sweep, or where the hand is.
        posture: (23,) a fitted posture, the last waypoint.
        count: waypoints; of the whole, those that are left.
        whole: waypoints of the whole, at least 3.
        robot: the robot.
        limits: which the postures keep.

    Raises:
        PlanningError: where the hand cannot be raised.
    """
    waypoints = [begin] if count == whole else []
    if count >= whole - 1:
        up = raised(robot, begin.cpu().numpy(), limits, _LEAVING_HEIGHT)
        begin = begin.new_tensor(up[0])
        waypoints.append(begin)
    left = count - len(waypoints)
    part = torch.arange(1, left + 1, device=begin.device)[:, None] / left
    return torch.cat([*(w[None] for w in waypoints), begin + part * (posture - begin)])


def dummy_start(actions: JointActions, count: int) -> Tensor:
    """The dummy grasp (count, 23) from the observed posture, rad."""
    waypoints = dummy_waypoints(actions.start.cpu().numpy(), count)
    return torch.from_numpy(waypoints.astype(np.float32)).to(actions.start.device)
