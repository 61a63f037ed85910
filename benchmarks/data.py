"""Exploratory data: pictures an hour, on one and on two cores.

What is timed is what `make data` does: episodes of 16 s of physics under exploring motion (inverse
kinematics included), a picture of 224x392 every 0.2 s, their file; a new scene for each is part
of it, start of the process and first episode are not. The processor time of a picture is given
beside: it is the same where the machine has other work to do.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

from benchmarks.measurement import BenchmarkError, Goal, Measurement, Settings
from dexwm_sim.generate_worker import EpisodeSettings, make_recording

SECONDS = 15.0

_GOAL = Goal(100_000)
_PROCESSES = (1, 2)
_QUALITIES = ('fast', 'standard')
_WARM_UP_FRAMES = 2
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
        used = sum(share.processor for share in shares) / max(1, frames)
        measurements.append(Measurement(f'processor time, {quality}', used * 1e3, 'ms/picture'))
    return measurements


@dataclass(frozen=True)
class _Share:
    """What one process did in the time that counts.

    Attributes:
        frames: Pictures made.
        processor: Processor time spent (s).
    """

    frames: int
    processor: float


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
    with tempfile.TemporaryDirectory() as folder:
        maker = _Maker(Path(folder), seed, quality)
        try:
            maker.make_episode(_WARM_UP_FRAMES)
            ready.wait(_START_TIMEOUT)
            maker.start(seconds)
            while not maker.is_over():
                maker.make_episode(EpisodeSettings().frames)
        except BaseException:
            ready.abort()
            raise
        results.send(maker.share())


class _Over(Exception):
    """The time is over in the middle of an episode."""


class _Maker:
    """Makes episodes, and counts until its time is over."""

    def __init__(self, folder: Path, seed: int, quality: str) -> None:
        self._folder = folder
        self._seed = seed
        self._quality = quality
        self._deadline = float('inf')
        self._frames, self._begun, self._ended = 0, 0.0, 0.0

    def start(self, seconds: float) -> None:
        """Counts from now on."""
        self._frames = 0
        self._begun = self._ended = time.process_time()
        self._deadline = time.perf_counter() + seconds

    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.perf_counter() > self._deadline

    def share(self) -> _Share:
        """What was done in the time."""
        return _Share(self._frames, self._ended - self._begun)

    def make_episode(self, frames: int) -> None:
        """Makes an episode of so many pictures, ended early by the deadline."""
        settings = EpisodeSettings(frames=frames, quality=self._quality)
        with contextlib.suppress(_Over):
            make_recording(self._folder, self._seed, settings, self._count)
        self._seed += len(_PROCESSES)

    def _count(self) -> None:
        if self.is_over():
            raise _Over
        self._frames += 1
        self._ended = time.process_time()
