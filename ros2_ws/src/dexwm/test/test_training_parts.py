"""Schedule, moving average, arithmetic, log and state of a training."""

import json
import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dexwm.training import state
from dexwm.training.ema import MovingAverage
from dexwm.training.engine import EngineError, choose_device
from dexwm.training.flops import count_flops, measure_peak_flops
from dexwm.training.metrics_log import FILE, MetricsLog
from dexwm.training.schedule import one_cycle


def test_the_schedule_is_torchs_one_cycle_without_a_rise():
    parameter = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter])
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 1e-4, 50, pct_start=0.0, div_factor=1.0, final_div_factor=1e3
    )
    for step in range(50):
        assert one_cycle(step, 50, 1e-4, 1e-7) == pytest.approx(optimiser.param_groups[0]['lr'])
        optimiser.step()
        if step < 49:
            scheduler.step()


def test_the_warm_up_rises_to_the_peak_and_the_last_step_is_the_final_rate():
    rates = [one_cycle(step, 20, 1.0, 0.1, warmup=4) for step in range(20)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert max(rates) < 1 and rates[4] > 0.99
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] == pytest.approx(0.1)


def test_the_moving_average_follows_its_formula():
    parameter = torch.tensor([1.0, 2.0])
    average = MovingAverage([parameter], 0.9)
    expected = parameter.clone()
    for n in range(1, 800):
        parameter += 0.01
        average.update()
        decay = min(0.9, n / (n + 50))
        expected = decay * expected + (1 - decay) * parameter
    own = parameter.clone()
    with average.applied():
        torch.testing.assert_close(parameter, expected)
    torch.testing.assert_close(parameter, own, rtol=0, atol=0)


def test_the_moving_average_goes_on_where_another_stood():
    values = [torch.randn(3, generator=torch.Generator().manual_seed(0))]
    average = MovingAverage(values, 0.99)
    average.update()
    values[0] += 1.0
    average.update()
    other = MovingAverage(values, 0.99)
    other.load_state_dict(average.state_dict())
    for each in (average, other):
        each.update()
    with average.applied():
        first = values[0].clone()
    with other.applied():
        torch.testing.assert_close(values[0], first, rtol=0, atol=0)


def test_flops_of_products_and_attention_are_counted_forward_and_backward():
    linear, x = nn.Linear(8, 16), torch.randn(4, 8, requires_grad=True)
    assert count_flops(lambda: linear(x)) == 2 * 4 * 8 * 16
    assert count_flops(lambda: linear(x).sum().backward()) == 3 * 2 * 4 * 8 * 16
    q = torch.randn(2, 3, 5, 7)
    attention = nn.functional.scaled_dot_product_attention
    assert count_flops(lambda: attention(q, q, q)) == 2 * 2 * (2 * 3 * 5 * 5 * 7)


def test_the_peak_is_a_rate():
    peak = measure_peak_flops(torch.device('cpu'), torch.float32, size=64)
    assert 1e6 < peak < 1e14


def test_the_log_has_every_step_once_after_a_resumption(tmp_path):
    with MetricsLog(tmp_path) as log:
        for step in range(1, 6):
            log.write(step, 'train', {'loss': 1.0 / step})
    # A process that was killed in the middle of a line.
    with (tmp_path / FILE).open('a') as file:
        file.write('{"step": 6, "gro')
    with MetricsLog(tmp_path, resume_at=3) as log:
        log.write(4, 'train', {'loss': 0.5})
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [line['step'] for line in lines] == [1, 2, 3, 4]
    assert lines[-1] == {'step': 4, 'group': 'train', 'loss': 0.5}
    assert list(tmp_path.glob('events.out.tfevents.*'))


def test_a_state_comes_back(tmp_path):
    assert state.read_state(tmp_path) is None
    state.write_state(tmp_path, {'step': 3, 'weights': torch.ones(2)})
    found = state.read_state(tmp_path)
    assert found['step'] == 3 and torch.equal(found['weights'], torch.ones(2))


def test_a_full_disk_leaves_the_old_state_whole(tmp_path):
    state.write_state(tmp_path, {'step': 3})
    before = (tmp_path / state.FILE).read_bytes()
    # The limit holds for a process and what it writes from then on.
    script = (
        'import resource, signal, sys, torch\n'
        'from pathlib import Path\n'
        'from dexwm.training.state import StateError, write_state\n'
        'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n'
        'try:\n'
        '    write_state(Path(sys.argv[1]), {"step": 4, "weights": torch.randn(1_000_000)})\n'
        'except StateError as error:\n'
        '    print(error)\n'
    )
    result = subprocess.run(
        [sys.executable, '-c', script, str(tmp_path)], capture_output=True, text=True
    )
    assert 'cannot be written' in result.stdout, result.stderr
    assert 'the state before it is whole' in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == [state.FILE]
    assert (tmp_path / state.FILE).read_bytes() == before
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000


def test_a_damaged_state_and_one_of_another_version_are_refused(tmp_path, monkeypatch):
    state.write_state(tmp_path, {'step': 3})
    path = tmp_path / state.FILE
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(state.StateError, match=r'cannot be read .*--restart'):
        state.read_state(tmp_path)
    monkeypatch.setattr(state, '_FORMAT_VERSION', 99)
    state.write_state(tmp_path, {'step': 3})
    monkeypatch.undo()
    with pytest.raises(state.StateError, match='format version 99'):
        state.read_state(tmp_path)


def test_the_device_is_chosen_or_refused(monkeypatch):
    monkeypatch.setattr(torch, 'cuda', SimpleNamespace(is_available=lambda: False))
    assert choose_device('auto') == choose_device('cpu') == 'cpu'
    with pytest.raises(EngineError, match='no CUDA device'):
        choose_device('cuda')
    monkeypatch.setattr(torch, 'cuda', SimpleNamespace(is_available=lambda: True))
    assert choose_device('auto') == choose_device('cuda') == 'cuda'
