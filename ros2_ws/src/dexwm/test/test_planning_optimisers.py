"""Optimisers on costs whose minimum is known."""

import pytest
import torch

from dexwm.planning.errors import PlanningError
from dexwm.planning.optimisers.cem import Cem
from dexwm.planning.optimisers.first_mean import FirstMean
from dexwm.planning.optimisers.gradient import Gradient
from dexwm.planning.optimisers.icem import Icem, coloured
from dexwm.planning.optimisers.mppi import Mppi
from dexwm.planning.optimisers.optimiser import Interrupted, Problem
from dexwm.planning.optimisers.random_choice import RandomChoice

STEPS = 2
OPTIMISERS = {
    'cem': Cem(128, 25, 12, 0.02),
    'icem': Icem(128, 25, 12, 0.02),
    'mppi': Mppi(128, 25, 12, 0.02),
    'gradient': Gradient(3, 60),
}


def goal():
    # Half of it beyond the limits.
    return torch.linspace(-0.4, 0.9, 23).expand(STEPS, 23)


def quadratic(joints):
    return (joints - goal()).square().mean(dim=(1, 2))


def problem(cost=quadratic, limit=0.6):
    return Problem(
        cost,
        torch.zeros(STEPS, 23),
        torch.full((STEPS, 23), 0.3),
        torch.full((23,), -limit),
        torch.full((23,), limit),
    )


def run(optimiser, of, seed=0, on_iteration=lambda _: None, should_stop=lambda: False):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return optimiser.optimise(of, generator, on_iteration, should_stop)


@pytest.mark.parametrize('name', OPTIMISERS)
def test_the_minimum_inside_the_limits_is_found(name):
    iterations = []
    solution = run(OPTIMISERS[name], problem(), on_iteration=iterations.append)
    best = quadratic(goal().clamp(-0.6, 0.6)[None])[0]
    start = quadratic(torch.zeros(1, STEPS, 23))[0]
    assert solution.joints.shape == (STEPS, 23) and solution.joints.abs().max() <= 0.6
    assert best <= solution.cost < best + 0.2 * (start - best)
    torch.testing.assert_close(quadratic(solution.joints[None])[0].item(), solution.cost)
    assert not solution.stopped
    assert solution.costs == tuple(i.best_cost for i in iterations)
    assert list(solution.costs) == sorted(solution.costs, reverse=True)
    assert [i.iteration for i in iterations] == list(range(len(iterations)))
    if name != 'gradient':
        assert iterations[-1].spread < 0.5 * iterations[0].spread


@pytest.mark.parametrize('name', OPTIMISERS)
def test_the_seed_decides(name):
    def course(seed):
        means = []
        joints = run(OPTIMISERS[name], problem(), seed, lambda i: means.append(i.mean_cost)).joints
        return joints, means

    first, again, other = course(1), course(1), course(2)
    assert torch.equal(first[0], again[0]) and first[1] == again[1]
    assert first[1] != other[1]


@pytest.mark.parametrize('name', OPTIMISERS)
def test_candidates_that_cannot_be_judged_are_never_chosen(name):
    def holes(joints):
        cost = quadratic(joints)
        # The better side of the first joint, and beyond all that the mean would lead to.
        return torch.where(joints[:, 0, 0] < -0.1, torch.nan, cost)

    solution = run(OPTIMISERS[name], problem(holes))
    assert solution.joints[0, 0] >= -0.1
    # A gradient that leads to the edge stays there.
    part = 0.8 if name == 'gradient' else 0.3
    assert solution.cost < part * quadratic(torch.zeros(1, STEPS, 23))[0]


@pytest.mark.parametrize('name', OPTIMISERS)
def test_only_nan_is_an_error_that_says_so(name):
    with pytest.raises(PlanningError, match=r'none of .* candidates can be judged.*nan'):
        run(OPTIMISERS[name], problem(lambda joints: quadratic(joints) * torch.nan))


@pytest.mark.parametrize('name', OPTIMISERS)
@pytest.mark.parametrize('after', [0, 1, 3])
def test_the_best_so_far_survives_an_interruption(name, after):
    calls = []

    def interrupted(joints):
        if len(calls) == after:
            raise Interrupted
        costs = quadratic(joints)
        calls.append(costs.min().item())
        return costs

    solution = run(OPTIMISERS[name], problem(interrupted))
    assert solution.stopped and len(solution.costs) == after
    if after:
        assert solution.cost == min(calls)
    else:
        assert torch.equal(solution.joints, torch.zeros(STEPS, 23))


@pytest.mark.parametrize('name', OPTIMISERS)
def test_a_stop_is_obeyed_before_the_next_iteration(name):
    seen = []
    solution = run(
        OPTIMISERS[name], problem(), on_iteration=seen.append, should_stop=lambda: len(seen) == 2
    )
    assert solution.stopped and len(seen) == 2


def test_the_mean_is_a_candidate_and_the_spread_has_a_floor():
    spreads, means = [], []

    def flat(joints):
        means.append(joints[0])
        return joints.square().sum(dim=(1, 2))

    run(Cem(64, 30, 2, 0.25), problem(flat), on_iteration=lambda i: spreads.append(i.spread))
    assert torch.equal(means[0], torch.zeros(STEPS, 23))
    # The minimum is the first mean: it stays the best.
    assert min(spreads) >= 0.25 * 0.3 - 1e-6


def test_icem_samples_less_and_less_and_keeps_elites():
    counts = []

    def counting(joints):
        counts.append(len(joints))
        return quadratic(joints)

    run(Icem(100, 6, 10, 0.02), problem(counting))
    assert counts == [100, 80 + 3, 64 + 3, 51 + 3, 41 + 3, 33 + 3]


@pytest.mark.parametrize('steps', [2, 3, 8])
def test_coloured_noise_is_smoother_and_of_unit_variance(steps):
    white = torch.randn(4000, steps, 5, generator=torch.Generator().manual_seed(0))
    noise = coloured(white, 2.0)
    torch.testing.assert_close(noise.var(), torch.tensor(1.0), atol=0.05, rtol=0)
    neighbours = (noise[:, 1:] * noise[:, :-1]).mean()
    assert neighbours > 0.1 > (white[:, 1:] * white[:, :-1]).mean().abs()
    assert torch.equal(coloured(white, 0.0), white)


def test_random_choice_is_one_draw():
    calls = []

    def counting(joints):
        calls.append(len(joints))
        return quadratic(joints)

    solution = run(RandomChoice(), problem(counting))
    assert calls == [1] and solution.joints.std() > 0.1


def test_no_optimisation_takes_the_first_mean_inside_the_limits():
    asked = problem()
    solution = run(FirstMean(), asked)
    torch.testing.assert_close(solution.joints, asked.clamp(asked.mean), rtol=0, atol=0)
    assert solution.costs == (pytest.approx(float(asked.cost(solution.joints[None]))),)
