"""The predictor: a conditional transformer (CDiT) from past latents and an action to the next one.

This is the f of the paper (DexWM, section 3.2 and appendix A.2), whole, in this file.

A window is a list of frames, oldest first, in slots 0, 1, 2 ... of at most `context` frames plus
the one to predict. Each frame is a grid of P latent tokens. The tokens of the new frame start as a
copy of the newest known frame (the query) and pass through blocks of

    self-attention within the frame -> cross-attention to the known frames -> MLP,

each gated and modulated by the action (adaLN-Zero). The known frames are not updated by the
blocks; their keys and values are modulated by *their own* action, the one that led to them, and
not by the new one. So they depend on nothing that is being planned, and can be kept.

There are two forms, which give the same numbers:

* `Predictor.forward`, for training: frames 1 ... F-1 at once, each from all frames before it.
* `Predictor.start`, `step` and `append`, for inference: only the new frame, with the keys and
  values of the known ones computed once and shared by any number of candidate actions.

Letters in shapes: B batch, N candidates, F frames, S known frames, P tokens of a frame, D latent
channels, d channels inside, A numbers of an action, h heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dexwm.model.hand_maps import HandMaps, HandMapsConfig


class PredictorError(ValueError):
    """Raised for a configuration that makes no predictor, or arrays that do not fit it."""


@dataclass(frozen=True)
class PredictorConfig:
    """Sizes and options of a predictor. The options' defaults are the paper's.

    Attributes:
        latent_dim: channels D of the encoder's latents.
        tokens: tokens P of a frame.
        dim: channels d inside.
        depth: number of blocks.
        heads: attention heads; divides dim.
        mlp_ratio: hidden channels of the MLP over dim.
        action_dim: numbers of the action, 132 in the paper; more where absolute keypoints are
            appended.
        context: known frames a prediction may use, at most.
        residual: adds the output to the newest known latent, so that an untrained predictor
            says "nothing moves". The paper's predicts the latent itself. Helps small models.
        action_scale: the action is multiplied by this before use. Metres are small numbers:
            10 makes a step of 10 cm a 1.
        action_hidden: hidden channels of a two-layer embedding of the action before the blocks;
            None, as in the paper, hands the action itself to each block.
        cross_attention_frames: attend to this many of the newest known frames only; None for all.
        hand_maps: draw the hands on the grid of tokens, from the last numbers of the action, which
            the blocks are not told then; None, as in the paper: without. Helps small models.

    Raises:
        PredictorError: where a value is out of range.
    """

    latent_dim: int
    tokens: int
    dim: int
    depth: int
    heads: int
    mlp_ratio: float = 2.0
    action_dim: int = 132
    context: int = 8
    residual: bool = False
    action_scale: float = 1.0
    action_hidden: int | None = None
    cross_attention_frames: int | None = None
    hand_maps: HandMapsConfig | None = None

    def __post_init__(self) -> None:
        counts = {
            name: getattr(self, name)
            for name in ('latent_dim', 'tokens', 'dim', 'depth', 'heads', 'action_dim', 'context')
        }
        for name in ('action_hidden', 'cross_attention_frames'):
            if getattr(self, name) is not None:
                counts[name] = getattr(self, name)
        wrong = [f'{name}={value}' for name, value in counts.items() if value < 1]
        if wrong:
            raise PredictorError(f'must be at least 1: {", ".join(wrong)}')
        if self.dim % self.heads:
            raise PredictorError(f'{self.heads} heads do not divide dim={self.dim}')
        if self.mlp_ratio <= 0 or self.action_scale <= 0:
            raise PredictorError(
                f'mlp_ratio and action_scale must be positive, '
                f'got {self.mlp_ratio} and {self.action_scale}'
            )
        maps = self.hand_maps
        if maps is not None and maps.grid[0] * maps.grid[1] != self.tokens:
            raise PredictorError(f'hand_maps.grid {maps.grid} is not one of {self.tokens} tokens')
        if self.condition_dim < 1:
            raise PredictorError(
                f'an action of {self.action_dim} numbers is too short for hand maps of '
                f'{self.action_dim - self.condition_dim}: they want action.pixels'
            )

    @property
    def condition_dim(self) -> int:
        """Numbers of the action that the blocks are told."""
        return self.action_dim - (0 if self.hand_maps is None else self.hand_maps.told)


@dataclass(frozen=True)
class Size:
    """Depth and width of a predictor of a given name."""

    depth: int
    dim: int
    heads: int


SIZES: dict[str, Size] = {
    'tiny': Size(depth=4, dim=192, heads=4),
    'mini': Size(depth=6, dim=256, heads=4),
    'S': Size(depth=12, dim=384, heads=6),
    'B': Size(depth=12, dim=768, heads=12),
    'L': Size(depth=24, dim=1024, heads=16),
    'XL': Size(depth=32, dim=1024, heads=16),
}
"""S, B, L and XL are the paper's table 5; tiny and mini are for computers without a GPU."""


