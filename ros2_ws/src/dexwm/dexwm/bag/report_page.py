"""One page about a recorded run: a single HTML file with everything in it."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dexwm.bag.recorded_run import RecordedPlan, RecordedRun
from dexwm.bag.report_plots import plot_costs, plot_joints, plot_timings
from dexwm.planning.goal import Goal, KeypointGoal, PictureGoal

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.verdict { display: inline-block; padding: .2rem .7rem; border-radius: .4rem; color: #fff;
  font-weight: 600; background: #777; }
.good { background: #26804b; } .bad { background: #b3372f; }
.pictures { display: flex; flex-wrap: wrap; gap: .6rem; }
figure { margin: 0; width: 18.5rem; }
figure img { width: 100%; border-radius: .3rem; display: block; }
figcaption { font-size: .85rem; color: #555; }
img.plot { max-width: 100%; }
table { border-collapse: collapse; font-size: .88rem; }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid #ddd;
  vertical-align: top; overflow-wrap: break-word; }
th { font-weight: 600; white-space: nowrap; }
.problem { color: #b3372f; }
details { margin: .6rem 0; } pre { font-size: .8rem; overflow-x: auto; }
@media (prefers-color-scheme: dark) { body { background: #1c1c1c; color: #ddd; }
  th, td { border-color: #444; } figcaption { color: #aaa; } img.plot { background: #fff; } }
"""
_DIGITS = 12
_PICTURES = (
    ('start', 'start'),
    ('goal', 'goal'),
    ('overlay', 'last plan: hand as predicted (filled) and as in the goal (rings)'),
    ('predicted', 'last plan: what the model expects to see'),
    ('reached', 'reached'),
)


def report_page(run: RecordedRun) -> str:
    """The page, as HTML text.

    Args:
        run: read with its course.
    """
    summary = json.loads(run.notes.get('summary', '{}'))
    started = json.loads(run.notes.get('run', '{}'))
    first = run.plans[0]
    title = f'{first.task}: {run.path.parent.name if summary or started else run.path.name}'
    parts = [
        f'<h1>{_text(title)}</h1>',
        _verdict(summary),
        *(f'<p class="problem">{_text(problem)}</p>' for problem in run.problems),
        '<h2>Pictures</h2>',
        _pictures(run),
        '<h2>Plans</h2>',
        _plans(run.plans),
        '<h2>Cost</h2>',
        _plot(plot_costs(run), 'best cost after each iteration; dotted: mean of the candidates'),
        '<h2>Time</h2>',
        _plot(plot_timings(run), 'where the time of each plan went'),
        '<h2>Joints</h2>',
        _plot(plot_joints(run), 'dashed: a plan was ready; crosses: its first waypoint')
        if len(run.times)
        else '<p class="problem">The recording has no joint states.</p>',
        '<h2>Warnings</h2>',
        _table([(count, text) for text, count in run.warnings.items()], ('times', 'what'))
        if run.warnings
        else '<p>None on /diagnostics.</p>',
        '<h2>What ran</h2>',
        _provenance(run, started),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{_text(title)}</title><style>{_STYLE}</style></head>\n<body>\n'
        + '\n'.join(parts)
        + '\n</body></html>\n'
    )


def _verdict(summary: Mapping[str, Any]) -> str:
    if not summary:
        return '<p><span class="verdict">no verdict was recorded</span></p>'
    verdict = str(summary.get('verdict', ''))
    kind = 'good' if summary.get('succeeded') else 'bad'
    said = [summary['reason']] if summary.get('reason') else []
    if summary.get('measure') is not None:
        for key, name in (
            ('paper_criterion', "the paper's criterion"),
            ('strict_criterion', 'the stricter one'),
        ):
            said.append(f'{name} {"met" if summary.get(key) else "not met"}')
        said.append(f'{summary["measure"] * 100:.1f} cm')
    if summary.get('duration'):
        said.append(f'{summary["duration"]:.0f} s from goal to verdict')
    return f'<p><span class="verdict {kind}">{_text(verdict)}</span> {_text(", ".join(said))}</p>'


