"""Processes that work for another."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait as wait_for_one


def end_with_parent() -> None:
    """Ties this process to the one that started it, which may be killed without notice."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait_for_one([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
