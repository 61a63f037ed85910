"""What a process can ask of Linux so that it is in time."""

from __future__ import annotations

import ctypes
import os

_MCL_CURRENT, _MCL_FUTURE = 1, 2


def take_priority(priority: int) -> bool:
    """Ask for real-time priority for this thread and those that it will start.

    Args:
        priority: Priority in Linux' SCHED_FIFO, 1 to 99.

    Returns:
        Whether the user may have it (see `ulimit -r`).
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        return False
    return True


def pin(cpu: int) -> None:
    """Run this thread, and those that it will start, on one processor only.

    Args:
        cpu: Number of the processor; nothing happens if it is negative.

    Raises:
        ValueError: If there is no such processor for this process.
    """
    if cpu < 0:
        return
    available = os.sched_getaffinity(0)
    if cpu not in available:
        raise ValueError(f'There is no processor {cpu}; there are {sorted(available)}.')
    os.sched_setaffinity(0, {cpu})


def lock_memory() -> bool:
    """Keep all memory of this process, present and future, from being paged out.

    Returns:
        Whether the user may have that (see `ulimit -l`).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) == 0
