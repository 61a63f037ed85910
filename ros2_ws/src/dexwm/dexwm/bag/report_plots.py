"""Plots of a recorded run, as PNG."""

from __future__ import annotations

import io
from collections import defaultdict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dexwm.bag.recorded_run import RecordedRun
from dexwm.robot.joints import ARM, JOINTS

_DPI = 110
_FINGERS = ('index', 'middle', 'ring', 'thumb')
_JOINTS_A_FINGER = 4


def plot_costs(run: RecordedRun) -> bytes:
    """Best cost after each iteration, plan after plan; dotted the mean of the candidates."""
    figure, axes = _figure(7.2, 3.0)
    means: dict[int, dict[int, float]] = defaultdict(dict)
    for said in run.iterations:
        means[said.step][said.iteration] = said.mean_cost
    begin = 0
    for number, plan in enumerate(run.plans):
        numbers = begin + np.arange(1, len(plan.costs) + 1)
        (line,) = axes.plot(numbers, plan.costs, marker='.', label=f'plan {number + 1}')
        if mean := means.get(plan.replan):
            shown = [begin + 1 + i for i in sorted(mean)]
            axes.plot(shown, [mean[i] for i in sorted(mean)], ':', color=line.get_color())
        begin += len(plan.costs)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel('iteration')
    axes.set_ylabel('cost')
    axes.set_ylim(bottom=0)
    axes.legend(fontsize='small')
    return _png(figure)


def plot_timings(run: RecordedRun) -> bytes:
    """Where the time of each plan went; what is in no part is the optimiser and the rest."""
    figure, axes = _figure(7.2, 1.1 + 0.42 * len(run.plans))
    names = dict.fromkeys(name for plan in run.plans for name in plan.seconds if name != 'total')
    rows = np.arange(len(run.plans))
    left = np.zeros(len(run.plans))
    for name in names:
        parts = np.array([plan.seconds.get(name, 0.0) for plan in run.plans])
        axes.barh(rows, parts, left=left, label=name)
        left += parts
    totals = np.array([plan.seconds.get('total', 0.0) for plan in run.plans])
    axes.barh(rows, np.maximum(totals - left, 0), left=left, label='rest', color='lightgrey')
    axes.set_yticks(rows, [f'plan {number + 1}' for number in rows])
    axes.invert_yaxis()
    axes.set_xlabel('seconds')
    figure.legend(fontsize='x-small', ncols=len(names) + 1, loc='outside upper center')
    return _png(figure)


def plot_joints(run: RecordedRun) -> bytes:
    """Positions of all joints; lines where a plan was ready, crosses where it wanted them."""
    figure, grid = _grid(7.2, 7.4, 3, 2)
    groups = [('arm, joints 1 to 4', range(4)), ('arm, joints 5 to 7', range(4, ARM.stop))]
    for number, finger in enumerate(_FINGERS):
        first = ARM.stop + number * _JOINTS_A_FINGER
        groups.append((finger, range(first, first + _JOINTS_A_FINGER)))
    for axes, (title, joints) in zip(grid, groups, strict=True):
        for joint in joints:
            label = JOINTS[joint].removeprefix('fr3_')
            (line,) = axes.plot(run.times, run.positions[:, joint], lw=1, label=label)
            for plan in run.plans:
                when = (plan.stamp_ns - run.begin_ns) * 1e-9
                axes.plot(when, plan.waypoints[0, joint], 'x', ms=4, color=line.get_color())
        for plan in run.plans:
            when = (plan.stamp_ns - run.begin_ns) * 1e-9
            axes.axvline(when, color='grey', lw=0.6, ls='--')
        axes.set_title(title, fontsize='small', loc='left')
        axes.legend(fontsize='xx-small', ncols=2)
        axes.grid(alpha=0.3)
    for axes in grid[-2:]:
        axes.set_xlabel('seconds')
    for axes in grid[::2]:
        axes.set_ylabel('rad')
    return _png(figure)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure, (axes,) = _grid(width, height, 1, 1)
    axes.grid(alpha=0.3)
    return figure, axes


def _grid(width: float, height: float, rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format='png', dpi=_DPI)
    return stream.getvalue()
