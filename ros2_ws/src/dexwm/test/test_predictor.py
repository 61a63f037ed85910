"""The predictor: sizes of the paper, its formula, and the two forms that must agree."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from dexwm.model.hand_maps import HandMapsConfig
from dexwm.model.predictor import SIZES, Predictor, PredictorConfig, PredictorError

TINY = PredictorConfig(latent_dim=12, tokens=5, dim=16, depth=2, heads=4, action_dim=7, context=8)
OPTIONS = {
    'paper': {},
    'latents of its own width': {'latent_dim': 16},
    'residual': {'residual': True},
    'scaled and embedded action': {'action_scale': 2.0, 'action_hidden': 9},
    'three frames': {'cross_attention_frames': 3},
    'one frame': {'cross_attention_frames': 1, 'residual': True},
    'short context': {'context': 3},
    'hand maps': {
        'tokens': 6,
        'action_dim': 31,
        'hand_maps': HandMapsConfig(grid=(2, 3), patch=1, keypoints=4),
    },
}


@pytest.fixture(params=OPTIONS.values(), ids=OPTIONS.keys())
def config(request):
    return dataclasses.replace(TINY, **request.param)


def trained(config, seed=0):
    """A predictor with weights everywhere, as the zeros of a new one would hide most of it."""
    torch.manual_seed(seed)
    predictor = Predictor(config)
    for parameter in predictor.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return predictor.eval()


def window(config, batch=2, frames=9, seed=1):
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(batch, frames, config.tokens, config.latent_dim, generator=generator)
    actions = torch.randn(batch, frames - 1, config.action_dim, generator=generator)
    return latents, actions


@pytest.mark.parametrize(
    ('size', 'parameters', 'millions'),
    [
        ('S', 30_611_968, 31),
        ('B', 103_985_152, 104),
        ('L', 343_665_664, 344),
        ('XL', 456_403_968, 456),
    ],
)
def test_parameters_of_the_papers_table_5(size, parameters, millions):
    s = SIZES[size]
    with torch.device('meta'):
        predictor = Predictor(PredictorConfig(1024, 448, s.dim, s.depth, s.heads))
    count = sum(p.numel() for p in predictor.parameters())
    assert count == parameters
    assert round(count / 1e6) == millions
    # The closed form: attentions, MLP and modulation of a block, and what is around the blocks.
    d = s.dim
    block = 2 * (4 * d * d + 4 * d) + 2 * 2 * d * d + 3 * d + 11 * d * 133
    around = 9 * 448 * d + 2 * d * 133 + d * d + d
    projections = 0 if d == 1024 else 2 * 1024 * d + 1024 + d
    assert count == s.depth * block + around + projections


def layer_norm(x):
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()


def attention(w, name, x, y, mask, heads):
    """Softmax attention of all of x to all of y under a mask; rows without any give 0."""
    wq, wk, wv = w[f'{name}.qkv.weight'].chunk(3)
    bq, bk, bv = w[f'{name}.qkv.bias'].chunk(3)
    out = []
    for q, k, v in zip(
        (x @ wq.T + bq).chunk(heads, -1),
        (y @ wk.T + bk).chunk(heads, -1),
        (y @ wv.T + bv).chunk(heads, -1),
        strict=True,
    ):
        scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
        out.append(scores.softmax(-1).nan_to_num(0.0) @ v)
    return torch.cat(out, -1) @ w[f'{name}.proj.weight'].T + w[f'{name}.proj.bias']


def written_out(predictor, latents, actions):
    """The model over all 9 slots at once, as the block masks of the paper's training have it.

    One long sequence of tokens; slot 0 queries with frame 0 and its result is thrown away.
    """
    config, w = predictor.config, predictor.state_dict()
    slots, tokens = latents.shape[1], config.tokens
    z = latents
    if 'input_proj.weight' in w:
        z = z @ w['input_proj.weight'].T + w['input_proj.bias']
    known = z + w['pos_embed'][:slots]
    x = torch.cat([known[:, :1], known[:, :-1]], 1)
    if config.hand_maps is not None:
        # test_hand_maps.py has what this adds.
        x[:, 1:] += predictor.hand_maps(actions[..., 7:])
        actions = actions[..., :7]
    x = x.flatten(1, 2)
    known = layer_norm(known).flatten(1, 2)
    c = config.action_scale * F.pad(actions, (0, 0, 1, 0))
    if config.action_hidden:
        c = F.silu(c @ w['action_embed.0.weight'].T + w['action_embed.0.bias'])
        c = c @ w['action_embed.2.weight'].T + w['action_embed.2.bias']
    c = (c * torch.sigmoid(c)).repeat_interleave(tokens, 1)
    slot = torch.arange(slots).repeat_interleave(tokens)
    same = slot[:, None] == slot[None]
    back = slot[:, None] - slot[None]
    earlier = (back > 0) & (back <= (config.cross_attention_frames or slots))
    for i in range(config.depth):
        b = f'blocks.{i}'
        m = (c @ w[f'{b}.adaln.weight'].T + w[f'{b}.adaln.bias']).chunk(11, -1)
        y = layer_norm(x) * (1 + m[1]) + m[0]
        x = x + m[2] * attention(w, f'{b}.attention', y, y, same, config.heads)
        kv = known * (1 + m[4]) + m[3]
        y = layer_norm(x) * (1 + m[6]) + m[5]
        x = x + m[7] * attention(w, f'{b}.cross_attention', y, kv, earlier, config.heads)
        y = layer_norm(x) * (1 + m[9]) + m[8]
        y = y @ w[f'{b}.mlp.0.weight'].T + w[f'{b}.mlp.0.bias']
        y = 0.5 * y * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3)))
        x = x + m[10] * (y @ w[f'{b}.mlp.2.weight'].T + w[f'{b}.mlp.2.bias'])
    shift, scale = (c @ w['final.adaln.weight'].T + w['final.adaln.bias']).chunk(2, -1)
    x = layer_norm(x) * (1 + scale) + shift
    x = x @ w['final.linear.weight'].T + w['final.linear.bias']
    if 'output_proj.weight' in w:
        x = x @ w['output_proj.weight'].T + w['output_proj.bias']
    x = x.unflatten(1, (slots, tokens))[:, 1:]
    return x + latents[:, :-1] if config.residual else x


@torch.no_grad()
def test_training_form_is_the_formula_over_the_masked_window(config):
    predictor = trained(config)
    latents, actions = window(config, frames=config.context + 1)
    expected = written_out(predictor, latents, actions)
    torch.testing.assert_close(predictor(latents, actions), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_inference_gives_the_numbers_of_training_for_every_prefix(config):
    predictor = trained(config)
    latents, actions = window(config, frames=config.context + 1)
    expected = predictor(latents, actions)
    grown = predictor.start(latents[:, :1], actions[:, :0])
    for known in range(1, config.context + 1):
        started = predictor.start(latents[:, :known], actions[:, : known - 1])
        for context in (started, grown):
            new = predictor.step(context, actions[:, known - 1])
            torch.testing.assert_close(new, expected[:, known - 1], atol=1e-5, rtol=1e-5)
        grown = predictor.append(grown, latents[:, known], actions[:, known - 1])


@torch.no_grad()
def test_a_sliding_rollout_is_the_training_form_on_the_newest_frames(config):
    predictor = trained(config)
    steps = config.context + 4
    start, actions = window(config, frames=2)
    _, actions = window(config, frames=steps + 1)
    latents = list(start[:, :1].unbind(1))
    context = predictor.start(start[:, :1], actions[:, :0])
    for t in range(steps):
        known = torch.stack(latents[-config.context :], 1)
        # The training form wants a last frame, which it predicts without looking at it.
        padded = torch.cat([known, torch.full_like(known[:, :1], 7.0)], 1)
        taken = actions[:, t + 1 - known.shape[1] : t + 1]
        expected = predictor(padded, taken)[:, -1]
        new = predictor.step(context, actions[:, t])
        torch.testing.assert_close(new, expected, atol=1e-5, rtol=1e-5)
        context = predictor.append(context, new, actions[:, t])
        latents.append(new)
    assert len(context.latents) == config.context


@torch.no_grad()
@pytest.mark.parametrize('known', [1, 3, 8])
def test_a_shared_context_serves_candidates_as_copies_of_it_would(config, known):
    predictor = trained(config)
    known = min(known, config.context)
    latents, past = window(config, batch=1, frames=known)
    _, actions = window(config, batch=6, frames=4, seed=2)
    shared = predictor.start(latents, past)
    copied = predictor.start(latents.expand(6, -1, -1, -1), past.expand(6, -1, -1))
    for t in range(3):
        a, b = predictor.step(shared, actions[:, t]), predictor.step(copied, actions[:, t])
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
        shared = predictor.append(shared, a, actions[:, t])
        copied = predictor.append(copied, b, actions[:, t])


def test_a_context_keeps_one_copy_of_what_is_shared():
    predictor = trained(TINY)
    latents, past = window(TINY, batch=1, frames=2)
    _, actions = window(TINY, batch=6, frames=2)
    context = predictor.start(latents, past)
    longer = predictor.append(context, predictor.step(context, actions[:, 0]), actions[:, 0])
    assert [block.shape[0] for frame in longer.keys_values for block in frame] == [1] * 4 + [6] * 2
    assert longer.keys_values[0][0] is context.keys_values[0][0]


def test_only_reachable_frames_are_kept_in_use():
    # What lies further back than cross_attention_frames makes no difference.
    predictor = trained(dataclasses.replace(TINY, cross_attention_frames=2))
    latents, actions = window(TINY, frames=5)
    changed = latents.clone()
    changed[:, :2] += 1
    a, b = predictor(latents, actions), predictor(changed, actions)
    torch.testing.assert_close(a[:, 3], b[:, 3])
    assert (a[:, 2] - b[:, 2]).abs().max() > 1e-3


def test_the_future_is_not_seen():
    predictor = trained(TINY)
    latents, actions = window(TINY)
    changed, other = latents.clone(), actions.clone()
    changed[:, 4:] += 1
    other[:, 4:] += 1
    a, b = predictor(latents, actions), predictor(changed, other)
    torch.testing.assert_close(a[:, :4], b[:, :4])
    assert (a[:, 4:] - b[:, 4:]).abs().amin(dim=(0, 2, 3)).min() > 1e-4


@pytest.mark.parametrize('residual', [False, True])
@pytest.mark.parametrize('latent_dim', [12, 16])
def test_before_training_it_says_the_same_whatever_is_done(residual, latent_dim):
    predictor = Predictor(dataclasses.replace(TINY, latent_dim=latent_dim, residual=residual))
    latents, actions = window(predictor.config)
    out = predictor(latents, actions)
    if residual:
        torch.testing.assert_close(out, latents[:, :-1])
    elif latent_dim == 16:
        assert not out.any()
    else:
        torch.testing.assert_close(out, predictor.output_proj.bias.expand_as(out))


def test_checkpointed_blocks_give_the_same_gradients():
    gradients = []
    for checkpointed in (False, True):
        predictor = trained(TINY)
        predictor.checkpoint_blocks = checkpointed
        latents, actions = window(TINY)
        context = predictor.start(latents[:, :2], actions[:, :1])
        loss = predictor(latents, actions).square().mean()
        loss = loss + predictor.step(context, actions[:, 1]).square().mean()
        loss.backward()
        gradients.append([p.grad for p in predictor.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_it_learns_what_depends_on_the_action():
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, residual=True)
    predictor = Predictor(config)
    optimiser = torch.optim.AdamW(predictor.parameters(), 1e-2)
    latents, _ = window(config, batch=32, frames=1)
    direction = torch.randn(config.latent_dim)
    losses = []
    for step in range(60):
        _, actions = window(config, batch=32, frames=2, seed=step)
        moved = latents + actions[:, :, None, :1] * direction
        predicted = predictor(torch.cat([latents, moved], 1), actions)
        loss = F.mse_loss(predicted, moved)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'heads': 3}, '3 heads do not divide dim=16'),
        ({'depth': 0}, 'depth=0'),
        ({'cross_attention_frames': 0}, 'cross_attention_frames=0'),
        ({'mlp_ratio': 0.0}, 'mlp_ratio'),
        ({'action_scale': -1.0}, 'action_scale'),
        ({'hand_maps': HandMapsConfig((2, 3), 1, 2)}, r'\(2, 3\) is not one of 5 tokens'),
        ({'hand_maps': HandMapsConfig((2, 3), 1, 2), 'tokens': 6}, '7 numbers is too short .* 12'),
    ],
)
def test_impossible_configurations_are_refused(change, message):
    with pytest.raises(PredictorError, match=message):
        dataclasses.replace(TINY, **change)


def test_arrays_that_do_not_fit_are_refused():
    predictor = trained(TINY)
    latents, actions = window(TINY)
    with pytest.raises(PredictorError, match=r'\(batch, frames, 5, 12\).*another encoder'):
        predictor(latents[..., :11], actions)
    with pytest.raises(PredictorError, match=r'need actions \(2, 8, 7\)'):
        predictor(latents, actions[:, 1:])
    with pytest.raises(PredictorError, match='2 to 9 frames'):
        predictor(*window(TINY, frames=10))
    with pytest.raises(PredictorError, match='2 to 9 frames'):
        predictor(*window(TINY, frames=1))
    context = predictor.start(latents, actions)
    with pytest.raises(PredictorError, match=r'context of batch 2 .* got 3'):
        predictor.step(context, torch.zeros(3, 7))
    with pytest.raises(PredictorError, match=r'\(candidates, 7\)'):
        predictor.step(context, torch.zeros(2, 8))
    with pytest.raises(PredictorError, match=r'latent to append must be \(2, 5, 12\)'):
        predictor.append(context, latents, actions[:, 0])
