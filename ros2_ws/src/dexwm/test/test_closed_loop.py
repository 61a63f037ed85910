"""Closed loop: what is counted, intervals, and going on after an interruption.

The world here is arithmetic: a robot that is where it was sent, and a judge of its first joint.
"""

import json
import math
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dexwm.evaluation.attempt_strip import attempt_strip
from dexwm.evaluation.closed_loop import Motion, PlanningMethod, Trial, attempt_episode
from dexwm.evaluation.code_version import code_version
from dexwm.evaluation.errors import EvaluationError
from dexwm.evaluation.proportion import paired_difference, wilson
from dexwm.evaluation.success_table import SuccessTable
from dexwm.evaluation.trial_log import TrialLog
from dexwm.planning.closing import ClosingRule
from dexwm.planning.errors import PlanningError
from dexwm.planning.goal import PictureGoal
from dexwm.planning.mpc import MotionRefused, PlantError, run_task
from dexwm.planning.preset import PRESETS

from .planning_scene import deep_model, observation, picture_goal, planner

PICTURE = np.random.default_rng(0).integers(0, 255, (18, 32, 3), np.uint8)


class Line:
    """A robot whose distance from the goal is what its first joint says."""

    goal = PictureGoal(PICTURE)

    def __init__(self):
        self.motions, self.refusals, self.pictures, self.at = [], [], [PICTURE], 1.0

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


class Picky(Line):
    """Refuses some of the motions that it is sent, by their number."""

    goal = picture_goal()

    def __init__(self, *refused):
        super().__init__()
        self.refused, self.sent = refused, 0

    def observe(self):
        return observation()

    def execute(self, waypoints, what):
        self.sent += 1
        if self.sent in self.refused:
            self.refusals.append(f'{what}: into the counter')
            raise MotionRefused(self.refusals[-1])
        self.at = 0.1 if what in ('closing the hand', 'lifting') else 0.5
        self.motions.append(Motion(what, self.at < 0.15, False, self.at))


class Grasp:
    """Two plans and the closing rule, with a model that knows nothing."""

    name, digest = 'grasp', 'g'

    def __init__(self, robot):
        self._planner = planner(deep_model(), robot, replans=2)

    def run(self, attempt, task, seed, on_plan):
        rule = ClosingRule(height=0.05)
        goal = attempt.goal
        run_task(self._planner, attempt, goal, task=task, seed=seed, closing=rule, on_plan=on_plan)


def test_refused_plans_are_counted_and_take_no_motion_from_the_closing_rule(model):
    method = Grasp(model)
    done = attempt_episode(Picky(2), method, 'grasp', 0, code='v1')
    # Three plans, one of them refused: what the closing rule reached is still its own.
    assert len(done.plan_seconds) == 3 and len(done.motions) == 4
    assert done.refusals == ('grasp, plan 2 of 2: into the counter',)
    assert (done.success, done.unaided, done.failure, done.code) == (True, False, '', 'v1')
    held = attempt_episode(Picky(1, 2, 3), method, 'grasp', 0)
    assert [motion.what for motion in held.motions] == ['rest']
    assert len(held.refusals) == 3
    assert held.failure == held.refusals[-1]
    unclosed = attempt_episode(Picky(3), method, 'grasp', 0)
    assert unclosed.failure == 'closing the hand: into the counter'
    assert len(unclosed.motions) == 2


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


@pytest.mark.parametrize(
    ('cells', 'low', 'high'),
    [
        # Newcombe (1998), method 10; Altman et al., Statistics with Confidence (2000), table 6.2;
        # Fagerland, Lydersen and Laake (2014), airway hyper-responsiveness.
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((14, 5, 0, 22), 0.011, 0.226),
        ((1, 1, 7, 12), -0.507, -0.026),
    ],
)
def test_paired_differences_are_the_published_ones(cells, low, high):
    both, first, second, neither = cells
    a = [True] * (both + first) + [False] * (second + neither)
    b = [True] * both + [False] * first + [True] * second + [False] * neither
    estimate = paired_difference(a, b)
    assert estimate.value == pytest.approx((first - second) / sum(cells))
    digits = 5e-4 if cells[1] != 12 else 5e-5
    assert [estimate.low, estimate.high] == pytest.approx([low, high], abs=digits)
    turned = paired_difference(b, a)
    assert [-turned.high, -turned.low] == pytest.approx([estimate.low, estimate.high])


def test_pairs_that_agree_are_not_certain():
    for outcomes in ([True] * 50, [False] * 50, [True] * 34 + [False] * 16):
        estimate = paired_difference(outcomes, outcomes)
        assert estimate.value == 0
        assert -0.1 < estimate.low < -0.03
        assert estimate.high == pytest.approx(-estimate.low)
    certain = paired_difference([True] * 50, [False] * 50)
    assert certain.value == certain.high == 1
    assert 0.85 < certain.low < 0.95
    assert math.isnan(paired_difference([], []).value)
    with pytest.raises(EvaluationError, match='2 trials cannot be paired with 1'):
        paired_difference([True, False], [True])


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
    won = [t.success for t in trials[:4]]
    assert model.ahead == paired_difference(won, [False, False, True, False])
    assert math.isnan(keypoints.ahead.value)
    assert model.plan_seconds == 1.5
    text = table.to_markdown()
    assert '| model (n=4) | 75 [30, 95] |' in text
    assert len({line.count('|') for line in text.splitlines() if line.startswith('|')}) == 1
    assert 'closing rule' not in text
    aided = trial(1, success=True, unaided=False)
    text = SuccessTable.of('reach', [aided], ['m'], [1], 'keypoints', {}).to_markdown()
    assert '| success % | before the closing rule % |' in text
    assert '| 100 [21, 100] | 0 [0, 79] |' in text


