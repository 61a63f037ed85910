import numpy as np
import pytest

from dexwm.data.episode import DatasetError
from dexwm.data.windows import WindowSampler, evaluation_windows


def draws(sampler, length, fps, segment, count=200):
    return np.stack(
        [
            sampler.draw(length, fps, segment, np.random.default_rng([count, i]))
            for i in range(count)
        ]
    )


def test_windows_as_in_the_paper():
    windows = draws(WindowSampler(), length=300, fps=30.0, segment=7)
    assert windows.shape == (200, 9)
    assert (np.diff(windows, axis=1) > 0).all()
    assert windows[:, -1].min() >= 210 and windows[:, -1].max() < 240
    assert len(np.unique(windows[:, -1])) > 20
    back = windows[:, -1:] - windows[:, :-1]
    assert back.max() <= 120 and back.max() > 110 and back.min() == 1
    # Each of the 120 earlier frames is as likely as any other.
    many = draws(WindowSampler(), 300, 30.0, 9, 3000)
    shares = np.bincount((many[:, -1:] - many[:, :-1]).ravel(), minlength=121)[1:]
    assert abs(shares[:60].sum() / shares.sum() - 0.5) < 0.02


def test_segments_cover_every_frame_once():
    sampler = WindowSampler()
    for length in (7, 10, 23, 80):
        lasts = [set(draws(sampler, length, 5.0, s, 60)[:, -1]) for s in range(10)]
        assert set.union(*lasts) == set(range(length))
        if length >= 10:
            assert sum(map(len, lasts)) == length


def test_frame_rates_mix():
    sampler = WindowSampler(max_seconds=4.0)
    for fps in (5.0, 15.0, 30.0):
        windows = draws(sampler, 1000, fps, 9)
        reach = (windows[:, -1] - windows[:, 0]) / fps
        assert reach.max() <= 4.0 and reach.max() > 3.7


def test_short_videos_repeat_the_first_index_on_the_left():
    sampler = WindowSampler()
    np.testing.assert_array_equal(
        sampler.draw(4, 30.0, 9, np.random.default_rng(0)), [0, 0, 0, 0, 0, 0, 1, 2, 3]
    )
    np.testing.assert_array_equal(sampler.draw(1, 30.0, 0, np.random.default_rng(0)), [0] * 9)


@pytest.mark.parametrize('length', [3, 11, 25, 200])
def test_gaps_are_kept(length):
    sampler = WindowSampler(frames=5, min_gap_seconds=0.5, max_seconds=6.0)
    for segment in (0, 4, 9):
        for window in draws(sampler, length, 5.0, segment, 50):
            gaps = np.diff(window)
            assert window.shape == (5,) and window[0] >= 0 and window[-1] < length
            assert ((gaps >= 2) | ((gaps == 0) & (window[1:] == window[0]))).all()
            assert window[-1] - window[0] <= 30


def test_spans_of_all_lengths_make_small_steps_common():
    plain, varied = (WindowSampler(frames=5, max_seconds=6.0, vary_span=v) for v in (False, True))
    spans, small = {}, {}
    for name, sampler in (('plain', plain), ('varied', varied)):
        windows = np.array(draws(sampler, 80, 5.0, 9, 2000))
        assert (np.diff(windows) >= 1).all()
        spans[name] = windows[:, -1] - windows[:, 0]
        small[name] = (np.diff(windows) == 1).mean()
    # 4 of r earlier frames: the first of them is 4 (r + 1) / 5 before the last on average.
    assert spans['plain'].mean() == pytest.approx(4 / 5 * 31, rel=0.02)
    expected = np.mean([4 / 5 * (r + 1) for r in range(4, 31)])
    assert spans['varied'].mean() == pytest.approx(expected, rel=0.03)
    assert spans['varied'].min() == 4 and spans['varied'].max() >= 28
    assert small['varied'] > 2 * small['plain']


@pytest.mark.parametrize('vary_span', [False, True])
def test_whole_windows_repeat_nothing(vary_span):
    plain, whole = (
        WindowSampler(frames=9, max_seconds=5.0, vary_span=vary_span, whole=w)
        for w in (False, True)
    )
    repeated = [(np.diff(w) == 0).any() for s in range(10) for w in draws(plain, 12, 2.5, s, 50)]
    assert np.mean(repeated) > 0.5
    ends = set()
    for segment in range(10):
        for window in draws(whole, 12, 2.5, segment, 50):
            assert (np.diff(window) >= 1).all() and window[0] >= 0 and window[-1] < 12
            ends.add(int(window[-1]))
    assert ends == {8, 9, 10, 11}
    # Gaps are kept.
    wide = WindowSampler(frames=4, min_gap_seconds=0.8, max_seconds=4.0, whole=True)
    assert min(np.diff(w).min() for s in range(10) for w in draws(wide, 12, 2.5, s, 50)) == 2
    # An episode that is too short for one is used as it is.
    np.testing.assert_array_equal(
        whole.draw(4, 2.5, 9, np.random.default_rng(0)), [0, 0, 0, 0, 0, 0, 1, 2, 3]
    )


def test_uniform_windows():
    sampler = WindowSampler(spacing='uniform', frames=9, max_seconds=4.0)
    window = sampler.draw(600, 30.0, 9, np.random.default_rng(0))
    assert set(np.diff(window)) == {15}
    window = sampler.draw(600, 5.0, 9, np.random.default_rng(0))
    assert window[-1] - window[0] == 20 and set(np.diff(window)) == {2, 3}


def test_the_same_seed_gives_the_same_window():
    sampler = WindowSampler()
    a, b, c = (sampler.draw(500, 30.0, 3, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'frames': 1}, 'at least 2 frames'),
        ({'spacing': 'even'}, 'random, uniform'),
        ({'max_seconds': 0.0}, 'must be positive'),
        ({'min_gap_seconds': 1.0}, 'do not fit'),
        ({'vary_span': True, 'spacing': 'uniform'}, "vary_span is for spacing 'random'"),
        ({'whole': True, 'spacing': 'uniform'}, "whole is for spacing 'random'"),
    ],
)
def test_senseless_samplers_are_refused(change, message):
    with pytest.raises(DatasetError, match=message):
        WindowSampler(**change)


def test_evaluation_windows_are_4_s_at_5_hz():
    lengths, fps = [80, 15, 400, 21], [5.0, 5.0, 30.0, 5.0]
    episodes, windows = evaluation_windows(lengths, fps, seed=3, per_episode=2)
    np.testing.assert_array_equal(episodes, [0, 0, 2, 2, 3, 3])
    assert windows.shape == (6, 21)
    for episode, window in zip(episodes, windows, strict=True):
        assert window[0] >= 0 and window[-1] < lengths[episode]
        assert set(np.diff(window)) == {round(0.2 * fps[episode])}
    assert windows[0, 0] < 30 <= windows[1, 0]
    again = evaluation_windows(lengths, fps, seed=3, per_episode=2)[1]
    np.testing.assert_array_equal(windows, again)
    with pytest.raises(DatasetError, match=r'no episode is 4\.0 s long'):
        evaluation_windows([15], [5.0], seed=0)
