"""State of the running cell in shared memory, from the physics to whoever draws it.

One writer (the cell), any number of readers (cameras, viewers). Nobody waits for anybody; see
`dexwm_sim.seqlock` for how a reader gets one state and not a mixture of two.

The writer holds a file lock (flock) for as long as it lives. The kernel drops it when the process
dies, however it dies; this is how a reader tells a dead writer from a slow one, and how a new
writer tells a stale file from a cell that is still running.
"""

from __future__ import annotations

import fcntl
import itertools
import mmap
import os
import re
import struct
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dexwm_sim.seqlock import Seqlock, TornRecordError, padded

DIRECTORY = Path('/dev/shm')

_MAGIC = b'DEXWMST1'
# Magic, bytes of scene JSON, number of positions.
_HEADER = struct.Struct('<8sQQ')
# Simulated time (s), system time (ns), monotonic time (ns); the positions follow.
_RECORD = struct.Struct('<dqq')
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]*')
_LOCK_ATTEMPTS = 50


class SharedStateError(RuntimeError):
    """The shared state cannot be created, attached to or read."""


class SharedStateInUseError(SharedStateError):
    """Another live cell writes under this name."""


class SharedStateMissingError(SharedStateError):
    """No cell writes under this name."""


@dataclass(frozen=True)
class Snapshot:
    """One state of the cell.

    Attributes:
        sim_time: Simulated time since the start of the scene (s).
        stamp_ns: ROS system time at which the state held (ns).
        monotonic_ns: Time of writing on CLOCK_MONOTONIC, which all processes share (ns).
        qpos: MuJoCo's generalised positions (nq,); quaternions in MuJoCo's order wxyz.
    """

    sim_time: float
    stamp_ns: int
    monotonic_ns: int
    qpos: NDArray[np.float64]


def default_name() -> str:
    """Name of this user's cell in this ROS domain: two runs side by side never share one."""
    return f'cell-{os.getuid()}-{os.environ.get("ROS_DOMAIN_ID") or 0}'


def _path(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f'{name!r} is not a name for a shared state: use letters, digits, "_", "-" and ".", '
            'beginning with a letter or digit.'
        )
    return DIRECTORY / f'dexwm_{name}'