def _pictures(run: RecordedRun) -> str:
    pictures = dict(run.pictures)
    goal = run.plans[-1].goal
    if isinstance(goal, PictureGoal):
        pictures['goal'] = goal.image
    first = run.plans[0].picture
    if 'start' not in pictures and first is not None:
        pictures['start'] = first
    shown = [_figure(pictures[name], caption) for name, caption in _PICTURES if name in pictures]
    return f'<div class="pictures">{"".join(shown)}</div>'


def _plans(plans: Sequence[RecordedPlan]) -> str:
    rows = []
    for number, plan in enumerate(plans, 1):
        terms = ', '.join(f'{name} {value:.3g}' for name, value in plan.terms.items())
        rows.append(
            (
                number,
                f'{plan.preset.name}, seed {plan.seed}, {len(plan.waypoints)} waypoint(s)',
                plan.outcome,
                f'{plan.costs[-1]:.4f}' if plan.costs else '',
                terms,
                f'{plan.seconds.get("total", 0.0):.1f} s',
            )
        )
    return _table(rows, ('', 'how', 'ended', 'cost', 'its terms', 'took'))


def _kind(goal: Goal | None) -> str:
    return 'keypoints' if isinstance(goal, KeypointGoal) else 'a picture'


def _provenance(run: RecordedRun, started: Mapping[str, Any]) -> str:
    last = run.plans[-1]
    rows: list[tuple[Any, ...]] = [
        ('recording', f'{run.path}, {run.seconds:.1f} s'),
        ('goal', f'{last.goal_name or _kind(last.goal)}, SHA-256 {last.goal_digest[:_DIGITS]}…'),
        ('checkpoint', f'SHA-256 {last.checkpoint_digest[:_DIGITS]}…'),
    ]
    if run.setup is not None:
        compute = run.setup.compute
        rows += [
            ('model', run.setup.model),
            ('computed on', f'{compute.processor} ({compute.device}), {compute.threads} threads'),
            ('versions', f'dexwm {compute.dexwm}, PyTorch {compute.torch}'),
        ]
    for key in ('started', 'git_commit', 'platform'):
        if started.get(key):
            rows.append((key.replace('_', ' '), started[key]))
    page = _table(rows)
    details = {
        'arguments of the run': started.get('arguments'),
        "the planner's parameters": None if run.setup is None else dict(run.setup.parameters),
        'parameters of the nodes that the run set': {
            node['name']: {k: v for k, v in node['parameters'].items() if len(str(v)) < 1000}
            for node in started.get('nodes', ())
        },
    }
    for name, content in details.items():
        if content:
            text = _text(json.dumps(content, indent=2))
            page += f'<details><summary>{_text(name)}</summary><pre>{text}</pre></details>'
    return page


def _table(rows: Iterable[Sequence[Any]], head: Sequence[str] = ()) -> str:
    text = '<table>'
    if head:
        text += '<tr>' + ''.join(f'<th>{_text(cell)}</th>' for cell in head) + '</tr>'
    for row in rows:
        text += '<tr>' + ''.join(f'<td>{_text(str(cell))}</td>' for cell in row) + '</tr>'
    return text + '</table>'


def _figure(picture: NDArray[np.uint8], caption: str) -> str:
    _, png = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return (
        f'<figure><img src="{_data_url(png.tobytes())}" alt="{_text(caption)}">'
        f'<figcaption>{_text(caption)}</figcaption></figure>'
    )


def _plot(png: bytes, caption: str) -> str:
    return f'<p><img class="plot" src="{_data_url(png)}" alt="{_text(caption)}"></p>'


def _data_url(png: bytes) -> str:
    return f'data:image/png;base64,{base64.b64encode(png).decode()}'


def _text(value: str) -> str:
    return html.escape(value)
