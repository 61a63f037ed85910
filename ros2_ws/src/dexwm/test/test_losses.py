"""The losses against their formulas, written out."""

import dataclasses

import pytest
import torch

from dexwm.model.losses import (
    LossError,
    hand_consistency_loss,
    object_consistency_loss,
    rollout_loss,
    state_loss,
)
from dexwm.model.predictor import Predictor, PredictorConfig


def arrays(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator)


def test_state_loss_is_equation_4():
    predicted, target = arrays(2, 3, 4, 5), arrays(2, 3, 4, 5, seed=1)
    total = 0.0
    for b in range(2):
        for f in range(3):
            for p in range(4):
                total += float(((target[b, f, p] - predicted[b, f, p]) ** 2).sum())
    expected = total / (2 * 3) / (4 * 5)
    assert state_loss(predicted, target).item() == pytest.approx(expected, rel=1e-5)


def test_changed_patches_get_their_share_of_the_weight():
    # One patch of four changes; the share w / (1 + w) of the weight goes to it alone.
    previous = arrays(1, 4, 5)
    target = previous.clone()
    target[0, 2] += 1.0
    for w in (0.5, 3.0):
        for patch in range(4):
            predicted = target.clone()
            predicted[0, patch] += 2.0
            loss = state_loss(predicted, target, previous, w).item()
            share = 1 / (1 + w) / 4 + (w / (1 + w) if patch == 2 else 0)
            assert loss == pytest.approx(4.0 * share, rel=1e-5)


def test_where_nothing_changes_all_patches_count_alike():
    target = arrays(2, 4, 5)
    predicted = arrays(2, 4, 5, seed=1)
    weighted = state_loss(predicted, target, target, 5.0)
    torch.testing.assert_close(weighted, state_loss(predicted, target))


def test_hand_consistency_is_equation_5_over_valid_maps():
    predicted, target = arrays(2, 12, 6, 7), arrays(2, 12, 6, 7, seed=1)
    valid = torch.zeros(2, 12, dtype=torch.bool)
    valid[0, :5] = True
    valid[1, 7] = True
    total = 0.0
    for b in range(2):
        for k in range(12):
            if valid[b, k]:
                total += float(((predicted[b, k] - target[b, k]) ** 2).sum())
    expected = total / (12 * 6 * 7) / 2
    loss = hand_consistency_loss(predicted, target, valid)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_is_that_of_the_normalised_map():
    logits, target = arrays(2, 3, 4, 5), arrays(2, 3, 4, 5, seed=1).abs()
    valid = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    target[0, 0] = 0.0  # drawn outside: as good as invalid
    total = 0.0
    for b, k in ((0, 2), (1, 0), (1, 1)):
        p = torch.exp(logits[b, k]) / torch.exp(logits[b, k]).sum()
        q = target[b, k] / target[b, k].sum()
        total -= float((q * p.log()).sum())
    loss = hand_consistency_loss(logits, target, valid, 'cross_entropy')
    assert loss.item() == pytest.approx(total / 6, rel=1e-5)


@pytest.mark.parametrize('kind', ['mse', 'cross_entropy'])
def test_invalid_maps_have_no_gradient(kind):
    predicted = arrays(1, 3, 4, 5).requires_grad_()
    target = arrays(1, 3, 4, 5, seed=1).abs()
    hand_consistency_loss(predicted, target, torch.tensor([[True, False, True]]), kind).backward()
    assert not predicted.grad[0, 1].any()
    assert predicted.grad[0, 0].any() and predicted.grad[0, 2].any()
    assert torch.isfinite(predicted.grad).all()


class Rolling:
    """The two lines of `WorldModel.rollout`, for a predictor alone, by the training form."""

    def __init__(self, predictor):
        self.predictor = predictor

    def rollout(self, latents, past_actions, actions):
        for t in range(actions.shape[1]):
            taken = torch.cat([past_actions, actions[:, : t + 1]], 1)
            padded = torch.cat([latents, torch.zeros_like(latents[:, :1])], 1)
            latents = torch.cat([latents, self.predictor(padded, taken)[:, -1:]], 1)
        return latents[:, past_actions.shape[1] + 1 :]


