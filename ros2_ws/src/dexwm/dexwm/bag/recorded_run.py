"""What a recording tells about a run: its plans with what they were made from, and its course."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from dexwm.bag.bag_reader import BagError, BagReader
from dexwm.bag.planner_setup import PlannerSetup
from dexwm.bag.preset_text import preset_from_text
from dexwm.geometry.camera import CameraIntrinsics, CameraIntrinsicsError
from dexwm.planning.goal import Goal, GoalError, KeypointGoal, PictureGoal
from dexwm.planning.goal import picture_digest as digest_of
from dexwm.planning.observation import Observation
from dexwm.planning.planner import PlanResult
from dexwm.planning.preset import Preset, PresetError
from dexwm.robot.joints import JOINTS

PLAN_TYPE = 'dexwm_msgs/msg/Plan'

_IMAGE_TYPE = 'sensor_msgs/msg/Image'
_JOINT_STATES = '/joint_states'
_FEEDBACK = 'plan_to_goal/_action/feedback'
_CHANNELS = {'rgb8': slice(None), 'bgr8': slice(None, None, -1)}


@dataclass(frozen=True, eq=False)
class RecordedPlan:
    """A plan, what it was made from, and what it said of itself.

    Attributes:
        stamp_ns: when planning ended, ns.
        task: what it was for.
        goal_name: in the goal library; empty for a goal that has none.
        waypoints: (T, 23) in canonical order, rad.
        observation_stamp_ns: when the picture was taken, ns.
        picture_digest: SHA-256 of the picture.
        intrinsics: of the picture's camera.
        T_base_from_camera: (4, 4) pose of the camera, m.
        observed_positions: (23,) where the joints were, rad.
        seed: of the planner.
        checkpoint_digest: SHA-256 of the model.
        goal_digest: SHA-256 of the goal.
        preset: how it was made.
        replan: its number within its task, from 0.
        previous_waypoints: (T, 23) of the plan before; None for a first one.
        budget: seconds it was given; None: no limit.
        outcome: 'done' or 'budget'.
        costs: best cost after each iteration.
        terms: of its cost, weighted, by name.
        seconds: 'total', and its parts by name.
        picture: what the camera saw (H, W, 3), RGB; None where the recording lacks it.
        goal: what it was to reach; None where the recording lacks it.
    """

    stamp_ns: int
    task: str
    goal_name: str
    waypoints: NDArray[np.float64]
    observation_stamp_ns: int
    picture_digest: str
    intrinsics: CameraIntrinsics
    T_base_from_camera: NDArray[np.float64]
    observed_positions: NDArray[np.float64]
    seed: int
    checkpoint_digest: str
    goal_digest: str
    preset: Preset
    replan: int
    previous_waypoints: NDArray[np.float64] | None
    budget: float | None
    outcome: str
    costs: tuple[float, ...]
    terms: dict[str, float]
    seconds: dict[str, float]
    picture: NDArray[np.uint8] | None = None
    goal: Goal | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """What the recording lacks to make the plan again."""
        stamp = self.observation_stamp_ns * 1e-9
        lacks = {
            f'the picture of {stamp:.3f} s': self.picture is None,
            f'the goal picture {self.goal_digest[:12]}': self.goal is None,
        }
        return tuple(what for what, is_missing in lacks.items() if is_missing)

    def observation(self) -> Observation:
        """What the planner saw.

        Raises:
            BagError: where the picture is missing.
            ObservationError: where the parts do not fit one another.
        """
        if self.picture is None:
            raise BagError(f'the recording lacks {self.missing[0]}')
        return Observation(
            self.picture, self.observed_positions, self.intrinsics, self.T_base_from_camera
        )

    def previous(self) -> PlanResult | None:
        """The plan before, as far as the planner looks at it: its waypoints."""
        if self.previous_waypoints is None:
            return None
        return PlanResult(
            waypoints=self.previous_waypoints,
            task=self.task,
            costs=(),
            terms={},
            outcome='done',
            seconds={},
            seed=self.seed,
            replan=self.replan - 1,
            checkpoint_digest=self.checkpoint_digest,
            goal_digest=self.goal_digest,
            predicted_latents=None,
            predicted_pixels=np.empty((0, 0, 2)),
            goal_pixels=None,
            previous_waypoints=None,
        )


@dataclass(frozen=True)
class RecordedIteration:
    """Feedback of an iteration.

    Attributes:
        step: number of the plan, from 0.
        iteration: from 0.
        best_cost: so far.
        mean_cost: of its candidates.
        elapsed: since the optimisation began, s.
    """

    step: int
    iteration: int
    best_cost: float
    mean_cost: float
    elapsed: float


@dataclass(eq=False)
class RecordedRun:
    """A recorded run.

    Attributes:
        path: of the recording.
        plans: in order.
        setup: of the planner; None where the recording lacks it.
        iterations: feedback, in order.
        times: (N,) of the joint states, s since the recording began.
        positions: (N, 23) of the joints, rad; NaN until a joint has been heard of.
        begin_ns: stamp of the first message, ns.
        seconds: between the first message and the last.
        pictures: by name: 'start' and 'reached' of the camera, 'overlay' and 'predicted' of the
            last plan; (H, W, 3) RGB; those that there are.
        warnings: what /diagnostics warned of, and how often.
        notes: texts that were kept with the recording, by name.
        problems: what the recording lacks.
    """

    path: Path
    plans: list[RecordedPlan] = field(default_factory=list)
    setup: PlannerSetup | None = None
    iterations: list[RecordedIteration] = field(default_factory=list)
    times: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    positions: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, len(JOINTS))))
    begin_ns: int = 0
    seconds: float = 0.0
    pictures: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_run(path: str | os.PathLike[str], *, course: bool = True) -> RecordedRun:
    """Reads a run from its recording.

    Args:
        path: of a rosbag2 recording.
        course: whether to read what the run looked like too: pictures of the camera, joints,
            diagnostics. Plans can be made again without.

    Raises:
        BagError: where it cannot be read, or holds no plan.
    """
    bag = BagReader(path)
    topics = sorted(topic for topic, kind in bag.topics.items() if kind == PLAN_TYPE)
    topics = [topic for topic in topics if topic.endswith('/plan')]
    if len(topics) != 1:
        raise BagError(
            f'{bag.path} has {len(topics)} topics of plans ({PLAN_TYPE}), one is needed; its '
            f'topics are {", ".join(sorted(bag.topics)) or "none"}'
        )
    planner = topics[0].rpartition('/')[0]
    run = RecordedRun(bag.path, notes=_notes(bag.path))
    _read_plans(bag, planner, run)
    if course:
        _read_course(bag, planner, run)
    run.problems += bag.problems
    return run


def camera_topic(path: str | os.PathLike[str]) -> str:
    """Where a recording has the camera's pictures.

    Raises:
        BagError: where it cannot be read, or has none or several such topics.
    """
    bag = BagReader(path)
    planner = {t.rpartition('/')[0] for t, kind in bag.topics.items() if kind == PLAN_TYPE}
    topics = {
        topic
        for topic, kind in bag.topics.items()
        if kind == _IMAGE_TYPE and topic.rpartition('/')[0] not in planner
    }
    if len(topics) != 1:
        raise BagError(
            f'{bag.path} has {len(topics)} topics with pictures of a camera, one is needed; its '
            f'topics are {", ".join(sorted(bag.topics)) or "none"}'
        )
    return topics.pop()


def rgb_of(message: Any) -> NDArray[np.uint8]:
    """The picture (H, W, 3), RGB, of an Image message.

    Raises:
        BagError: where its encoding is neither rgb8 nor bgr8, or its size contradicts its data.
    """
    row = 3 * message.width
    if message.encoding not in _CHANNELS:
        raise BagError(
            f'a picture is {message.encoding}: only {" and ".join(_CHANNELS)} are understood'
        )
    if message.step < row or len(message.data) != message.step * message.height:
        raise BagError(
            f'a picture has {len(message.data)} bytes for {message.width}x{message.height} pixels'
        )
    rows = np.asarray(message.data, np.uint8).reshape(message.height, message.step)[:, :row]
    pixels = rows.reshape(message.height, message.width, 3)[..., _CHANNELS[message.encoding]]
    return np.ascontiguousarray(pixels)


def _read_plans(bag: BagReader, planner: str, run: RecordedRun) -> None:
    """Fills in plans, setup and feedback."""
    goals: dict[str, Goal] = {}
    seen: dict[int, NDArray[np.uint8]] = {}
    messages = []
    names = ('plan', 'goal', 'observed', 'setup', _FEEDBACK)
    for message in bag.messages({f'{planner}/{name}' for name in names}):
        content = message.content
        name = message.topic.removeprefix(f'{planner}/')
        if name == 'plan':
            messages.append(content)
        elif name == 'goal':
            goal = PictureGoal(rgb_of(content))
            goals[goal.digest] = goal
        elif name == 'observed':
            seen[_nanoseconds(content.header.stamp)] = rgb_of(content)
        elif name == 'setup':
            run.setup = PlannerSetup.from_text(content.data)
        else:
            said = content.feedback
            run.iterations.append(
                RecordedIteration(
                    said.step, said.iteration, said.best_cost, said.mean_cost, said.elapsed
                )
            )
    if not messages:
        raise BagError(
            f'{bag.path} holds no plan: the run ended before one was made'
            + ''.join(f'; {problem}' for problem in bag.problems)
        )
    wanted = {_nanoseconds(message.observation_stamp) for message in messages} - seen.keys()
    if wanted:
        # The camera's own topic has it as well, unless messages were lost.
        for message in bag.messages(_camera_topics(bag, planner)):
            stamp_ns = _nanoseconds(message.content.header.stamp)
            if stamp_ns in wanted:
                seen[stamp_ns] = rgb_of(message.content)
    for message in messages:
        run.plans.append(_plan(message, seen, goals))


def _read_course(bag: BagReader, planner: str, run: RecordedRun) -> None:
    """Fills in what the run looked like."""
    camera = _camera_topics(bag, planner)
    shown = {f'{planner}/{name}': name for name in ('overlay', 'predicted')}
    heard = np.full(len(JOINTS), np.nan)
    index = {name: i for i, name in enumerate(JOINTS)}
    times, positions, last_ns = [], [], 0
    first: Any = None
    newest: dict[str, Any] = {}
    for raw in bag.raw_messages():
        run.begin_ns = run.begin_ns or raw.stamp_ns
        last_ns = max(last_ns, raw.stamp_ns)
        if raw.topic in camera:
            first = first or raw
            newest['reached'] = raw
        elif raw.topic in shown:
            newest[shown[raw.topic]] = raw
        elif raw.topic == _JOINT_STATES:
            state = bag.content(raw)
            for name, position in zip(state.name, state.position, strict=False):
                if name in index:
                    heard[index[name]] = position
            times.append((raw.stamp_ns - run.begin_ns) * 1e-9)
            positions.append(heard.copy())
        elif raw.topic == '/diagnostics':
            for status in bag.content(raw).status:
                if int(status.level) > 0:
                    text = f'{status.name}: {status.message}'
                    run.warnings[text] = run.warnings.get(text, 0) + 1
    if first is not None:
        newest['start'] = first
    for name, raw in newest.items():
        try:
            run.pictures[name] = rgb_of(bag.content(raw))
        except BagError as error:
            run.problems.append(f'{raw.topic}: {error}')
    if times:
        run.times, run.positions = np.array(times), np.stack(positions)
    run.seconds = (last_ns - run.begin_ns) * 1e-9


def _camera_topics(bag: BagReader, planner: str) -> set[str]:
    return {
        topic
        for topic, kind in bag.topics.items()
        if kind == _IMAGE_TYPE and not topic.startswith(f'{planner}/')
    }


def _plan(
    message: Any, seen: Mapping[int, NDArray[np.uint8]], goals: Mapping[str, Goal]
) -> RecordedPlan:
    if not hasattr(message, 'preset_settings'):
        raise BagError(
            'the plans were recorded by a version that did not say how they were made: they '
            'cannot be made again'
        )
    names = list(message.joint_names)
    if sorted(names) != sorted(JOINTS):
        raise BagError(f'a plan is of the joints {", ".join(names)}, not of this robot')
    order = [names.index(name) for name in JOINTS]

    def rows(values: Any) -> NDArray[np.float64]:
        return np.asarray(values, np.float64).reshape(-1, len(JOINTS))[:, order]

    stamp_ns = _nanoseconds(message.observation_stamp)
    info = message.camera_info
    previous = rows(message.previous_waypoints)
    picture = seen.get(stamp_ns)
    if picture is not None and digest_of(picture) != message.picture_digest:
        picture = None
    # Recordings of older versions have plans to pictures only.
    points = getattr(message, 'goal_keypoints', ())
    try:
        goal = goals.get(message.goal_digest)
        if len(points):
            goal = KeypointGoal.from_message(points)
        return RecordedPlan(
            stamp_ns=_nanoseconds(message.header.stamp),
            task=message.task,
            goal_name=message.goal_name,
            waypoints=rows([point.positions for point in message.waypoints]),
            observation_stamp_ns=stamp_ns,
            picture_digest=message.picture_digest,
            intrinsics=CameraIntrinsics(
                int(info.width),
                int(info.height),
                *(float(info.k[i]) for i in (0, 4, 2, 5)),
            ),
            T_base_from_camera=np.asarray(message.t_base_from_camera).reshape(4, 4),
            observed_positions=rows(message.observed_positions)[0],
            seed=int(message.seed),
            checkpoint_digest=message.checkpoint_digest,
            goal_digest=message.goal_digest,
            preset=preset_from_text(message.preset_settings),
            replan=int(message.replan),
            previous_waypoints=previous if len(previous) else None,
            budget=float(message.budget) or None,
            outcome=message.outcome,
            costs=tuple(float(cost) for cost in message.costs),
            terms=dict(zip(message.term_names, map(float, message.terms), strict=True)),
            seconds=dict(zip(message.timing_names, map(float, message.timings), strict=True)),
            picture=picture,
            goal=goal,
        )
    except (CameraIntrinsicsError, PresetError, IndexError, GoalError) as error:
        raise BagError(f'a recorded plan cannot be used: {error}') from error


def _nanoseconds(stamp: Any) -> int:
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def _notes(path: Path) -> dict[str, str]:
    """What is kept with a recording: its custom data, or else the files that runs leave beside."""
    notes: dict[str, str] = {}
    folder = path if path.is_dir() else path.parent
    for name in ('run', 'summary'):
        file = folder.parent / f'{name}.json'
        if file.is_file():
            notes[name] = file.read_text(encoding='utf-8', errors='replace')
    try:
        metadata = yaml.safe_load((folder / 'metadata.yaml').read_text())
        custom = metadata['rosbag2_bagfile_information'].get('custom_data') or {}
        notes |= {str(name): str(text) for name, text in custom.items()}
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        pass
    return {name: text for name, text in notes.items() if _is_json(text)}


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True
