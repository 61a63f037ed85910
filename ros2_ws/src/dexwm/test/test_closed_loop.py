"""Closed loop: what is counted, intervals, and going on after an interruption.

The world here is arithmetic: a robot that is where it was sent, and a judge of its first joint.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dexwm.evaluation.attempt_strip import attempt_strip
from dexwm.evaluation.closed_loop import Motion, PlanningMethod, Trial, attempt_episode
from dexwm.evaluation.errors import EvaluationError
from dexwm.evaluation.proportion import wilson
from dexwm.evaluation.success_table import SuccessTable
from dexwm.evaluation.trial_log import TrialLog
from dexwm.planning.closing import ClosingRule
from dexwm.planning.errors import PlanningError
from dexwm.planning.goal import PictureGoal
from dexwm.planning.mpc import PlantError
from dexwm.planning.preset import PRESETS

PICTURE = np.random.default_rng(0).integers(0, 255, (18, 32, 3), np.uint8)


class Line:
    """A robot whose distance from the goal is what its first joint says."""

    goal = PictureGoal(PICTURE)

    def __init__(self):
        self.motions, self.pictures, self.at = [], [PICTURE], 1.0

    def observe(self):
        raise AssertionError('these methods do not look')

    def execute(self, waypoints, what):
        if not np.isfinite(waypoints).all():
            raise PlantError('not finite')
        self.at = abs(float(waypoints[-1][0]))
        self.motions.append(Motion(what, self.at < 0.15, self.at < 0.05, self.at))
        self.pictures.append(PICTURE)

    def rest(self):
        self.execute(np.full((1, 23), self.at), 'rest')

    def distances(self):
        return {'hand': self.at}


class Steps:
    """Goes through positions; a string among them ends it with that error."""

    def __init__(self, *positions, name='steps', digest='a'):
        self.positions, self.name, self.digest = positions, name, digest

    def run(self, attempt, task, seed, on_plan):
        for position in self.positions:
            if isinstance(position, str):
                raise PlanningError(position)
            attempt.execute(np.full((1, 23), position), f'to {position}')


def trial(seed, success=False, method='m', strict=False, measure=0.2, digest='a', **changes):
    motions = (Motion('x', success, strict, measure),)
    values = dict(
        task='reach', method=method, digest=digest, seed=seed, success=success,
        strict_success=strict, unaided=success, measure=measure, start={'hand': 0.5},
        end={'hand': measure}, motions=motions, plan_seconds=(1.0, 2.0), first_costs=(3.0, 2.0),
        last_costs=(2.0, 1.0), seconds=4.0, failure='',
    )  # fmt: skip
    return Trial(**{**values, **changes})


def test_success_at_any_time_counts_and_the_measure_is_the_last():
    done = attempt_episode(Line(), Steps(0.5, 0.1, 0.3), 'reach', 7)
    assert (done.success, done.strict_success, done.measure) == (True, False, 0.3)
    assert done.start == {'hand': 1.0}
    assert done.end == {'hand': 0.3}
    assert [m.success for m in done.motions] == [False, True, False]
    assert not attempt_episode(Line(), Steps(0.5, 0.3), 'reach', 7).success


def test_what_stops_a_method_is_noted_and_judged():
    done = attempt_episode(Line(), Steps(0.1, 'no candidate'), 'reach', 7)
    assert done.success
    assert done.failure == 'no candidate'
    done = attempt_episode(Line(), Steps(0.4, math.nan), 'reach', 7)
    assert not done.success
    assert done.failure == 'not finite'
    nothing = attempt_episode(Line(), Steps('at once'), 'reach', 7)
    assert (nothing.success, nothing.measure) == (False, 1.0)


@pytest.mark.parametrize(('successes', 'count'), [(0, 10), (3, 10), (25, 50), (50, 50), (1, 1)])
def test_wilson_bounds_are_where_the_score_test_rejects(successes, count):
    estimate = wilson(successes, count)
    rate = successes / count
    assert estimate.value == rate
    assert 0 <= estimate.low <= rate <= estimate.high <= 1
    # Both bounds p solve (rate - p)^2 = z^2 p (1 - p) / n.
    a = 1.96**2 / count
    expected = np.sort(np.roots([1 + a, -(2 * rate + a), rate**2]).real)
    np.testing.assert_allclose([estimate.low, estimate.high], expected, atol=1e-4)


def test_wilson_refuses_and_handles_nothing():
    assert math.isnan(wilson(0, 0).value)
    with pytest.raises(EvaluationError, match='5 successes in 4'):
        wilson(5, 4)


def test_table_compares_the_same_episodes():
    seeds = [3, 4, 5, 6]
    trials = [trial(s, success=s != 3, method='model', measure=s / 100) for s in seeds]
    trials += [trial(s, success=s == 5, method='keypoints') for s in reversed(seeds)]
    trials += [trial(s, task='grasp', method='model') for s in seeds]
    table = SuccessTable.of('reach', trials, ['model', 'keypoints'], seeds, 'keypoints', {})
    model, keypoints = table.rows
    assert (model.success.value, keypoints.success.value) == (0.75, 0.25)
    assert model.success.low == wilson(3, 4).low
    assert model.measure.value == pytest.approx(0.045)
    # Ahead in seeds 4 and 6, equal in 3 and 5.
    assert model.ahead.value == 0.5
    assert 0 <= model.ahead.low < 0.5 < model.ahead.high <= 1
    assert math.isnan(keypoints.ahead.value)
    assert model.plan_seconds.value == 1.5
    text = table.to_markdown()
    assert '| model (n=4) | 75 [30, 95] |' in text
    assert len({line.count('|') for line in text.splitlines()}) == 1
    assert 'closing rule' not in text
    aided = trial(1, success=True, unaided=False)
    text = SuccessTable.of('reach', [aided], ['m'], [1], 'keypoints', {}).to_markdown()
    assert '| success % | before the closing rule % |' in text
    assert '| 100 [21, 100] | 0 [0, 79] |' in text


def test_table_is_saved_without_nan(tmp_path):
    table = SuccessTable.of('reach', [trial(1)], ['m'], [1], 'keypoints', {'a': 1})
    table.save(tmp_path / 'table.json')
    read = json.loads((tmp_path / 'table.json').read_text())
    assert read['rows'][0]['ahead']['value'] is None
    assert read['settings'] == {'a': 1}


@pytest.mark.parametrize('trials', [[trial(1)], [trial(1), trial(2), trial(2)]])
def test_table_refuses_other_episodes(trials):
    with pytest.raises(EvaluationError, match=r'm attempted'):
        SuccessTable.of('reach', trials, ['m'], [1, 2], 'keypoints', {})


def test_log_gives_back_what_was_written(tmp_path):
    log = TrialLog(tmp_path / 'trials.jsonl')
    assert log.read() == []
    written = [trial(1), trial(2, failure='why', plan_seconds=())]
    for each in written:
        log.append(each)
    assert log.read() == written


def test_log_survives_a_line_that_was_cut_off(tmp_path):
    log = TrialLog(tmp_path / 'trials.jsonl')
    log.append(trial(1))
    log.append(trial(2))
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[:-30])
    assert log.read() == [trial(1)]
    log.append(trial(3))
    assert log.read() == [trial(1), trial(3)]


def test_log_says_what_is_left(tmp_path):
    log = TrialLog(tmp_path / 'trials.jsonl')
    a, b = Steps(name='a', digest='1'), Steps(name='b', digest='2')
    log.append(trial(1, method='a', digest='1'))
    log.append(trial(2, method='a', digest='1'))
    log.append(trial(2, method='b', digest='2'))
    assert log.pending([a, b], [1, 2, 3]) == {1: ['b'], 3: ['a', 'b']}
    with pytest.raises(EvaluationError, match="trials of 'a' with another model"):
        log.pending([Steps(name='a', digest='other')], [1])


def test_log_refuses_what_is_no_trial(tmp_path):
    path = Path(tmp_path / 'trials.jsonl')
    path.write_text('{"task": "reach"}\n')
    with pytest.raises(EvaluationError, match='line 1'):
        TrialLog(path).read()


class FakePlanner:
    """Only what a method's name and digest are made of."""

    def __init__(self, preset, checkpoint_digest):
        self.preset, self.checkpoint_digest = preset, checkpoint_digest


def test_method_digest_follows_preset_closing_and_checkpoint():
    cpu = PRESETS['cpu']
    digests = [
        PlanningMethod(FakePlanner(preset, checkpoint), closing).digest
        for preset, checkpoint, closing in [
            (cpu, 'x', None),
            (replace(cpu, samples=65), 'x', None),
            (cpu, 'y', None),
            (cpu, 'x', ClosingRule()),
        ]
    ]
    assert len(set(digests)) == 4
    assert digests[0] == PlanningMethod(FakePlanner(cpu, 'x')).digest


def test_strip_shows_goal_start_and_motions():
    strip = attempt_strip(PICTURE, [PICTURE, PICTURE, PICTURE], [], 1)
    np.testing.assert_array_equal(strip, np.tile(PICTURE, (1, 4, 1)))
