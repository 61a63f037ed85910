import numpy as np
import pytest
import torch

from dexwm.data.moved_objects import moved_since_start, touched_since_start
from dexwm.evaluation.bootstrap import ratio_of_sums
from dexwm.evaluation.errors import EvaluationError
from dexwm.evaluation.figures import Readings, Truth, compute_figures
from dexwm.evaluation.latent_error import latent_mae, latent_mse
from dexwm.evaluation.pck import pck

WINDOWS, STEPS, OBJECTS = 6, 20, 3


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def truth(rng):
    return Truth(
        episode=np.repeat(np.arange(WINDOWS // 2), 2),
        times=np.arange(1, STEPS + 1) * 0.2,
        keypoint_pixels=rng.uniform(0, 200, (WINDOWS, STEPS + 1, 12, 2)),
        keypoint_visible=rng.random((WINDOWS, STEPS + 1, 12)) < 0.6,
        object_names=('can', 'apple', 'box'),
        object_pixels=rng.uniform(0, 30, (WINDOWS, STEPS + 1, OBJECTS, 2)),
        object_visible=rng.random((WINDOWS, STEPS + 1, OBJECTS)) < 0.8,
        object_contact=rng.random((WINDOWS, STEPS + 1, OBJECTS)) < 0.05,
    )


def readings(keypoints, objects, latent_error):
    return Readings(
        latent_mae=np.full((WINDOWS, STEPS), latent_error),
        latent_mse=np.full((WINDOWS, STEPS), latent_error**2),
        keypoints=keypoints,
        objects=objects,
    )


@pytest.fixture
def perfect(truth):
    return readings(truth.keypoint_pixels[:, 1:], truth.object_pixels[:, 1:], 0.0)


@pytest.fixture
def persistence(truth):
    def still(pixels):
        return np.broadcast_to(pixels[:, :1], pixels[:, 1:].shape)

    return readings(still(truth.keypoint_pixels), still(truth.object_pixels), 2.0)


@pytest.fixture
def guess(truth, rng):
    def near(pixels):
        return pixels[:, 1:] + rng.normal(0, 10, pixels[:, 1:].shape)

    return readings(near(truth.keypoint_pixels), near(truth.object_pixels), 1.0)


def test_latent_errors_are_means_over_tokens_and_channels():
    a, b = torch.randn(2, 3, 5, 7), torch.randn(2, 3, 5, 7)
    difference = (a - b).double().numpy()
    mae, mse = latent_mae(a, b).numpy(), latent_mse(a, b).numpy()
    for i in range(2):
        for j in range(3):
            assert mae[i, j] == pytest.approx(sum(map(abs, difference[i, j].ravel())) / 35)
            assert mse[i, j] == pytest.approx(sum(x * x for x in difference[i, j].ravel()) / 35)


def test_latents_of_different_shapes_are_refused():
    with pytest.raises(EvaluationError, match='cannot be compared'):
        latent_mae(torch.zeros(2, 84, 128), torch.zeros(2, 84, 64))


def test_pck_by_hand():
    truth = np.array([[10.0, 10], [50, 50], [np.nan, np.nan], [300, 10]])
    predicted = truth + np.array([[3.0, 4], [20, 0], [0, 0], [0, 0]])
    visible = np.array([True, True, False, False])
    assert pck(predicted, truth, visible, 20) == 1
    assert pck(predicted, truth, visible, 5) == 0.5
    assert pck(predicted, truth, visible, 4.9) == 0
    assert pck(predicted, truth, visible, 20, 'all') == 0.5
    assert np.isnan(pck(predicted, truth, np.zeros(4, bool)))


def test_pck_refuses_what_it_does_not_know():
    points, visible = np.zeros((12, 2)), np.ones(12, bool)
    with pytest.raises(EvaluationError, match='visible, all'):
        pck(points, points, visible, 20, 'twelve')
    with pytest.raises(EvaluationError, match='same shape'):
        pck(points[:6], points, visible)


def test_ratio_of_sums_and_its_interval(rng):
    groups = np.arange(400)
    denominator = rng.uniform(1, 2, 400)
    numerator = 0.3 * denominator + rng.normal(0, 0.5, 400)
    estimate = ratio_of_sums(numerator, denominator, groups, count=400)
    assert estimate.value == pytest.approx(numerator.sum() / denominator.sum())
    # The delta method's standard error of a ratio.
    error = np.sqrt(np.var(numerator - estimate.value * denominator) / 400) / denominator.mean()
    assert estimate.low == pytest.approx(estimate.value - 1.96 * error, abs=0.2 * error)
    assert estimate.high == pytest.approx(estimate.value + 1.96 * error, abs=0.2 * error)
    assert estimate == ratio_of_sums(numerator, denominator, groups, count=400)


def test_windows_of_one_episode_are_drawn_together(rng):
    values = np.repeat(rng.normal(size=20), 50)
    alone = ratio_of_sums(values, np.ones(1000), np.arange(1000), 1000)
    together = ratio_of_sums(values, np.ones(1000), np.repeat(np.arange(20), 50), 1000)
    assert together.high - together.low > 4 * (alone.high - alone.low)


def test_one_episode_has_no_interval():
    estimate = ratio_of_sums(np.ones(3), np.full(3, 2.0), np.zeros(3, int), 3)
    assert estimate.value == 0.5 and np.isnan([estimate.low, estimate.high]).all()


def test_nothing_counted_is_not_a_number():
    assert np.isnan(ratio_of_sums(np.zeros(3), np.zeros(3), np.arange(3), 0).value)


def test_moved_and_touched_objects():
    pixels = np.zeros((4, 2, 2))
    pixels[:, 0, 0] = [0, 8, 9, 9]
    visible = np.ones((4, 2), bool)
    visible[3, 0] = False
    assert moved_since_start(pixels, visible).tolist() == [
        [False, False],
        [True, False],
        [False, False],
    ]
    contact = np.array([[False, True], [False, False], [True, False], [False, False]])
    assert touched_since_start(contact).tolist() == [[False, True], [True, True], [True, True]]


def test_a_perfect_prediction(truth, perfect, persistence):
    figures = compute_figures(truth, perfect, persistence)
    assert figures.keypoints.pck_curve(2.5).mean.value == 1
    assert figures.keypoints.pck_curve(2.5).steps == (1.0,) * STEPS
    assert figures.keypoints.error.last.value == 0
    assert figures.latent_mse_ratio.mean.value == 0
    assert figures.objects.parts['all']['mean'].ratio.value == 0
    assert figures.keypoints.pck_curve(20, 'all').mean.value == pytest.approx(
        truth.keypoint_visible[:, 1:].mean()
    )


def test_persistence_is_the_measure(truth, persistence):
    figures = compute_figures(truth, persistence, persistence)
    assert figures.latent_mse_ratio.mean.value == 1
    for part in figures.objects.parts.values():
        for error in part.values():
            assert np.isnan(error.ratio.value) == (error.ratio.count == 0)
            if error.ratio.count:
                assert (error.ratio.value, error.ratio.low, error.ratio.high) == (1, 1, 1)
                # Here the probe reads the true start.
                assert error.persistence.value == pytest.approx(error.true_start.value)
                assert error.true_start.value > 8
                assert error.ratio_to_true_start.value == pytest.approx(1)


def test_figures_against_loops(truth, guess, persistence):
    figures = compute_figures(truth, guess, persistence)
    distances, right, counted = [], 0, 0
    errors = {'all': [], 'touching': [], 'left': [], 'untouched': []}
    stays = {'all': [], 'touching': [], 'left': [], 'untouched': []}
    for n in range(WINDOWS):
        for t in range(1, STEPS + 1):
            for k in range(12):
                if truth.keypoint_visible[n, t, k]:
                    d = np.hypot(*(guess.keypoints[n, t - 1, k] - truth.keypoint_pixels[n, t, k]))
                    distances.append(d)
                    counted += t == STEPS
                    right += t == STEPS and d <= 10
            for k in range(OBJECTS):
                seen = truth.object_visible[n, 0, k] and truth.object_visible[n, t, k]
                start, now = truth.object_pixels[n, 0, k], truth.object_pixels[n, t, k]
                if seen and np.hypot(*(now - start)) > 8:
                    touched = truth.object_contact[n, : t + 1, k].any()
                    kind = 'left' if touched else 'untouched'
                    kind = 'touching' if truth.object_contact[n, t, k] else kind
                    for name in ('all', kind):
                        errors[name].append(np.hypot(*(guess.objects[n, t - 1, k] - now)))
                        stays[name].append(np.hypot(*(start - now)))
    assert figures.keypoints.error.mean.value == pytest.approx(np.mean(distances))
    assert figures.keypoints.pck_curve(10).last.value == pytest.approx(right / counted)
    assert figures.keypoints.pck_curve(10).steps[-1] == pytest.approx(right / counted)
    assert figures.latent_mse_ratio.mean.value == pytest.approx(0.25)
    for name in errors:
        got = figures.objects.parts[name]['mean']
        assert got.error.value == pytest.approx(np.mean(errors[name]))
        assert got.ratio.value == pytest.approx(np.mean(errors[name]) / np.mean(stays[name]))
        assert got.ratio_to_true_start.value == pytest.approx(got.ratio.value)
        assert got.error.count == len(errors[name])
        assert list(figures.objects.parts[name]) == ['mean', '1 s', '2 s', '4 s']


def test_arrays_that_do_not_fit_are_refused(truth):
    with pytest.raises(EvaluationError, match='object_contact'):
        Truth(**{**vars(truth), 'object_contact': truth.object_contact[:, 1:]})