class SharedState:
    """The latest state of a cell, under a name that other processes attach to.

    Use `create` in the process that simulates and `attach` in the others; both are context
    managers.

    Attributes:
        name: The name both sides use.
        scene_json: The scene that the positions belong to, as `SceneConfig.to_json` wrote it.
        nq: Number of generalised positions.
    """

    def __init__(
        self, name: str, fd: int, memory: mmap.mmap, scene_json: str, nq: int, writer: bool
    ) -> None:
        """Take over an open and initialised file: use `create` or `attach` instead."""
        self.name = name
        self.scene_json = scene_json
        self.nq = nq
        self._fd = fd
        self._memory = memory
        self._writer = writer
        self._path = _path(name)
        self._view = memoryview(memory)
        self._lock = Seqlock(self._view[_lock_offset(scene_json) :], _record_size(nq))

    @classmethod
    def create(cls, name: str, scene_json: str, nq: int) -> SharedState:
        """Create the state and become its writer, in place of a dead writer's if there is one.

        Args:
            name: Letters, digits, "_", "-" and ".".
            scene_json: What a reader needs to build the same scene.
            nq: Number of generalised positions of that scene.

        Raises:
            ValueError: If the name or nq cannot be used.
            SharedStateInUseError: If another process writes under this name.
        """
        path = _path(name)
        if nq < 1:
            raise ValueError(f'A state has at least one position, not {nq}.')
        claim = _claim(path)
        # Readers of the old file keep it; the new one appears complete, by an atomic rename.
        scratch = path.with_name(f'{path.name}.{os.getpid()}')
        fd = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            scene = scene_json.encode()
            size = _lock_offset(scene_json) + Seqlock.size(_record_size(nq))
            os.ftruncate(fd, size)
            memory = mmap.mmap(fd, size)
            memory[: _HEADER.size] = _HEADER.pack(_MAGIC, len(scene), nq)
            memory[_HEADER.size : _HEADER.size + len(scene)] = scene
            os.rename(scratch, path)
        except BaseException:
            os.close(fd)
            scratch.unlink(missing_ok=True)
            raise
        finally:
            os.close(claim)
        return cls(name, fd, memory, scene_json, nq, writer=True)

    @classmethod
    def attach(cls, name: str) -> SharedState:
        """Open the state that a cell writes under this name.

        Raises:
            ValueError: If the name cannot be used.
            SharedStateMissingError: If no cell runs under this name.
            SharedStateError: If the file is not a shared state of this version.
        """
        path = _path(name)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise SharedStateMissingError(
                f'No cell runs under the name {name!r}: {path} does not exist. '
                'Start the cell node with the same name and ROS domain.'
            ) from None
        try:
            size = os.fstat(fd).st_size
            magic, scene_size, nq = (
                _HEADER.unpack(os.pread(fd, _HEADER.size, 0))
                if size >= _HEADER.size
                else (b'', 0, 0)
            )
            if magic != _MAGIC:
                raise SharedStateError(
                    f'{path} was not written by this version of the cell: restart the cell.'
                )
            memory = mmap.mmap(fd, size, prot=mmap.PROT_READ)
            scene_json = memory[_HEADER.size : _HEADER.size + scene_size].decode()
            state = cls(name, fd, memory, scene_json, nq, writer=False)
        except BaseException:
            os.close(fd)
            raise
        if not state.writer_alive():
            state.close()
            raise SharedStateMissingError(
                f'The cell that ran under the name {name!r} is gone: start it again.'
            )
        return state

    def write(
        self, sim_time: float, stamp_ns: int, qpos: ArrayLike, monotonic_ns: int | None = None
    ) -> None:
        """Publish a state. Only the process that created the shared state may.

        Args:
            sim_time: Simulated time (s).
            stamp_ns: ROS system time at which the state held (ns).
            qpos: Generalised positions (nq,).
            monotonic_ns: Time of writing on CLOCK_MONOTONIC; now if omitted.

        Raises:
            SharedStateError: In a process that only attached.
            ValueError: If qpos has another length.
        """
        if not self._writer:
            raise SharedStateError('Only the process that created a shared state may write it.')
        positions = np.ascontiguousarray(qpos, dtype=np.float64)
        if positions.shape != (self.nq,):
            raise ValueError(f'Expected {self.nq} positions, got shape {positions.shape}.')
        now = time.monotonic_ns() if monotonic_ns is None else monotonic_ns
        self._lock.write(_RECORD.pack(sim_time, stamp_ns, now) + positions.tobytes())

    def read(self) -> Snapshot:
        """Return the newest state.

        Raises:
            SharedStateError: If nothing was written yet, or the writer died while writing.
        """
        try:
            record = self._lock.read()
        except TornRecordError as error:
            raise SharedStateError(
                f'The cell {self.name!r} stopped in the middle of writing a state.'
            ) from error
        if record is None:
            raise SharedStateError(f'The cell {self.name!r} has not written a state yet.')
        sim_time, stamp_ns, monotonic_ns = _RECORD.unpack_from(record)
        qpos = np.frombuffer(record, dtype=np.float64, offset=_RECORD.size)
        return Snapshot(sim_time, stamp_ns, monotonic_ns, qpos)

    def writer_alive(self) -> bool:
        """Whether the process that created this state still runs and has not closed it."""
        if self._writer:
            return True
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return False

    def superseded(self) -> bool:
        """Whether a newer cell has taken the name: attach again to see its states."""
        try:
            return os.stat(self._path).st_ino != os.fstat(self._fd).st_ino
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let go; the writer also takes the name away."""
        if self._memory.closed:
            return
        if self._writer and not self.superseded():
            self._path.unlink(missing_ok=True)
        self._lock.release()
        self._view.release()
        self._memory.close()
        os.close(self._fd)

    def __enter__(self) -> SharedState:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _lock_offset(scene_json: str) -> int:
    return padded(_HEADER.size + len(scene_json.encode()))


def _record_size(nq: int) -> int:
    return _RECORD.size + 8 * nq


def _claim(path: Path) -> int:
    """Lock whatever file has the path now, or a new empty one; return its descriptor."""
    for attempt in itertools.count():
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_ino == os.stat(path).st_ino:
                return fd
        except FileNotFoundError:
            pass  # The former writer just took it away.
        except BlockingIOError:
            # A reader that looks whether the writer lives holds the lock for an instant.
            if attempt >= _LOCK_ATTEMPTS:
                os.close(fd)
                raise SharedStateInUseError(
                    f'Another cell already runs under this name ({path} is locked): stop it, or '
                    'use another ROS_DOMAIN_ID or another name.'
                ) from None
            time.sleep(0.01)
        os.close(fd)
    raise AssertionError('unreachable')
