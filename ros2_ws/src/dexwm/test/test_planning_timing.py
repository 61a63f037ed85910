"""Where the time of a plan is counted, with a clock that goes on when the work says so."""

import pytest
import torch

from dexwm.planning import timing
from dexwm.planning.timing import PartTimes


class Clock:
    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, 'time', clock)
    return clock


class Work(torch.autograd.Function):
    """Doubles, and takes so long: one way and the other."""

    @staticmethod
    def forward(ctx, x, clock, there, back):
        clock.now += there
        ctx.clock, ctx.back = clock, back
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        ctx.clock.now += ctx.back
        return 2 * gradient, None, None, None


def test_the_innermost_part_counts_and_all_add_up(clock):
    times = PartTimes()
    with times.part('start'):
        clock.now += 1
        with times.part('terms'):
            clock.now += 10
            times.both_ways('kinematics', lambda x: Work.apply(x, clock, 100, 0), torch.ones(2))
        clock.now += 1000
    clock.now += 10_000
    with pytest.raises(RuntimeError), times.part('start'):
        clock.now += 1
        raise RuntimeError
    assert times.seconds == {'start': 1002, 'terms': 10, 'kinematics': 100}


def test_gradients_count_as_what_they_go_through(clock):
    times = PartTimes()
    x = torch.ones(3, requires_grad=True)
    with times.part('optimiser'):
        before = Work.apply(x, clock, 1, 2)
        points = times.both_ways('kinematics', lambda q: Work.apply(q, clock, 10, 20), before)
        # A term looks at the joints too: their gradient comes from two sides.
        costs = Work.apply(points, clock, 100, 200) + Work.apply(before, clock, 1000, 2000)
        (gradient,) = torch.autograd.grad(costs.sum(), x)
    torch.testing.assert_close(gradient, torch.full((3,), 12.0))
    assert times.seconds == {'optimiser': 3303, 'kinematics': 30}
