"""What an open-loop evaluation found, as JSON and as tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from dexwm.evaluation.bootstrap import Estimate
from dexwm.evaluation.figures import OBJECT_PARTS, Figures, KeypointFigures, ObjectFigures
from dexwm.evaluation.json_file import write_json

FORMAT_VERSION = 2

Role = Literal['model', 'persistence', 'true frame']


@dataclass(frozen=True)
class HeadFigures:
    """Keypoints as the model's own head reads them.

    Attributes:
        predicted: Out of predicted latents.
        true_frame: Out of the encoder's latents of the true frames.
    """

    predicted: KeypointFigures
    true_frame: KeypointFigures


@dataclass(frozen=True)
class Entry:
    """One line of the table.

    Attributes:
        name: What it is called.
        role: A model, or a baseline of an encoder: the observed frame's latent repeated
            ('persistence'), or the encoder on the true frame.
        details: Where it comes from: folder, digests, sizes.
        figures: What was measured.
        head: Keypoints read by the model's own head; None for baselines.
    """

    name: str
    role: Role
    details: dict[str, Any]
    figures: Figures
    head: HeadFigures | None


@dataclass(frozen=True)
class Report:
    """An open-loop evaluation.

    Attributes:
        settings: Everything that the figures depend on besides models and data.
        data: Which data, how much of it, with digests.
        probes: For each encoder: the probe's training and its error on true held-out latents.
        times: Seconds from the observed frame to each predicted one.
        entries: Models and baselines.
    """

    settings: dict[str, Any]
    data: dict[str, Any]
    probes: dict[str, Any]
    times: tuple[float, ...]
    entries: tuple[Entry, ...]

    def save(self, path: Path) -> None:
        """Writes JSON, whole or not at all; what is not a number becomes null."""
        content = {'format_version': FORMAT_VERSION, **asdict(self)}
        write_json(path, content)

    def tables(self) -> list[Table]:
        """The main figures, one line for each model and baseline: hands, then objects if any."""
        last = f'{self.times[-1]:g} s'
        hands = _table(
            f'Open loop, {last} from one frame: at {last} | mean over time',
            ['latent MAE', 'latent MSE / persistence', 'PCK@20', 'keypoints (px)'],
        )
        objects = _table(
            f'Moved objects: at {last} | mean over time [95 % interval]',
            ['error (px)', '/ persistence', '/ true start', *OBJECT_PARTS],
        )
        for entry in self.entries:
            figures = entry.figures
            curves = (
                (figures.latent_mae, 3),
                (figures.latent_mse_ratio, 3),
                (figures.keypoints.pck_curve(20), 3),
                (figures.keypoints.error, 1),
            )
            hands.add_row(
                entry.name, *(_pair(curve.last, curve.mean, digits) for curve, digits in curves)
            )
            if figures.objects is not None:
                objects.add_row(entry.name, *_object_cells(figures.objects, last))
        return [hands, objects] if objects.row_count else [hands]


def _table(title: str, columns: list[str]) -> Table:
    table = Table(title=title)
    table.add_column('', no_wrap=True)
    for column in columns:
        table.add_column(column, justify='right')
    return table


def _object_cells(objects: ObjectFigures, last: str) -> list[str]:
    whole, at_end = objects.parts['all']['mean'], objects.parts['all'][last]
    interval = f' [{whole.ratio.low:.2f}, {whole.ratio.high:.2f}]'
    cells = [
        _pair(at_end.error, whole.error, 1),
        _pair(at_end.ratio, whole.ratio, 2) + interval,
        _pair(at_end.ratio_to_true_start, whole.ratio_to_true_start, 2),
    ]
    for name in OBJECT_PARTS:
        part = objects.parts[name]
        cells.append(_pair(part[last].ratio, part['mean'].ratio, 2))
    return cells


def _pair(last: Estimate, mean: Estimate, digits: int) -> str:
    return f'{last.value:.{digits}f} | {mean.value:.{digits}f}'
