import pytest
import torch

from dexwm.evaluation.errors import EvaluationError
from dexwm.evaluation.probe import (
    Probe,
    ProbeConfig,
    ProbeSamples,
    ProbeTraining,
    train_probe,
)

ROWS, COLUMNS, DIM = 3, 5, 8
CONFIG = ProbeConfig(
    latent_dim=DIM,
    grid=(ROWS, COLUMNS),
    image_size=(96, 160),
    points=('tip', 'can'),
    width=24,
    blocks=1,
)


def samples(n, seed):
    """Latents in which each point lights up its token, and says where in it the point is."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([160.0, 96.0])
    pixels = torch.rand(n, 2, 2, generator=generator) * size - 0.5
    visible = torch.rand(n, 2, generator=generator) < 0.8
    latents = 0.1 * torch.randn(n, ROWS * COLUMNS, DIM, generator=generator) + 5.0
    for point in range(2):
        column, row = ((pixels[:, point] + 0.5) / 32).long().unbind(-1)
        inside = (pixels[:, point] + 0.5) / 32 % 1
        shown = torch.cat([torch.ones(n, 1), inside], 1) * visible[:, point, None]
        channels = slice(3 * point, 3 * point + 3)
        latents[torch.arange(n), row * COLUMNS + column, channels] += 3 * shown
    return ProbeSamples(latents, pixels, visible)


@pytest.fixture(scope='module')
def probe():
    return train_probe(CONFIG, samples(600, 0), ProbeTraining(steps=250, batch=32))


def test_a_trained_probe_finds_the_points_of_new_frames(probe):
    new = samples(200, 1)
    errors = (probe.pixels(new.latents) - new.pixels).norm(dim=-1)[new.visible]
    middle = torch.tensor([79.5, 47.5])
    assert errors.median() < 5
    assert errors.mean() < 0.2 * (middle - new.pixels).norm(dim=-1)[new.visible].mean()


def test_the_seed_decides(probe):
    training = ProbeTraining(steps=5, batch=8)
    first, second = (train_probe(CONFIG, samples(50, 0), training) for _ in range(2))
    third = train_probe(CONFIG, samples(50, 0), ProbeTraining(steps=5, batch=8, seed=1))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert any(
        not torch.equal(a, b) for a, b in zip(first.parameters(), third.parameters(), strict=True)
    )


def test_training_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    train_probe(CONFIG, samples(20, 0), ProbeTraining(steps=2, batch=4))
    assert torch.equal(before, torch.get_rng_state())


def test_one_lit_cell_is_read_at_its_centre():
    probe = Probe(CONFIG)
    logits = torch.full((1, 2, ROWS * COLUMNS * 16), -100.0)
    # Heat maps have 12 x 20 cells of 8 pixels; this is row 3, column 7.
    logits[..., 3 * 20 + 7] = 100.0
    pixels = logits.softmax(-1) @ probe.cell_pixels
    assert pixels[0, 0].tolist() == pytest.approx([7 * 8 + 3.5, 3 * 8 + 3.5])


def test_leading_axes_are_kept(probe):
    latents = torch.randn(2, 3, ROWS * COLUMNS, DIM)
    together = probe.pixels(latents)
    assert together.shape == (2, 3, 2, 2)
    assert torch.allclose(together[1, 2], probe.pixels(latents[1, 2]), atol=1e-3)


def test_latents_of_another_encoder_are_refused(probe):
    with pytest.raises(EvaluationError, match='another encoder'):
        probe.pixels(torch.zeros(1, 84, DIM))


def test_samples_that_do_not_fit_are_refused():
    good = samples(4, 0)
    with pytest.raises(EvaluationError, match='2 latents'):
        ProbeSamples(good.latents[:2], good.pixels, good.visible)
    with pytest.raises(EvaluationError, match='no point is visible'):
        train_probe(
            CONFIG,
            ProbeSamples(good.latents, good.pixels, torch.zeros_like(good.visible)),
            ProbeTraining(steps=1),
        )