@dataclass(frozen=True)
class Context:
    """The known frames of a window, and what the blocks need of them.

    Made by `Predictor.start` and `append`; hand it back to `step` and `append` unchanged.

    Attributes:
        latents: the known frames, oldest first, S tensors of (B, P, D). B is 1 for frames that
            all candidates share.
        actions: the actions between them, S - 1 tensors of (B, A).
        keys_values: for each frame that can be attended to, oldest first, its keys and values
            (B, P, 2d) in each block.
    """

    latents: tuple[Tensor, ...]
    actions: tuple[Tensor, ...]
    keys_values: tuple[tuple[Tensor, ...], ...]

    @property
    def batch(self) -> int:
        """Batch size of the newest frame."""
        return self.latents[-1].shape[0]


def _norm(x: Tensor) -> Tensor:
    """Layer norm without weights: the modulation is what scales and shifts."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Computes x * (1 + scale) + shift in one pass over x."""
    return torch.addcmul(shift, x, scale + 1)


class Attention(nn.Module):
    """Multi-head attention whose queries, keys and values come from one packed projection.

    The same form serves self-attention, where all three come from one tensor, and
    cross-attention, where the queries come from the new frame and the rest from known ones.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def within_frames(self, x: Tensor) -> Tensor:
        """Self-attention among the tokens of each frame, (..., P, d) to the same shape."""
        # Batch and frames are one axis to the attention kernel, so that no mask is needed.
        q, k, v = map(self._split_heads, self.qkv(x.flatten(0, -3)).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(-3, -2).reshape(x.shape))

    def queries(self, x: Tensor) -> Tensor:
        """The first third of the packed projection, (..., P, d) to the same shape."""
        dim = x.shape[-1]
        return F.linear(x, self.qkv.weight[:dim], self.qkv.bias[:dim])

    def keys_values(self, x: Tensor) -> Tensor:
        """The rest of it, (..., P, d) to (..., P, 2d)."""
        dim = x.shape[-1]
        return F.linear(x, self.qkv.weight[dim:], self.qkv.bias[dim:])

    def to_frames(self, queries: Tensor, frames: Sequence[Tensor]) -> Tensor:
        """Attention of one new frame to known ones, before the output projection.

        Args:
            queries: (N, P, d).
            frames: keys and values of each known frame, (N, P, 2d), or (1, P, 2d) where all N
                share them.

        Returns:
            (N, P, d).
        """
        shape = queries.shape
        if all(frame.shape[0] == 1 for frame in frames):
            # N candidates are N times as many queries of one sequence: nothing is copied.
            queries = queries.reshape(1, -1, shape[-1])
        else:
            frames = [frame.expand(shape[0], -1, -1) for frame in frames]
        k, v = map(self._split_heads, torch.cat(list(frames), dim=-2).chunk(2, dim=-1))
        y = F.scaled_dot_product_attention(self._split_heads(queries), k, v)
        return y.transpose(-3, -2).reshape(shape)


class Block(nn.Module):
    """One CDiT block: self-attention, cross-attention to the known frames, MLP.

    The action gives shift, scale and gate of each of the three and shift and scale of the known
    frames, 11 vectors:

        x = x + gate_1 * attention(modulate(norm(x), 1))
        x = x + gate_2 * cross_attention(modulate(norm(x), 2), modulate(norm(known), known))
        x = x + gate_3 * mlp(modulate(norm(x), 3))
    """

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        dim, hidden = config.dim, round(config.mlp_ratio * config.dim)
        self.reach = config.cross_attention_frames or config.context
        self.adaln = nn.Linear(config.action_hidden or config.condition_dim, 11 * dim)
        self.attention = Attention(dim, config.heads)
        self.cross_attention = Attention(dim, config.heads)
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(approximate='tanh'), nn.Linear(hidden, dim)
        )
        nn.init.zeros_(self.adaln.weight)
        nn.init.zeros_(self.adaln.bias)

    def forward(self, x: Tensor, known: Tensor, condition: Tensor) -> Tensor:
        """All new frames of windows at once: new frame i sees the known frames 0 ... i.

        Args:
            x: (B, F, P, d), the new frames, in slots 1 ... F.
            known: (B, F, P, d), the known frames in slots 0 ... F-1, normalised.
            condition: (B, F+1, C), of slots 0 ... F.

        Returns:
            The new frames after this block, (B, F, P, d).
        """
        modulation = self._modulation(condition)
        frames = self._keys_values(known, modulation[:, :-1]).unbind(1)

        def attend(queries: Tensor) -> Tensor:
            # One call a frame is quicker than one call under a mask, which computes first what
            # it then hides.
            each = [
                self.cross_attention.to_frames(q, frames[max(0, i + 1 - self.reach) : i + 1])
                for i, q in enumerate(queries.unbind(1))
            ]
            return torch.stack(each, dim=1)

        return self._update(x, modulation[:, 1:], attend)

    def step(self, x: Tensor, frames: Sequence[Tensor], condition: Tensor) -> Tensor:
        """One new frame.

        Args:
            x: (N, P, d).
            frames: what `keys_values` gave for the known frames, oldest first.
            condition: (N, C).

        Returns:
            The new frame after this block, (N, P, d).
        """

        def attend(queries: Tensor) -> Tensor:
            return self.cross_attention.to_frames(queries, frames[-self.reach :])

        return self._update(x, self._modulation(condition), attend)

    def keys_values(self, known: Tensor, condition: Tensor) -> Tensor:
        """Keys and values of one known frame, (B, P, d) normalised and (B, C) to (B, P, 2d)."""
        return self._keys_values(known, self._modulation(condition))

    def _modulation(self, condition: Tensor) -> Tensor:
        """(..., C) to (..., 1, 11d), the 1 standing for the tokens."""
        return self.adaln(condition).unsqueeze(-2)

    def _keys_values(self, known: Tensor, modulation: Tensor) -> Tensor:
        shift, scale = modulation.chunk(11, dim=-1)[3:5]
        return self.cross_attention.keys_values(_modulate(known, shift, scale))

    def _update(self, x: Tensor, modulation: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        m = modulation.chunk(11, dim=-1)
        y = self.attention.within_frames(_modulate(_norm(x), m[0], m[1]))
        x = torch.addcmul(x, m[2], y)
        y = attend(self.cross_attention.queries(_modulate(_norm(x), m[5], m[6])))
        x = torch.addcmul(x, m[7], self.cross_attention.proj(y))
        y = self.mlp(_modulate(_norm(x), m[8], m[9]))
        return torch.addcmul(x, m[10], y)


class FinalLayer(nn.Module):
    """Norm and linear layer at the end, modulated by the action; zero before training."""

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.adaln = nn.Linear(config.action_hidden or config.condition_dim, 2 * config.dim)
        self.linear = nn.Linear(config.dim, config.dim)
        for layer in (self.adaln, self.linear):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(..., P, d) and (..., C) to (..., P, d)."""
        shift, scale = self.adaln(condition).unsqueeze(-2).chunk(2, dim=-1)
        return self.linear(_modulate(_norm(x), shift, scale))