def random_predictor(**options):
    config = PredictorConfig(6, 4, 8, depth=2, heads=2, action_dim=3, context=8)
    torch.manual_seed(0)
    predictor = Predictor(dataclasses.replace(config, **options)).double()
    for parameter in predictor.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return predictor


@pytest.mark.parametrize('start_frames', [1, 3])
def test_rollout_loss_has_the_gradients_of_the_training_form_fed_back(start_frames):
    predictor = random_predictor()
    latents, actions = arrays(2, 9, 4, 6).double(), arrays(2, 8, 3).double()
    steps = 9 - start_frames

    class WithSteps:
        def rollout(self, known, past_actions, actions):
            context = predictor.start(known, past_actions)
            out = [predictor.step(context, actions[:, 0])]
            for t in range(1, actions.shape[1]):
                context = predictor.append(context, out[-1], actions[:, t - 1])
                out.append(predictor.step(context, actions[:, t]))
            return torch.stack(out, 1)

    results = []
    for model in (WithSteps(), Rolling(predictor)):
        predictor.zero_grad()
        loss, predicted = rollout_loss(model, latents, actions, steps, start_frames)
        loss.backward()
        results.append((loss, predicted, *(p.grad.clone() for p in predictor.parameters())))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
    loss, predicted = results[0][:2]
    assert predicted.shape == (2, steps, 4, 6)
    torch.testing.assert_close(loss, ((predicted - latents[:, start_frames:]) ** 2).mean().float())


def test_gradients_reach_the_first_step_of_a_rollout():
    predictor = random_predictor()
    latents, actions = arrays(1, 9, 4, 6).double(), arrays(1, 8, 3).double().requires_grad_()
    _, predicted = rollout_loss(Rolling(predictor), latents, actions, 8)
    predicted[:, -1].square().sum().backward()
    assert (actions.grad[0].norm(dim=-1) > 1e-9).all()


def test_what_does_not_fit_is_refused():
    x = arrays(2, 3, 4, 5)
    with pytest.raises(LossError, match='one shape'):
        state_loss(x, x[:1])
    with pytest.raises(LossError, match='needs `previous`'):
        state_loss(x, x, changed_patch_weight=1.0)
    with pytest.raises(LossError, match='not be negative'):
        state_loss(x, x, x, changed_patch_weight=-1.0)
    with pytest.raises(LossError, match='without the last two axes'):
        hand_consistency_loss(x, x, torch.ones(2, 4))
    with pytest.raises(LossError, match='mse, cross_entropy'):
        hand_consistency_loss(x, x, torch.ones(2, 3), 'l1')
    with pytest.raises(LossError, match='window of 9 frames'):
        rollout_loss(Rolling(None), arrays(1, 8, 4, 6), arrays(1, 7, 3), 8)


def test_object_consistency_is_a_weighted_mean_over_what_is_there():
    predicted = arrays(2, 3, 4, 5).requires_grad_()
    target = arrays(2, 3, 4, 5, seed=1).abs()
    target[1, 2] = 0
    valid = torch.tensor([[True, False, True], [True, True, True]])
    weight = torch.tensor([[1.0, 1.0, 5.0], [1.0, 5.0, 5.0]])
    loss = object_consistency_loss(predicted, target, valid, weight)
    total, counted = 0.0, 0.0
    for b, k in ((0, 0), (0, 2), (1, 0), (1, 1)):
        p = predicted[b, k].exp() / predicted[b, k].exp().sum()
        q = target[b, k] / target[b, k].sum()
        total = total - weight[b, k] * (q * p.log()).sum()
        counted += float(weight[b, k])
    assert float(loss.detach()) == pytest.approx(float(total.detach()) / counted, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert not gradient[0, 1].any() and not gradient[1, 2].any() and gradient[0, 0].any()

    nothing = object_consistency_loss(predicted, target, torch.zeros_like(valid), weight)
    assert nothing == 0
    with pytest.raises(LossError, match='need valid and weight'):
        object_consistency_loss(predicted, target, valid[0], weight)
