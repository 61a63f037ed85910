"""Makes one plan: from an observation and a goal to joint waypoints (paper, section 3.4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dexwm.geometry.heatmaps import cell_distances
from dexwm.geometry.preprocess import ResizeAndCrop
from dexwm.model.world_model import WorldModel
from dexwm.planning.candidate_cost import CandidateCost
from dexwm.planning.cost import CostTerm, WeightedCost
from dexwm.planning.costs.hand_at_object import HandAtObject
from dexwm.planning.costs.joint_limit import JointLimit
from dexwm.planning.costs.keep_out import KeepOut
from dexwm.planning.costs.keypoint_distance import KeypointDistance
from dexwm.planning.costs.latent_distance import LatentDistance
from dexwm.planning.costs.object_distance import ObjectDistance
from dexwm.planning.costs.orientation import EndEffectorOrientation, up_in_palm
from dexwm.planning.costs.projected_pixels import ProjectedPixels
from dexwm.planning.costs.seen_keypoints import SeenKeypoints
from dexwm.planning.costs.step_size import StepSize
from dexwm.planning.dummy_motion import DUMMY_GRASP
from dexwm.planning.errors import PlanningError
from dexwm.planning.goal import Goal
from dexwm.planning.goal_reader import GoalReader
from dexwm.planning.joint_actions import RIGHT_HAND, RIGHT_HEATMAP_KEYPOINTS, JointActions
from dexwm.planning.model_digest import model_digest
from dexwm.planning.observation import Observation
from dexwm.planning.optimisers.build import build_optimiser
from dexwm.planning.optimisers.optimiser import Iteration, Problem
from dexwm.planning.preset import Preset
from dexwm.planning.rollout import CachedRollout, chunk_size
from dexwm.planning.start import (
    best_sweep,
    dummy_start,
    fit_keypoints,
    keypoint_start,
    push_start,
)
from dexwm.planning.target import Target, make_target
from dexwm.planning.timing import PartTimes
from dexwm.robot.box import Box
from dexwm.robot.joints import ARM, HAND, JOINTS, JointLimits, robot_limits
from dexwm.robot.kinematics import BatchedKinematics
from dexwm.robot.model import RobotModel

Outcome = Literal['done', 'budget', 'cancelled']

MARGIN_ARM = 0.06
"""Kept from the arm's position limits unless other limits are given, rad."""

MARGIN_HAND = 0.02
"""Kept from the hand's, rad."""


@dataclass(frozen=True, eq=False)
class PlanResult:
    """A plan, and all that is needed to judge and to repeat it.

    Attributes:
        waypoints: (T, 23) in the order of execution, rad, inside the planner's limits.
        task: what it is for.
        costs: the best cost after each iteration.
        terms: the terms of the plan's cost, weighted, by name.
        outcome: 'done'; 'budget': the best until the time was up; 'cancelled': the best until
            then, or the observed posture where nothing was judged.
        seconds: 'total', and its parts, which add up to it but for little: 'encoder', 'start',
            'optimiser', 'kinematics', 'predictor', 'terms'. The last three count as themselves
            wherever they are computed, in the start's own fit too, and not to 'start' and
            'optimiser'.
        seed: of the randomness.
        replan: number of the plan within its task, from 0.
        checkpoint_digest: SHA-256 of the model's configuration and weights.
        goal_digest: SHA-256 of the goal.
        predicted_latents: (T, P, D) after each waypoint; None where the world model is not used.
        predicted_pixels: (T, 12, 2) where the hand will be in the camera's picture: as the model
            sees it in its prediction, otherwise by forward kinematics. NaN for the left hand.
        goal_pixels: (12, 2) where the goal has it; NaN where unknown, None where all is.
        previous_waypoints: (T, 23) of the plan before, if it was given one.
    """

    waypoints: NDArray[np.float64]
    task: str
    costs: tuple[float, ...]
    terms: dict[str, float]
    outcome: Outcome
    seconds: dict[str, float]
    seed: int
    replan: int
    checkpoint_digest: str
    goal_digest: str
    predicted_latents: Tensor | None
    predicted_pixels: NDArray[np.float64]
    goal_pixels: NDArray[np.float64] | None
    previous_waypoints: NDArray[np.float64] | None