def test_table_says_what_holds_at_the_end():
    trials = [trial(s, measure=m) for s, m in ((1, 0.04), (2, 0.06), (3, 0.01), (4, 0.05))]
    holds = lambda measure: measure < 0.05  # noqa: E731
    table = SuccessTable.of('reach', trials, ['m'], [1, 2, 3, 4], 'm', {}, holds=holds)
    assert table.rows[0].strict_end == wilson(2, 4)
    assert '| strict % | strict at the end % | measure cm |' in table.to_markdown()
    without = SuccessTable.of('reach', trials, ['m'], [1, 2, 3, 4], 'm', {})
    assert 'at the end' not in without.to_markdown()


def test_one_long_plan_does_not_make_a_method_slow():
    trials = [trial(1, plan_seconds=(3.0, 191.0)), trial(2, plan_seconds=(4.0,))]
    trials.append(trial(3, plan_seconds=()))
    table = SuccessTable.of('reach', trials, ['m'], [1, 2, 3], 'keypoints', {})
    assert table.rows[0].plan_seconds == 4.0
    assert '| s/plan, median |' in table.to_markdown()


def test_table_says_what_was_refused_and_by_which_code():
    trials = [
        trial(1, code='dexwm 1, commit a', refusals=('x', 'y')),
        trial(2, code='dexwm 1, commit b', refusals=()),
        trial(1, method='old'),
        trial(2, method='old'),
    ]
    table = SuccessTable.of('reach', trials, ['m', 'old'], [1, 2], 'keypoints', {})
    assert [row.refused for row in table.rows] == [2, None]
    lines = table.to_markdown().splitlines()
    assert [line.split('|')[-2].strip() for line in lines[:1] + lines[2:4]] == [
        'plans refused', '2', '-',
    ]  # fmt: skip
    assert lines[-1] == (
        'Trials: 1 by dexwm 1, commit a; 1 by dexwm 1, commit b; 2 by an earlier version.'
    )
    text = SuccessTable.of('reach', [trial(1, refusals=())], ['m'], [1], 'm', {}).to_markdown()
    assert 'refused' not in text


def test_table_leaves_out_seeds_without_an_episode():
    none = {2: 'the expert fails'}
    table = SuccessTable.of('reach', [trial(1), trial(3)], ['m'], [1, 2, 3], 'm', {}, none)
    assert table.rows[0].episodes == 2
    assert '2 (the expert fails)' in table.to_markdown()
    with pytest.raises(EvaluationError, match=r'no episode of these seeds: 2 \(the expert fails'):
        SuccessTable.of('reach', [], ['m'], [2], 'm', {}, none)


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
    written = [
        trial(1),
        trial(2, failure='why', plan_seconds=()),
        trial(3, refusals=('the counter',), code='dexwm 1'),
    ]
    for each in written:
        log.append(each)
    assert log.read() == written


def test_log_reads_trials_from_before_refusals_and_code(tmp_path):
    log = TrialLog(tmp_path / 'trials.jsonl')
    log.append(trial(1, refusals=(), code='dexwm 1'))
    values = json.loads(log.path.read_text())
    del values['refusals'], values['code']
    log.path.write_text(json.dumps(values) + '\n')
    assert log.read() == [trial(1)]


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


def test_code_is_told_by_commit_and_by_what_is_not_committed(tmp_path):
    def git(*arguments):
        who = ('-c', 'user.name=n', '-c', 'user.email=e')
        subprocess.run(['git', '-C', tmp_path, *who, *arguments], check=True, capture_output=True)

    sources = tmp_path / 'src'
    sources.mkdir()
    (sources / 'a.py').write_text('weight = 1\n')
    (tmp_path / 'notes.md').write_text('notes\n')
    bare = code_version(sources)
    assert bare.startswith('dexwm ') and 'commit' not in bare
    git('init')
    git('add', '.')
    git('commit', '-m', 'first')
    clean = code_version(sources)
    assert clean.startswith(f'{bare}, commit ') and 'dirty' not in clean
    (tmp_path / 'notes.md').write_text('other notes\n')
    assert code_version(sources) == clean
    edited = []
    for weight in (2, 3):
        (sources / 'a.py').write_text(f'weight = {weight}\n')
        edited.append(code_version(sources))
    assert all(each.startswith(f'{clean}, dirty ') for each in edited)
    assert edited[0] != edited[1]
    git('commit', '-a', '-m', 'second')
    assert 'dirty' not in code_version(sources) != clean
