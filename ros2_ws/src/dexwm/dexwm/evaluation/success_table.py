"""What trials add up to: success rates and distances of each method, with intervals."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dexwm.evaluation.bootstrap import Estimate, ratio_of_sums
from dexwm.evaluation.closed_loop import Trial
from dexwm.evaluation.errors import EvaluationError
from dexwm.evaluation.json_file import write_json
from dexwm.evaluation.proportion import paired_difference, wilson

FORMAT_VERSION = 2

UNKNOWN_CODE = 'an earlier version'
"""What the code of a trial is called that was made before it was recorded."""


@dataclass(frozen=True)
class MethodRow:
    """One method's figures over all its episodes.

    Attributes:
        method: Its name.
        episodes: How many it attempted.
        success: Rate by the paper's criterion.
        strict_success: Rate by the stricter one.
        strict_end: Rate of those that meet the stricter one at the end too, not only at some time;
            NaN where that was not asked.
        unaided: Rate by the paper's criterion before the closing rule.
        measure: Mean of what the criteria look at, at the end (m).
        start: Mean of each other distance at the start (m).
        end: The same at the end.
        plan_seconds: Median time of all plans (s), as a busy machine makes some plans very long;
            NaN for a method that does not plan.
        ahead: Success rate minus that of the reference in the same episodes; NaN for the
            reference itself.
        strict_ahead: The same of the stricter criterion.
        failures: How many attempts stopped early.
        refused: How many motions were refused; None where nothing was known of that in an attempt.
    """

    method: str
    episodes: int
    success: Estimate
    strict_success: Estimate
    strict_end: Estimate
    unaided: Estimate
    measure: Estimate
    start: dict[str, Estimate]
    end: dict[str, Estimate]
    plan_seconds: float
    ahead: Estimate
    strict_ahead: Estimate
    failures: int
    refused: int | None


@dataclass(frozen=True)
class SuccessTable:
    """The figures of one task.

    Attributes:
        task: The task.
        reference: The method that others are compared with.
        settings: Everything else that the figures depend on.
        rows: One for each method, in the order in which they were asked for.
        code: How many of their trials come from which code, see ``code_version``.
        without_episode: Seeds of which there is no episode, with the reason. They don't count.
    """

    task: str
    reference: str
    settings: dict[str, Any]
    rows: tuple[MethodRow, ...]
    code: dict[str, int]
    without_episode: dict[int, str]

    @classmethod
    def of(
        cls,
        task: str,
        trials: Sequence[Trial],
        methods: Sequence[str],
        seeds: Sequence[int],
        reference: str,
        settings: dict[str, Any],
        without_episode: Mapping[int, str] | None = None,
        holds: Callable[[float], bool] | None = None,
    ) -> SuccessTable:
        """Adds up trials.

        Args:
            task: The task; trials of others, of other methods and of other seeds don't count.
            trials: What was attempted.
            methods: Names of the methods, in order.
            seeds: Of the episodes.
            reference: The method that others are compared with.
            settings: For the record.
            without_episode: Which of the seeds have no episode, with the reason.
            holds: Whether a measure at the end (m) meets the stricter criterion; None: that is
                left out.

        Raises:
            EvaluationError: If a method was not tried on exactly these seeds, once each: rates
                of different episodes can't be compared. Likewise if there is no episode at all.
        """
        without = dict(without_episode or {})
        there = [seed for seed in seeds if seed not in without]
        if not there:
            raise EvaluationError(f'there is no episode of these seeds: {_reasons(without)}')
        by_method = {name: _in_order(task, name, trials, there) for name in dict.fromkeys(methods)}
        base = by_method.get(reference)
        rows = tuple(_row(name, own, base, holds) for name, own in by_method.items())
        code = Counter(trial.code for own in by_method.values() for trial in own)
        return cls(task, reference, settings, rows, dict(code), without)

    def save(self, path: Path) -> None:
        """Writes JSON, whole or not at all; what is not a number becomes null."""
        content = {'format_version': FORMAT_VERSION, **dataclasses.asdict(self)}
        write_json(path, content)

    def to_markdown(self) -> str:
        """Returns a table: rates in %, distances in cm, 95 % intervals in brackets.

        Below it: the code that its trials come from, and what did not count.
        """
        names = [name for row in self.rows[:1] for name in row.end]
        aided = any(row.unaided != row.success for row in self.rows)
        refused = any(row.refused for row in self.rows)
        ends = any(not math.isnan(row.strict_end.value) for row in self.rows)
        header = [
            self.task,
            'success %',
            *(['before the closing rule %'] if aided else []),
            'strict %',
            *(['strict at the end %'] if ends else []),
            'measure cm',
            *(f'{name} cm, start to end' for name in names),
            's/plan, median',
            f'points over {self.reference}',
            f'strict points over {self.reference}',
            'stopped early',
            *(['plans refused'] if refused else []),
        ]
        lines = [header, ['---', *['---:'] * (len(header) - 1)]]
        for row in self.rows:
            lines.append(
                [
                    f'{row.method} (n={row.episodes})',
                    _cell(row.success, 100, 0),
                    *([_cell(row.unaided, 100, 0)] if aided else []),
                    _cell(row.strict_success, 100, 0),
                    *([_cell(row.strict_end, 100, 0)] if ends else []),
                    _cell(row.measure, 100, 1),
                    *(
                        f'{100 * row.start[name].value:.1f} to {100 * row.end[name].value:.1f}'
                        for name in names
                    ),
                    '-' if math.isnan(row.plan_seconds) else f'{row.plan_seconds:.1f}',
                    _cell(row.ahead, 100, 0),
                    _cell(row.strict_ahead, 100, 0),
                    str(row.failures),
                    *(['-' if row.refused is None else str(row.refused)] if refused else []),
                ]
            )
        table = ''.join(f'| {" | ".join(line)} |\n' for line in lines)
        return f'{table}\n{self._footer()}'

    def _footer(self) -> str:
        code = '; '.join(f'{count} by {name or UNKNOWN_CODE}' for name, count in self.code.items())
        footer = f'Trials: {code}.\n'
        if self.without_episode:
            footer += f'Seeds without an episode do not count: {_reasons(self.without_episode)}.\n'
        return footer


def _reasons(without_episode: Mapping[int, str]) -> str:
    return '; '.join(f'{seed} ({reason})' for seed, reason in without_episode.items())


def _in_order(
    task: str, method: str, trials: Sequence[Trial], seeds: Sequence[int]
) -> list[Trial]:
    own = {t.seed: t for t in trials if t.task == task and t.method == method}
    count = sum(t.task == task and t.method == method and t.seed in set(seeds) for t in trials)
    missing = [seed for seed in seeds if seed not in own]
    if missing or count != len(set(seeds)):
        raise EvaluationError(
            f'{method} attempted {count} of the {len(seeds)} episodes'
            + (f', not those of seeds {missing}' if missing else ': some more than once')
        )
    return [own[seed] for seed in seeds]


def _row(
    method: str,
    trials: list[Trial],
    base: list[Trial] | None,
    holds: Callable[[float], bool] | None,
) -> MethodRow:
    compared = trials if base is not None and base is not trials else []
    others = base if base is not None and compared else []
    plan_seconds = [seconds for t in trials for seconds in t.plan_seconds]
    refusals = [t.refusals for t in trials]
    held = [] if holds is None else [holds(t.measure) for t in trials]
    return MethodRow(
        method=method,
        episodes=len(trials),
        success=wilson(sum(t.success for t in trials), len(trials)),
        strict_success=wilson(sum(t.strict_success for t in trials), len(trials)),
        strict_end=wilson(sum(held), len(held)),
        unaided=wilson(sum(t.unaided for t in trials), len(trials)),
        measure=_mean([t.measure for t in trials]),
        start={name: _mean([t.start[name] for t in trials]) for name in trials[0].start},
        end={name: _mean([t.end[name] for t in trials]) for name in trials[0].end},
        plan_seconds=statistics.median(plan_seconds) if plan_seconds else math.nan,
        ahead=paired_difference([t.success for t in compared], [t.success for t in others]),
        strict_ahead=paired_difference(
            [t.strict_success for t in compared], [t.strict_success for t in others]
        ),
        failures=sum(bool(t.failure) for t in trials),
        refused=None if None in refusals else sum(len(each or ()) for each in refusals),
    )


def _mean(values: Sequence[float]) -> Estimate:
    """The mean over episodes, with a bootstrap over them."""
    array = np.array(values, dtype=np.float64)
    return ratio_of_sums(array, np.ones(len(array)), np.arange(len(array)), len(array))


def _cell(estimate: Estimate, scale: float, digits: int) -> str:
    if math.isnan(estimate.value):
        return '-'
    text = f'{scale * estimate.value:.{digits}f}'
    if math.isnan(estimate.low):
        return text
    return f'{text} [{scale * estimate.low:.{digits}f}, {scale * estimate.high:.{digits}f}]'
