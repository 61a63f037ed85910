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


def lock_memory() -> bool:
    """Keep all memory of this process, present and future, from being paged out.

    Returns:
        Whether the user may have that (see `ulimit -l`).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) == 0
