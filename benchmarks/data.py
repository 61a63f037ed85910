"""Exploratory data: pictures an hour, on one and on two cores.

One picture is 0.2 s of physics under random motion (`dexwm_sim.exploration`, inverse kinematics
included), a rendering of 224x392 and a JPEG. A process of its own makes episodes of 20 s with
five objects each; a new scene is part of what is timed, start of the process and first pictures
are not. The processor time of a picture is given beside: it is the same where the machine has
other work to do.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

import cv2
import numpy as np

from benchmarks.measurement import BenchmarkError, Goal, Measurement, Settings
from dexwm.robot.joints import HOME
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.description import robot_description
from dexwm_sim.cell import Cell
from dexwm_sim.exploration import random_legs
from dexwm_sim.follow import Follower
from dexwm_sim.render import CellRenderer
from dexwm_sim.scene_config import SceneConfig
from dexwm_sim.tasks import STEP

SECONDS = 15.0
WIDTH, HEIGHT = 392, 224
FRAME_PERIOD = 0.2
FRAMES_PER_EPISODE = 100
OBJECTS = ('box', 'can', 'cylinder', 'apple', 'bowl')
JPEG_QUALITY = 95

_GOAL = Goal(100_000)
_PROCESSES = (1, 2)
_QUALITIES = ('fast', 'standard')
_WARM_UP_FRAMES = 5
_START_TIMEOUT = 120.0


def run(settings: Settings) -> list[Measurement]:
    """Measures; raises BenchmarkError where that is not possible."""
    seconds = settings.seconds or SECONDS
    cores = len(os.sched_getaffinity(0))
    measurements = []
    for quality in _QUALITIES:
        for processes in _PROCESSES:
            if processes > cores:
                settings.console.print(f'  only {cores} core: not measured on {processes}')
                continue
            where = f'{quality}, {processes} core{"s" if processes > 1 else ""}'
            settings.console.print(f'  {where}: {seconds:g} s')
            shares = _measure(quality, processes, seconds)
            frames = sum(share.frames for share in shares)
            goal = _GOAL if processes == _PROCESSES[-1] else None
            measurements.append(
                Measurement(f'pictures, {where}', frames / seconds * 3600, '1/h', goal)
            )
        for what, seconds_used in (
            ('processor time', sum(share.processor for share in shares)),
            ('rendering of it', sum(share.rendering for share in shares)),
        ):
            value = seconds_used / max(1, frames) * 1e3
            measurements.append(Measurement(f'{what}, {quality}', value, 'ms/picture'))
    return measurements


@dataclass(frozen=True)
class _Share:
    """What one process did in the time that counts.

    Attributes:
        frames: Pictures made.
        processor: Processor time spent (s).
        rendering: Part of it for rendering (s).
    """

    frames: int
    processor: float
    rendering: float


def _measure(quality: str, processes: int, seconds: float) -> list[_Share]:
    context = multiprocessing.get_context('spawn')
    ready = context.Barrier(processes)
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    workers = [
        context.Process(target=_work, args=(seed, quality, seconds, ready, end), daemon=True)
        for seed, (_, end) in enumerate(pipes)
    ]
    for worker, (_, end) in zip(workers, pipes, strict=True):
        worker.start()
        end.close()
    try:
        return [results.recv() for results, _ in pipes]
    except EOFError:
        raise BenchmarkError('a process that makes data died; see above') from None
    finally:
        for worker in workers:
            worker.join(1.0)
            worker.kill()


def _work(seed: int, quality: str, seconds: float, ready: Barrier, results: Connection) -> None:
    maker = _Maker(seed, quality)
    try:
        maker.make_episode(_WARM_UP_FRAMES)
        ready.wait(_START_TIMEOUT)
        maker.start(seconds)
        while not maker.is_over():
            maker.make_episode(FRAMES_PER_EPISODE)
    except BaseException:
        ready.abort()
        raise
    results.send(maker.share())


class _Maker:
    """Makes episodes, and counts until its time is over."""

    def __init__(self, seed: int, quality: str) -> None:
        self._quality = quality
        self._seed = seed
        self._episode = 0
        self._cell = Cell(self._scene())
        self._renderer = CellRenderer(self._cell.model, WIDTH, HEIGHT)
        self._model = RobotModel.from_urdf(robot_description())
        self._deadline = 0.0
        self._frames, self._begun, self._ended, self._rendering = 0, 0.0, 0.0, 0.0

    def start(self, seconds: float) -> None:
        """Counts from now on."""
        self._frames, self._rendering = 0, 0.0
        self._begun = self._ended = time.process_time()
        self._deadline = time.perf_counter() + seconds

    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.perf_counter() > self._deadline

    def share(self) -> _Share:
        """What was done in the time."""
        return _Share(self._frames, self._ended - self._begun, self._rendering)

    def make_episode(self, frames: int) -> None:
        """Makes an episode of so many pictures or some more, ended early by the deadline."""
        self._episode += 1
        scene = self._scene()
        self._cell.load(scene)
        made = steps = 0

        def on_step() -> None:
            nonlocal made, steps
            steps += 1
            if steps % round(FRAME_PERIOD / STEP) == 0:
                self._take_picture()
                made += 1

        follower = Follower(self._cell, HOME, on_step)
        rng = np.random.default_rng([self._seed, self._episode])
        for leg in random_legs(self._model, rng, HOME):
            follower.follow([leg])
            if made >= frames or (self._deadline and self.is_over()):
                return

    def _take_picture(self) -> None:
        before = time.process_time()
        picture = self._renderer.render(self._cell.data)
        rendered = time.process_time()
        cv2.imencode('.jpg', picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not self.is_over():
            self._frames += 1
            self._rendering += rendered - before
            self._ended = time.process_time()

    def _scene(self) -> SceneConfig:
        seed = self._seed + len(_PROCESSES) * self._episode
        return SceneConfig.sample(seed, OBJECTS, quality=self._quality)