class Predictor(nn.Module):
    """Predicts the latent of the next frame from the latents so far and the action.

    Attributes:
        config: its sizes and options.
        checkpoint_blocks: recompute each block in the backward pass instead of keeping its
            intermediate results: less memory, a third more computing.
    """

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_blocks = False
        dim = config.dim
        same = dim == config.latent_dim
        self.input_proj = nn.Identity() if same else nn.Linear(config.latent_dim, dim)
        self.output_proj = nn.Identity() if same else nn.Linear(dim, config.latent_dim)
        # The last slot is a new frame's only, never a known one's, so the last row is not used;
        # it is there because the paper's parameter counts include it.
        self.pos_embed = nn.Parameter(torch.empty(config.context + 1, config.tokens, dim))
        nn.init.normal_(self.pos_embed, std=0.02)
        hidden = config.action_hidden
        self.action_embed = (
            nn.Identity()
            if hidden is None
            else nn.Sequential(
                nn.Linear(config.condition_dim, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
            )
        )
        self.hand_maps = None if config.hand_maps is None else HandMaps(config.hand_maps, dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final = FinalLayer(config)
        if config.residual and isinstance(self.output_proj, nn.Linear):
            nn.init.zeros_(self.output_proj.bias)

    def forward(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Predicts frames 1 ... F-1 of windows, each from all frames before it.

        Args:
            latents: (B, F, P, D), F from 2 to context + 1.
            actions: (B, F-1, A); action i leads from frame i to frame i+1.

        Returns:
            (B, F-1, P, D), frames 1 ... F-1.

        Raises:
            PredictorError: where the shapes do not fit one another or the configuration.
        """
        self._check(latents, actions, latents.shape[1] - 1 if latents.ndim == 4 else 0)
        frames = latents.shape[1] - 1
        if not 1 <= frames <= self.config.context:
            raise PredictorError(
                f'a window has 2 to {self.config.context + 1} frames (context '
                f'{self.config.context} and the one to predict), got {frames + 1}'
            )
        known = self.input_proj(latents[:, :-1]) + self.pos_embed[:frames]
        # No action leads to the first frame.
        condition = self._condition(F.pad(actions, (0, 0, 1, 0)))
        x, normed = self._with_hands(known, actions), _norm(known)
        for block in self.blocks:
            if self.checkpoint_blocks and torch.is_grad_enabled():
                x = checkpoint(block, x, normed, condition, use_reentrant=False)
            else:
                x = block(x, normed, condition)
        return self._output(x, condition[:, 1:], latents[:, :-1])

    def start(self, latents: Tensor, actions: Tensor) -> Context:
        """Prepares known frames for predictions from them.

        Args:
            latents: (B, S, P, D), the known frames, oldest first. Of more than `context` the
                oldest are left out.
            actions: (B, S-1, A), the actions between them.

        Returns:
            The context for `step` and `append`. Of B = 1 it serves any number of candidates.

        Raises:
            PredictorError: where the shapes do not fit one another or the configuration.
        """
        self._check(latents, actions, latents.shape[1] - 1 if latents.ndim == 4 else 0)
        return self._context(latents.unbind(1), actions.unbind(1))

    def step(self, context: Context, action: Tensor) -> Tensor:
        """Predicts the next frame for candidate actions.

        Args:
            context: the known frames, of batch N or 1.
            action: (N, A), from the newest known frame to the new one.

        Returns:
            (N, P, D).

        Raises:
            PredictorError: where the action does not fit the context or the configuration.
        """
        self._check_action(context, action)
        latent = context.latents[-1]
        condition = self._condition(action)
        x = self._embed(latent, len(context.latents) - 1).expand(action.shape[0], -1, -1)
        x = self._with_hands(x, action)
        for i, block in enumerate(cast('Iterable[Block]', self.blocks)):
            frames = [frame[i] for frame in context.keys_values]
            if self.checkpoint_blocks and torch.is_grad_enabled():
                x = checkpoint(block.step, x, frames, condition, use_reentrant=False)
            else:
                x = block.step(x, frames, condition)
        return self._output(x, condition, latent)

    def append(self, context: Context, latent: Tensor, action: Tensor) -> Context:
        """The context with one more known frame, a predicted or an observed one.

        The keys and values of the known frames are kept, until there are more than `context`
        frames: then the oldest is dropped, the others move up one slot each, and as a slot's
        position embedding is in the keys and values, these are computed anew.

        Args:
            context: the known frames so far; not changed.
            latent: (N, P, D), the frame to append.
            action: (N, A), which led to it.

        Returns:
            A context of batch N.

        Raises:
            PredictorError: where the shapes do not fit one another or the configuration.
        """
        self._check_action(context, action)
        expected = (action.shape[0], self.config.tokens, self.config.latent_dim)
        if latent.shape != expected:
            raise PredictorError(
                f'the latent to append must be {expected}, got {tuple(latent.shape)}'
            )
        latents = (*context.latents, latent)
        actions = (*context.actions, action)
        if len(latents) > self.config.context:
            return self._context(latents, actions)
        newest = self._frame_keys_values(latent, action, len(latents) - 1)
        return Context(latents, actions, (*context.keys_values, newest))

    def _context(self, latents: Sequence[Tensor], actions: Sequence[Tensor]) -> Context:
        """Context of the newest frames in slots 0, 1 ..., keys and values computed."""
        latents = tuple(latents[-self.config.context :])
        actions = tuple(actions[len(actions) + 1 - len(latents) :])
        none = torch.zeros_like(latents[0][:, 0, :1]).expand(-1, self.config.action_dim)
        keys_values = tuple(
            self._frame_keys_values(latent, action, slot)
            for slot, (latent, action) in enumerate(zip(latents, (none, *actions), strict=True))
        )
        return Context(latents, actions, keys_values)

    def _frame_keys_values(self, latent: Tensor, action: Tensor, slot: int) -> tuple[Tensor, ...]:
        known = _norm(self._embed(latent, slot))
        condition = self._condition(action)
        blocks = cast('Iterable[Block]', self.blocks)
        return tuple(block.keys_values(known, condition) for block in blocks)

    def _embed(self, latent: Tensor, slot: int) -> Tensor:
        return self.input_proj(latent) + self.pos_embed[slot]

    def _with_hands(self, x: Tensor, actions: Tensor) -> Tensor:
        """The new frame's tokens before the blocks, with the hands drawn on them."""
        if self.hand_maps is None:
            return x
        return x + self.hand_maps(actions[..., self.config.condition_dim :])

    def _condition(self, actions: Tensor) -> Tensor:
        told = actions[..., : self.config.condition_dim]
        return F.silu(self.action_embed(told * self.config.action_scale))

    def _output(self, x: Tensor, condition: Tensor, query_latents: Tensor) -> Tensor:
        y = self.output_proj(self.final(x, condition))
        return query_latents + y if self.config.residual else y

    def _check(self, latents: Tensor, actions: Tensor, count: int) -> None:
        config = self.config
        if latents.ndim != 4 or latents.shape[2:] != (config.tokens, config.latent_dim):
            raise PredictorError(
                f'latents must be (batch, frames, {config.tokens}, {config.latent_dim}), '
                f'got {tuple(latents.shape)}: are they of another encoder?'
            )
        expected = (latents.shape[0], count, config.action_dim)
        if actions.shape != expected:
            raise PredictorError(
                f'{latents.shape[1]} frames need actions {expected}, got {tuple(actions.shape)}'
            )

    def _check_action(self, context: Context, action: Tensor) -> None:
        if action.ndim != 2 or action.shape[1] != self.config.action_dim:
            raise PredictorError(
                f'the action must be (candidates, {self.config.action_dim}), '
                f'got {tuple(action.shape)}'
            )
        if context.batch not in (1, action.shape[0]):
            raise PredictorError(
                f'a context of batch {context.batch} serves as many actions (or any number if '
                f'it is 1), got {action.shape[0]}'
            )
