"""Reads a camera source in a thread of its own and keeps it running."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from dexwm_planner.camera.sources.source import (
    CameraSource,
    CameraSourceError,
    Frame,
    MalformedFrameError,
)

_RATE_WINDOW = 51
"""Frames over which the rate is taken."""


@dataclass(frozen=True)
class GrabberStatus:
    """How the grabbing goes.

    Attributes:
        frames: delivered since the start.
        malformed: frames that were dropped because they were no picture.
        failures: how often the source failed or did not open.
        rate: frames delivered a second, over the last ones since the source was opened.
        age: time since the last frame came, s; None before the first.
        problem: why no frames come now; None while they do.
        last_malformed: what was wrong with the last malformed frame; None where none was.
    """

    frames: int
    malformed: int
    failures: int
    rate: float
    age: float | None
    problem: str | None
    last_malformed: str | None


class CameraGrabber:
    """Delivers a source's frames from a thread; opens it again after a failure.

    A source that blocks blocks this thread only. Nothing is queued: while a frame is delivered
    none is read.
    """

    def __init__(
        self,
        source: CameraSource,
        deliver: Callable[[Frame], None],
        log_problem: Callable[[str], None],
        log_recovery: Callable[[str], None],
        retry_period: float = 1.0,
    ) -> None:
        """Sets up; `start` starts.

        Args:
            source: to read.
            deliver: takes each frame, in the thread.
            log_problem: is told each new problem once.
            log_recovery: is told when frames come again after a problem.
            retry_period: pause before a source that failed is opened again, s.
        """
        self._source = source
        self._deliver = deliver
        self._log_problem = log_problem
        self._log_recovery = log_recovery
        self._retry_period = retry_period
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name='camera', daemon=True)
        self._lock = threading.Lock()
        self._frames = self._malformed = self._failures = 0
        self._problem: str | None = 'no frame yet'
        self._last_malformed: str | None = None
        self._frame_at: float | None = None
        self._times: deque[float] = deque(maxlen=_RATE_WINDOW)
        self._crash: BaseException | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Stops; a source that blocks is waited for no longer than `timeout` seconds.

        Returns:
            Whether the thread has ended.
        """
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def status(self) -> GrabberStatus:
        """How it goes now.

        Raises:
            BaseException: what ended the thread, where that was no failure of the source.
        """
        with self._lock:
            if self._crash is not None:
                raise self._crash
            span = self._times[-1] - self._times[0] if self._times else 0.0
            return GrabberStatus(
                self._frames,
                self._malformed,
                self._failures,
                (len(self._times) - 1) / span if span > 0 else 0.0,
                None if self._frame_at is None else time.monotonic() - self._frame_at,
                self._problem,
                self._last_malformed,
            )

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._source.open()
                    while not self._stop.is_set():
                        self._read_one()
                except CameraSourceError as error:
                    self._failed(str(error))
                finally:
                    self._source.close()
                self._stop.wait(self._retry_period)
        except BaseException as error:  # Shown by `status`, never lost with the thread.
            with self._lock:
                self._crash = error

    def _read_one(self) -> None:
        try:
            frame = self._source.read()
        except MalformedFrameError as error:
            with self._lock:
                self._malformed += 1
                self._last_malformed = str(error)
            return
        if self._stop.is_set():
            return
        self._deliver(frame)
        with self._lock:
            self._frames += 1
            self._frame_at = time.monotonic()
            self._times.append(self._frame_at)
            recovered = self._problem is not None and self._failures > 0
            self._problem = None
        if recovered:
            self._log_recovery('frames come again')

    def _failed(self, reason: str) -> None:
        with self._lock:
            self._failures += 1
            self._times.clear()
            new = reason != self._problem
            self._problem = reason
        if new:
            self._log_problem(reason)
