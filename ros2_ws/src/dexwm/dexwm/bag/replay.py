"""Makes recorded plans again, and says whether and how they differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from dexwm.bag.bag_reader import BagError
from dexwm.bag.recorded_run import RecordedPlan, RecordedRun
from dexwm.model.checkpoint import load_checkpoint
from dexwm.planning.compute_setup import ComputeSetup
from dexwm.planning.errors import PlanningError
from dexwm.planning.goal import GoalError
from dexwm.planning.observation import ObservationError
from dexwm.planning.optimisers.optimiser import Iteration
from dexwm.planning.planner import Planner, PlanResult
from dexwm.planning.preset import PRESETS
from dexwm.robot.model import RobotModel

Verdict = Literal['identical', 'interrupted', 'different', 'impossible']


@dataclass(frozen=True, eq=False)
class Comparison:
    """A recorded plan beside the one that was made again.

    Attributes:
        recorded: the recorded one.
        planned: the new one; None where it could not be made.
        verdict: 'identical': waypoints and costs are the same, bit for bit. 'interrupted': the
            recorded plan was ended by its budget of time, which cannot be repeated; the costs of
            the iterations that it came through are the same. 'different': something is not.
            'impossible': the recording lacks something, or planning failed.
        differences: what differs, of inputs and results, one line each.
        waypoint_difference: largest of all joints, rad; NaN without a new plan.
    """

    recorded: RecordedPlan
    planned: PlanResult | None
    verdict: Verdict
    differences: tuple[str, ...]
    waypoint_difference: float


class Replay:
    """Plans as the planner of a recorded run did, without ROS.

    Attributes:
        run: the recorded run.
        compute: on what plans are made now.
        checkpoint_digest: of the model that is used.
        differences: what is not as it was, of model, computer and versions, one line each.
    """

    def __init__(
        self, run: RecordedRun, model: Path | None = None, device: str | None = None
    ) -> None:
        """Loads model and robot.

        PyTorch is set to use as many threads as the recorded planner had.

        Args:
            run: with the planner's setup.
            model: folder of the world model; None: where the recording says that it was.
            device: where to compute; None: as recorded.

        Raises:
            BagError: where the recording lacks the planner's setup.
            CheckpointError: where there is no such model.
            RobotModelError: where the recorded robot is none.
        """
        if run.setup is None:
            raise BagError(
                f"{run.path} lacks the planner's setup (its topic …/setup): robot, model and "
                'surroundings are not known. Record all topics of the planner, from its start'
            )
        self.run, self._setup = run, run.setup
        self._device = device or self._setup.compute.device
        torch.set_num_threads(self._setup.compute.threads)
        folder = model or Path(self._setup.model)
        self._model = load_checkpoint(folder, self._device)
        self._robot = RobotModel.from_urdf(self._setup.robot_description)
        self._planners: dict[str, Planner] = {}
        self.compute = ComputeSetup.of_this_process(self._device)
        self.differences = self._setup.compute.differences(self.compute)
        self.checkpoint_digest = ''

    def plan(
        self, recorded: RecordedPlan, on_iteration: Callable[[Iteration], None] | None = None
    ) -> Comparison:
        """Makes a plan again and compares.

        Args:
            recorded: a plan of the run.
            on_iteration: told after each iteration.
        """
        if recorded.missing:
            lacks = tuple(f'the recording lacks {what}' for what in recorded.missing)
            return Comparison(recorded, None, 'impossible', lacks, float('nan'))
        assert recorded.goal is not None
        iterations = 0
        interrupted = recorded.outcome != 'done'

        def count(iteration: Iteration) -> None:
            nonlocal iterations
            iterations += 1
            if on_iteration is not None:
                on_iteration(iteration)

        try:
            planner = self._planner_of(recorded)
            planned = planner.plan(
                recorded.observation(),
                recorded.goal,
                task=recorded.task,
                seed=recorded.seed,
                replan=recorded.replan,
                on_iteration=count,
                # The clock that ended the plan does not run again; its iterations can be counted.
                should_stop=lambda: interrupted and iterations >= len(recorded.costs),
                previous=recorded.previous(),
            )
        except (GoalError, ObservationError, PlanningError) as error:
            reason = f'planning fails now: {error}'
            return Comparison(recorded, None, 'impossible', (reason,), float('nan'))
        return self._compare(recorded, planned, interrupted)

    def _planner_of(self, recorded: RecordedPlan) -> Planner:
        preset = recorded.preset
        key = repr(preset)
        if key not in self._planners:
            self._planners[key] = Planner(
                self._model, self._robot, preset, device=self._device, boxes=self._setup.boxes
            )
        self.checkpoint_digest = self._planners[key].checkpoint_digest
        return self._planners[key]

    def _compare(
        self, recorded: RecordedPlan, planned: PlanResult, interrupted: bool
    ) -> Comparison:
        differences = self._inputs(recorded, planned)
        distance = float('nan')
        if recorded.waypoints.shape != planned.waypoints.shape:
            differences.append(
                f'waypoints: recorded {len(recorded.waypoints)}, now {len(planned.waypoints)}'
            )
        else:
            distance = float(np.abs(recorded.waypoints - planned.waypoints).max())
        if recorded.costs != planned.costs:
            differences.append(_costs(recorded.costs, planned.costs))
        same = recorded.costs == planned.costs
        if not interrupted:
            if recorded.waypoints.tobytes() != planned.waypoints.tobytes():
                differences.append(f'waypoints differ by up to {distance:.3g} rad')
                same = False
            if recorded.terms != planned.terms:
                differences.append('the terms of the cost differ')
                same = False
        verdict: Verdict = 'different'
        if same:
            verdict = 'interrupted' if interrupted else 'identical'
        return Comparison(recorded, planned, verdict, tuple(differences), distance)

    def _inputs(self, recorded: RecordedPlan, planned: PlanResult) -> list[str]:
        """What of the plan's inputs is not as it was."""
        differences = []
        if recorded.checkpoint_digest != planned.checkpoint_digest:
            differences.append(
                f'model: {recorded.checkpoint_digest[:12]}, now {planned.checkpoint_digest[:12]}'
            )
        if recorded.goal_digest != planned.goal_digest:
            differences.append(
                f'goal: {recorded.goal_digest[:12]}, now {planned.goal_digest[:12]}'
            )
        today = PRESETS.get(recorded.preset.name)
        if today is not None and today != recorded.preset:
            differences.append(
                f'the preset {recorded.preset.name} has other settings now (the recorded ones '
                'were used)'
            )
        return differences


def _costs(recorded: tuple[float, ...], planned: tuple[float, ...]) -> str:
    for number, (one, other) in enumerate(zip(recorded, planned, strict=False), 1):
        if one != other:
            return f'costs differ from iteration {number} on: {one:.9g}, now {other:.9g}'
    return f'iterations: recorded {len(recorded)}, now {len(planned)}'
