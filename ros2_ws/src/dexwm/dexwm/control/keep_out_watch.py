"""Watches that the measured posture stays out of the boxes around the robot."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dexwm.control.motion_gate import Fault
from dexwm.control.outcome import Outcome
from dexwm.control.trajectory import Floats
from dexwm.robot.collision import CollisionChecker


class KeepOutWatch:
    """A body that is deeper in a box than touching explains ends all motion.

    A body that was reported may come out again: it counts anew only once it goes deeper.

    Args:
        checker: with the boxes; used by nobody else.
        boxes: names of the boxes.
        positions: gives the measured positions (23,), rad; NaN where not known.
        depth: depth from which a box counts as entered (m).
        period: time between two looks (s).
    """

    def __init__(
        self,
        checker: CollisionChecker,
        boxes: frozenset[str],
        positions: Callable[[], Floats],
        depth: float,
        period: float,
    ):
        if depth < 0.0 or period <= 0.0:
            raise ValueError(f'depth ({depth} m) and period ({period} s) must be positive')
        self._checker = checker
        self._boxes = boxes
        self._positions = positions
        self._depth = depth
        self._period_ns = round(period * 1e9)
        self._looked_ns = 0
        self._reported: dict[tuple[str, str], float] = {}

    def __call__(self, now_ns: int) -> Fault | None:
        """The body that entered a box since the last look; told once."""
        if 0 <= now_ns - self._looked_ns < self._period_ns:
            return None
        self._looked_ns = now_ns
        positions = self._positions()
        if not np.isfinite(positions).all():
            return None
        inside = {
            (contact.first, contact.second): contact.distance
            for contact in self._checker.check(positions)
            if contact.second in self._boxes and -contact.distance > self._depth
        }
        new = [
            pair for pair, d in inside.items() if d < self._reported.get(pair, 0.0) - self._depth
        ]
        self._reported = {pair: min(d, self._reported.get(pair, d)) for pair, d in inside.items()}
        if not new:
            return None
        body, box = new[0]
        return Fault(
            Outcome.COLLISION,
            f'{body} is {-inside[new[0]] * 1e3:.0f} mm inside the box {box}; move it out by hand, '
            'or call ~/resume and plan a way out',
            latches=True,
            once=True,
        )
