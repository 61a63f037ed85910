import numpy as np
import pytest

from dexwm.data.episode import DatasetError
from dexwm.data.mixture import Mixture


def test_an_epoch_without_weights_takes_each_sample_once():
    mixture = Mixture([7, 5], [7, 5], seed=0)
    for epoch in range(3):
        samples = mixture.take(epoch * 12, 12)
        taken = sorted(zip(samples.source.tolist(), samples.index.tolist(), strict=True))
        assert taken == [(0, i) for i in range(7)] + [(1, i) for i in range(5)]
        assert (samples.round == epoch).all()


def test_weights_are_shares_of_the_samples():
    mixture = Mixture([1000, 10], [1.0, 3.0], seed=1)
    assert mixture.epoch_size == 1010 and mixture.shares in ((252, 758), (253, 757))
    samples = mixture.take(0, 5 * 1010)
    for source, size in enumerate((1000, 10)):
        chosen = samples.source == source
        assert chosen.sum() == 5 * mixture.shares[source]
        # None comes again before all were taken.
        keys = samples.round[chosen] * size + samples.index[chosen]
        assert len(np.unique(keys)) == len(keys)
        counts = np.bincount(samples.index[chosen], minlength=size)
        assert counts.max() - counts.min() <= 1


def test_the_order_is_shuffled_and_seeded():
    a, b, c = (Mixture([50, 50], [1, 1], seed).take(0, 200) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a.index, b.index)
    assert (a.index != c.index).any() and (a.index[:100] != a.index[100:]).any()
    assert 10 < (a.source[:50] == 0).sum() < 40


def test_any_piece_of_the_order_can_be_taken():
    mixture = Mixture([9, 4], [1, 2], seed=2)
    whole = mixture.take(0, 60)
    for start, count in ((0, 1), (5, 20), (12, 2), (26, 34)):
        part = Mixture([9, 4], [1, 2], seed=2).take(start, count)
        for name in ('source', 'round', 'index'):
            np.testing.assert_array_equal(
                getattr(part, name), getattr(whole, name)[start : start + count]
            )


def test_a_weight_of_zero_leaves_a_data_set_out():
    samples = Mixture([5, 5], [0, 1], seed=0).take(0, 30)
    assert (samples.source == 1).all()


@pytest.mark.parametrize(
    ('sizes', 'weights', 'message'),
    [
        ([3, 0], [1, 1], 'data set 1 is empty'),
        ([3], [1, 1], 'as many weights'),
        ([3, 3], [1, -1], 'not be negative'),
        ([3, 3], [0, 0], 'nor all zero'),
        ([3, 3], [1, float('nan')], 'not be negative'),
    ],
)
def test_senseless_mixtures_are_refused(sizes, weights, message):
    with pytest.raises(DatasetError, match=message):
        Mixture(sizes, weights, 0)