class Planner:
    """Plans with one world model, robot and preset.

    Attributes:
        model: set to need no gradients of its weights.
        robot: the robot's rigid-body model.
        preset: how plans are made.
        limits: inside which all waypoints are.
        checkpoint_digest: SHA-256 of the model's configuration and weights.
    """

    def __init__(
        self,
        model: WorldModel,
        robot: RobotModel,
        preset: Preset,
        limits: JointLimits | None = None,
        device: str | torch.device = 'cpu',
        boxes: Sequence[Box] = (),
    ) -> None:
        """Puts model and kinematics on a device.

        Args:
            model: of this robot's hand.
            robot: the robot.
            preset: how to plan.
            limits: of the 23 joints; None: the robot's, less `MARGIN_ARM` and `MARGIN_HAND`.
            device: where to compute.
            boxes: which the hand must not touch.

        Raises:
            PlanningError: where the limits are not those of the 23 joints.
            RobotModelError: where the robot's tree is not an arm with four fingers.
        """
        if limits is None:
            margin = np.empty(len(JOINTS))
            margin[ARM], margin[HAND] = MARGIN_ARM, MARGIN_HAND
            limits = robot_limits().with_margin(margin)
        if limits.names != JOINTS:
            raise PlanningError(
                f'limits must be of the joints {", ".join(JOINTS)}, got {", ".join(limits.names)}'
            )
        self.device = torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.robot, self.preset, self.limits = robot, preset, limits
        self.checkpoint_digest = model_digest(model)
        self._goals = GoalReader(self.model, self.device)
        self._kinematics = BatchedKinematics.from_model(robot).float().to(self.device)
        self._keep_out = KeepOut(boxes, self.device) if boxes else None
        self._lower = self._tensor(limits.lower)
        self._upper = self._tensor(limits.upper)
        self._neutral = up_in_palm(self._kinematics(self._tensor(DUMMY_GRASP[-1])))

    @torch.no_grad()
    def plan(
        self,
        observation: Observation,
        goal: Goal,
        *,
        task: str = 'reach',
        seed: int,
        replan: int = 0,
        budget: float | None = None,
        on_iteration: Callable[[Iteration], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        previous: PlanResult | None = None,
    ) -> PlanResult:
        """Makes a plan.

        The same arguments give the same plan on the same machine, unless time or `should_stop`
        ends it.

        Args:
            observation: where the robot is now.
            goal: what to reach.
            task: 'grasp' and 'place' change start, sigma and cost as the preset says.
            seed: at least 0.
            replan: number of the plan within its task, from 0: shortens the horizon and shrinks
                the sigmas as the preset says.
            budget: seconds after which the best so far is returned; None: no limit.
            on_iteration: told after each iteration.
            should_stop: asked before each iteration and between chunks of candidates.
            previous: the plan before, whose waypoints that were not executed are the first
                mean.

        Raises:
            GoalError: where the goal does not fit the camera's picture.
            PlanningError: where no candidate can be judged, the goal tells nothing that the
                preset's cost looks at, or the budget ends before anything is judged.
        """
        begin = time.perf_counter()
        outcome: Outcome = 'done'

        def stop() -> bool:
            nonlocal outcome
            if should_stop is not None and should_stop():
                outcome = 'cancelled'
            elif budget is not None and time.perf_counter() - begin > budget:
                outcome = 'budget'
            return outcome != 'done'

        if seed < 0 or replan < 0:
            raise PlanningError(f'seed and replan must not be negative, got {seed} and {replan}')
        times = PartTimes()
        image = observation.image
        preprocess = ResizeAndCrop.to_cover(
            image.shape[1], image.shape[0], *self.model.encoder.image_size
        )
        intrinsics = preprocess.apply_to_intrinsics(observation.intrinsics)
        options = self.model.config.action
        actions = JointActions(self._kinematics, options, observation, intrinsics)
        with times.part('encoder'):
            seen = torch.from_numpy(preprocess.apply(image))[None].to(self.device)
            latents = self.model.encode(seen)
            target = make_target(
                goal, self.model, self._goals, actions, image, preprocess, latents[0]
            )
        if self.preset.start == 'sweep' and replan == 0 and target.objects is None:
            raise PlanningError(
                f'the preset {self.preset.name} pushes what the goal shows elsewhere, but the '
                'model sees no object clearly both now and in the goal: give another goal '
                'picture or preset, or a model that reads objects'
            )
        cost = self._cost(target, actions, task)
        rollout = None
        if cost.needs_latents:
            none = latents.new_zeros(0, options.dim)
            with times.part('predictor'):
                rollout = CachedRollout(
                    self.model,
                    latents,
                    none,
                    precision=self.preset.precision,
                    compiled=self.preset.compile,
                )

        horizon = self.preset.horizon_at(replan)
        substeps = self.preset.substeps
        chunk = chunk_size(self.model, horizon * substeps, self.device)
        judge = CandidateCost(actions, rollout, cost, chunk, stop, times, substeps)
        pushes = None
        if (
            self.preset.start == 'sweep'
            and horizon == self.preset.horizon
            and target.objects is not None
        ):
            pushed = WeightedCost([*self._objects(target, actions), *self._kept_out()])
            chunk = chunk_size(self.model, substeps, self.device)
            pushes = CandidateCost(actions, rollout, pushed, chunk, stop, times, substeps)
        generator = torch.Generator(self.device)
        generator.manual_seed(int(np.random.SeedSequence([seed, replan]).generate_state(1)[0]))
        with times.part('start'):
            problem = self._problem(
                judge, pushes, target, actions, task, replan, previous, generator, stop, times
            )
        with times.part('optimiser'):
            solution = build_optimiser(self.preset).optimise(
                problem, generator, on_iteration or (lambda _: None), stop
            )
        judged = bool(np.isfinite(solution.cost))
        if not judged and outcome == 'budget':
            raise PlanningError(
                f'the budget of {budget:g} s ended before one candidate was judged: give more time'
            )
        joints = solution.joints
        if not judged:
            joints = problem.clamp(actions.start).expand(horizon, -1)
        found = judge.candidates(joints[None])
        terms = judge.parts(joints) if judged else {}
        pixels = self._pixels(found.latents, found.keypoints_base, actions)
        to_camera = np.asarray(np.linalg.inv(preprocess.matrix), np.float64)
        seconds = {**times.seconds, 'total': time.perf_counter() - begin}
        return PlanResult(
            waypoints=self.limits.clamp(joints.cpu().numpy()),
            task=task,
            costs=solution.costs,
            terms=terms,
            outcome=outcome if solution.stopped else 'done',
            seconds=seconds,
            seed=seed,
            replan=replan,
            checkpoint_digest=self.checkpoint_digest,
            goal_digest=target.digest,
            predicted_latents=None if found.latents is None else found.latents[0].clone(),
            predicted_pixels=_moved(pixels[0], to_camera),
            goal_pixels=None if target.pixels is None else _moved(target.pixels, to_camera),
            previous_waypoints=None if previous is None else previous.waypoints,
        )

    @torch.no_grad()
    def decode(self, latents: Tensor) -> NDArray[np.uint8] | None:
        """The picture (H, W, 3) uint8 RGB of latents (P, D); None without a decoder."""
        if self.model.decoder is None:
            return None
        image = self.model.decode(latents[None].to(self.device))[0]
        picture: NDArray[np.uint8] = (
            (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        )
        return np.ascontiguousarray(picture)

    def _tensor(self, values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(np.array(values)).float().to(self.device)

    def _sigma(self, task: str) -> Tensor:
        """The first plan's (23,)."""
        preset = self.preset
        sigma = torch.empty(len(JOINTS), device=self.device)
        sigma[ARM] = preset.sigma_arm
        sigma[HAND] = preset.sigma_hand_place if task == 'place' else preset.sigma_hand
        return sigma

    def _cost(self, target: Target, actions: JointActions, task: str) -> WeightedCost:
        """The preset's terms, as far as the goal tells something about them."""
        weights, at = self.preset.weights, self.preset.cost_at
        terms: list[tuple[float, CostTerm]] = []
        if target.latents is not None:
            terms.append((weights.latent, LatentDistance(target.latents, at, target.tokens)))
        reads_depths = self.model.config.keypoint_head.depths
        if weights.predicted_distance and reads_depths and target.points_base is not None:
            seen = SeenKeypoints(
                lambda latents: self._seen_points(latents, actions),
                target.points_base[list(RIGHT_HEATMAP_KEYPOINTS)],
                'predicted_distance',
                at,
            )
            terms.append((weights.predicted_distance, seen))
        elif target.pixels is not None:
            read = SeenKeypoints(self.model.keypoint_pixels, target.pixels, 'keypoint_pixels', at)
            terms.append((weights.keypoint_pixels, read))
        if target.points_base is not None:
            points = KeypointDistance(target.points_base, at)
            terms.append((weights.keypoint_distance, points))
        elif target.pixels is not None:
            project = ProjectedPixels(lambda k: actions.project(k)[0], target.pixels, at)
            terms.append((weights.projected_pixels, project))
        terms += self._objects(target, actions)
        if not any(weight for weight, _ in terms):
            raise PlanningError(
                f'the goal tells nothing that the cost of the preset {self.preset.name} looks at '
                f'({", ".join(n for n in weights.names() if getattr(weights, n))}): give another '
                'goal or preset'
            )
        if task == 'grasp':
            terms.append((weights.orientation, EndEffectorOrientation(self._neutral, at)))
        terms.append((weights.joint_limit, JointLimit(self._lower, self._upper)))
        terms.append((weights.step_size, StepSize(self._sigma(task))))
        terms += self._kept_out()
        return WeightedCost([(weight, term) for weight, term in terms if weight])

    def _objects(self, target: Target, actions: JointActions) -> list[tuple[float, CostTerm]]:
        """The terms of objects, where the goal tells something about them."""
        weights, at = self.preset.weights, self.preset.objects_at
        terms: list[tuple[float, CostTerm]] = []
        if target.objects is not None and weights.object_pixels:
            away = cell_distances(
                target.objects, self.model.encoder.image_size, self.model.config.heatmap_stride
            )
            objects = ObjectDistance(self.model.object_maps, away, at)
            terms.append((weights.object_pixels, objects))
        if target.moving is not None and weights.hand_at_object:
            hand = HandAtObject(lambda k: actions.project(k)[0], target.moving, at)
            terms.append((weights.hand_at_object, hand))
        return terms

    def _kept_out(self) -> list[tuple[float, CostTerm]]:
        """The term of boxes, where there are any."""
        weight = self.preset.weights.keep_out
        return [(weight, self._keep_out)] if self._keep_out is not None and weight else []

    def _seen_points(self, latents: Tensor, actions: JointActions) -> Tensor:
        """Where the model sees wrist and tips (..., 6, 3) in the base, metres."""
        _, pixels, depths = self.model.keypoints(latents)
        assert depths is not None
        return actions.unproject(pixels[..., RIGHT_HAND, :], depths[..., RIGHT_HAND])

    def _problem(
        self,
        judge: CandidateCost,
        pushes: CandidateCost | None,
        target: Target,
        actions: JointActions,
        task: str,
        replan: int,
        previous: PlanResult | None,
        generator: torch.Generator,
        stop: Callable[[], bool],
        times: PartTimes,
    ) -> Problem:
        """Where to look: the first mean and sigma."""
        preset = self.preset
        horizon = preset.horizon_at(replan)
        mean = actions.start.expand(horizon, -1)
        sigma = self._sigma(task).expand(horizon, -1) * preset.sigma_decay**replan
        left = None if previous is None else previous.waypoints[preset.executed :]
        if preset.start in ('keypoints', 'sweep'):
            around = Problem(judge, mean, sigma, self._lower, self._upper)
            posture = fit_keypoints(
                target, actions, around, task, self._keep_out, generator, stop, times
            )
            if preset.start == 'keypoints':
                mean = keypoint_start(posture, actions, horizon, task)
            else:
                begin = actions.start
                if pushes is not None:
                    begin = best_sweep(
                        pushes, begin, self.robot, self.limits, preset.sweeps, generator
                    )
                mean = push_start(begin, posture, horizon, preset.horizon, self.robot, self.limits)
            sigma = sigma * preset.start_sigma
        elif left is not None and len(left):
            missing = np.repeat(left[-1:], max(0, horizon - len(left)), axis=0)
            mean = self._tensor(np.concatenate([left, missing])[:horizon])
        elif preset.start == 'dummy' and task == 'grasp' and replan == 0:
            mean = dummy_start(actions, horizon)
        return Problem(judge, mean, sigma, self._lower, self._upper)

    def _pixels(
        self, latents: Tensor | None, keypoints_base: Tensor, actions: JointActions
    ) -> Tensor:
        """Where the hand will be in the input picture (N, T, 12, 2)."""
        if latents is None:
            return actions.project(keypoints_base)[0]
        pixels = self.model.keypoint_pixels(latents).clone()
        pixels[..., : RIGHT_HAND.start, :] = torch.nan
        return pixels


def _moved(pixels: Tensor, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels (..., 2) of the input picture in the camera's picture."""
    values = pixels.cpu().numpy().astype(np.float64)
    return np.asarray(values @ matrix[:2, :2].T + matrix[:2, 2])
