"""The cached rollout gives the numbers of the one that recomputes everything."""

import shutil

import pytest
import torch

from dexwm.planning.rollout import (
    GPU_CHUNK_BYTES,
    CachedRollout,
    NaiveRollout,
    bytes_per_candidate,
    chunk_size,
)

from .tiny_world_model import tiny_world_model


@torch.no_grad()
@pytest.mark.parametrize('seen', [1, 3, 4])
@pytest.mark.parametrize('encode_per_candidate', [True, False])
@pytest.mark.parametrize('residual', [False, True])
def test_cached_and_naive_agree(seen, encode_per_candidate, residual):
    predictor = {'dim': 8, 'depth': 2, 'heads': 2, 'context': 4, 'residual': residual}
    model = tiny_world_model(predictor=predictor)
    generator = torch.Generator().manual_seed(4)
    images = torch.randint(0, 256, (seen, 16, 24, 3), dtype=torch.uint8, generator=generator)
    past = torch.randn(seen - 1, 132, generator=generator)
    actions = torch.randn(5, 6, 132, generator=generator)
    cached = CachedRollout(model, model.encode(images), past)
    naive = NaiveRollout(model, images, past, encode_per_candidate=encode_per_candidate)
    first = cached(actions)
    assert first.shape == (5, 6, 6, 6)
    torch.testing.assert_close(first, naive(actions), atol=1e-4, rtol=1e-4)
    # What the candidates of one call did must not be seen by those of the next.
    assert torch.equal(cached(actions), first)
    torch.testing.assert_close(cached(actions[3:4]), first[3:4], atol=1e-5, rtol=1e-5)


def both_rollouts(**settings):
    """What a rollout predicts as usual, and with other settings."""
    predictor = {'dim': 8, 'depth': 2, 'heads': 2, 'context': 4, 'residual': True}
    model = tiny_world_model(predictor=predictor)
    generator = torch.Generator().manual_seed(5)
    latents = model.encode(torch.randint(0, 256, (1, 16, 24, 3), dtype=torch.uint8))
    past = torch.zeros(0, 132)
    actions = torch.randn(3, 2, 132, generator=generator)
    usual = CachedRollout(model, latents, past)(actions)
    return usual, CachedRollout(model, latents, past, **settings)(actions)


@torch.no_grad()
def test_in_bfloat16_it_predicts_nearly_the_same_in_float32():
    usual, short = both_rollouts(precision='bfloat16')
    assert short.dtype == torch.float32
    assert not torch.equal(short, usual)
    assert (short - usual).abs().mean() < 0.02 * usual.std()


@torch.no_grad()
@pytest.mark.skipif(shutil.which('g++') is None, reason='torch.compile needs a C++ compiler')
def test_compiled_it_predicts_the_same():
    usual, compiled = both_rollouts(compiled=True)
    torch.testing.assert_close(compiled, usual, atol=1e-5, rtol=1e-5)


def test_memory_of_a_candidate_grows_with_its_steps():
    model = tiny_world_model()
    one, three = (bytes_per_candidate(model, steps) for steps in (1, 3))
    # At least the latents that are kept and the 12 maps of 8x12 cells.
    assert three - one >= 2 * 4 * (6 * 6 + 12 * 8 * 12)


def test_how_many_are_predicted_at_a_time_follows_from_the_model_alone():
    """Also on a GPU, whose free memory would change the last bits of a plan."""
    model = tiny_world_model()
    expected = GPU_CHUNK_BYTES // bytes_per_candidate(model, 3)
    assert chunk_size(model, 3, torch.device('cuda')) == expected
    assert chunk_size(model, 3, torch.device('cpu')) < expected
