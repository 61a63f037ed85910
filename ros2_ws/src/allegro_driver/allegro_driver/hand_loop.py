"""The process that the control loop has to itself.

It is in a session of its own, so that what kills the node's process group does not reach it, and
it ends by itself, servo off, when the node is gone: the kernel sends it SIGTERM, and the pipe that
commands come through ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import signal
from dataclasses import replace
from multiprocessing.connection import Connection

from allegro_driver.driver import HandDriver
from allegro_driver.messages import HandSettings
from dexwm_franka_bringup.real_time import lock_memory, take_priority

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_PRIORITY = 70
# Keeps a report within the pipe's atomic unit of 4096 bytes.
_REASON_LENGTH = 800


def run(settings: HandSettings, commands: Connection, reports: Connection) -> None:
    """Main function of the process.

    Args:
        settings: How to reach and treat the hand.
        commands: Where commands come from. Its end ends the process.
        reports: Where reports go; one that does not fit is dropped.

    Raises:
        SystemExit: The servo may still be on.
    """
    ending = False

    def end(*_: object) -> None:
        nonlocal ending
        ending = True

    # Before anything that could be interrupted half way.
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    priority = take_priority(_PRIORITY)
    if priority:
        lock_memory()
    os.set_blocking(reports.fileno(), False)
    poller = select.poll()
    poller.register(commands.fileno(), select.POLLIN)
    driver = HandDriver(settings)
    cycles_per_report = max(1, round(1.0 / (settings.report_rate * 0.003)))
    sent = None
    # A collection in mid-motion would cost cycles.
    gc.collect()
    gc.freeze()
    try:
        while not (ending or driver.finished):
            while poller.poll(0):
                driver.take(commands.recv())
            driver.step()
            report = driver.report
            if (
                sent is None
                or report.cycles - sent.cycles >= cycles_per_report
                or (report.mode, report.reason, report.rejected, report.starts)
                != (sent.mode, sent.reason, sent.rejected, sent.starts)
            ):
                sent = report
                _send(reports, report, priority)
    except (EOFError, OSError):
        # The node is gone.
        pass
    finally:
        is_off = driver.close()
        with contextlib.suppress(OSError):
            _send(reports, driver.report, priority)
    if not is_off:
        # The node finds its own way to the bus, and tells where it finds none.
        raise SystemExit(1)


def _send(reports: Connection, report: object, priority: bool) -> None:
    with contextlib.suppress(BlockingIOError):
        reports.send(
            replace(
                report,
                reason=report.reason[:_REASON_LENGTH],
                last_rejection=report.last_rejection[:_REASON_LENGTH],
                real_time_priority=priority,
            )
        )
