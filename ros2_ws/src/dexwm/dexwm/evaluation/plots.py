"""Plots of an open-loop evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dexwm.evaluation.figures import Curve
from dexwm.evaluation.report import Entry, Report

_SIZE = (6.4, 4.0)
_DPI = 150
_BASELINE_STYLE = {'persistence': '--', 'true frame': ':'}


def save_plots(report: Report, folder: Path) -> list[Path]:
    """Draws keypoints, latent error and errors of objects over time as PNG files.

    Args:
        report: What was measured.
        folder: Where to put them; made if it does not exist.

    Returns:
        The files.
    """
    plots: dict[str, tuple[str, Callable[[Entry], Curve | None]]] = {
        'pck.png': (
            'PCK@20 of visible keypoints',
            lambda entry: entry.figures.keypoints.pck_curve(20),
        ),
        'keypoint_error.png': (
            'mean error of visible keypoints (px)',
            lambda entry: entry.figures.keypoints.error,
        ),
        'latent_error.png': (
            'latent MSE / persistence',
            lambda entry: None if entry.role == 'true frame' else entry.figures.latent_mse_ratio,
        ),
        'object_error.png': (
            'mean error of moved objects (px)',
            lambda entry: entry.figures.objects.error if entry.figures.objects else None,
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (label, select) in plots.items():
        figure = Figure(figsize=_SIZE, layout='constrained')
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        if _draw(axes, report, select):
            axes.set_xlabel('time after the observed frame (s)')
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
            axes.legend(fontsize='small')
            figure.savefig(folder / name, dpi=_DPI)
            written.append(folder / name)
    return written


def _draw(axes: Axes, report: Report, select: Callable[[Entry], Curve | None]) -> bool:
    drawn = False
    for entry in report.entries:
        curve = select(entry)
        if curve is not None:
            style = _BASELINE_STYLE.get(entry.role, '-')
            axes.plot(report.times, curve.steps, style, label=entry.name)
            drawn = True
    return drawn
