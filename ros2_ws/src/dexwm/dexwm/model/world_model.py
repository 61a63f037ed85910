"""The world model: encoder, predictor, keypoint head and decoder, with one configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from dexwm.data.actions import ActionOptions
from dexwm.geometry.heatmaps import HEATMAP_KEYPOINTS, hard_argmax, soft_argmax
from dexwm.model.decoder import Decoder, DecoderConfig
from dexwm.model.encoders.encoder import Encoder
from dexwm.model.hand_maps import HandMapsConfig
from dexwm.model.keypoint_head import TYPICAL_DEPTH, KeypointHead, KeypointHeadConfig, MapHead
from dexwm.model.losses import HeatmapLoss
from dexwm.model.predictor import SIZES, Predictor, PredictorConfig

# The softmax of maps trained by the squared error, whose peaks are 1, needs sharpening.
SOFT_TEMPERATURE: dict[HeatmapLoss, float] = {'mse': 0.01, 'cross_entropy': 1.0}


class WorldModelError(ValueError):
    """Raised for a configuration that makes no world model, or for what a model does not have."""


@dataclass(frozen=True)
class EncoderChoice:
    """Which encoder, as `dexwm.model.encoders.registry.build_encoder` takes it.

    Attributes:
        name: its name in the registry.
        options: its options; no paths, which belong to a machine and not to a model.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WorldModelConfig:
    """All that a world model is but its weights.

    Attributes:
        name: what tables and files call it.
        encoder: the frozen encoder.
        predictor: sizes and options of the predictor.
        keypoint_head: sizes of the keypoint head.
        action: what the predictor is told about a step.
        heatmap_loss: what the keypoint head is trained on; says how its maps are read.
        decoder: sizes of the decoder; None without.
        objects: kinds of objects whose centres the object head reads, one map each; empty without
            a head. It has the keypoint head's sizes.

    Raises:
        WorldModelError: where the parts do not fit one another.
    """

    name: str
    encoder: EncoderChoice
    predictor: PredictorConfig
    keypoint_head: KeypointHeadConfig
    action: ActionOptions = field(default_factory=ActionOptions)
    heatmap_loss: HeatmapLoss = 'mse'
    decoder: DecoderConfig | None = None
    objects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.heatmap_loss not in get_args(HeatmapLoss):
            raise WorldModelError(
                f'heatmap_loss must be one of {", ".join(get_args(HeatmapLoss))}, '
                f'got {self.heatmap_loss!r}'
            )
        # A list, where it is read from JSON.
        object.__setattr__(self, 'objects', tuple(self.objects))
        head, decoder, latent_dim = self.keypoint_head, self.decoder, self.predictor.latent_dim
        needs: list[tuple[str, Any, Any]] = [
            ('predictor.action_dim', self.predictor.action_dim, self.action.dim),
            ('keypoint_head.latent_dim', head.latent_dim, latent_dim),
            ('tokens of keypoint_head.grid', head.grid[0] * head.grid[1], self.predictor.tokens),
        ]
        if decoder is not None:
            needs.append(('decoder.latent_dim', decoder.latent_dim, latent_dim))
            needs.append(('decoder.grid', decoder.grid, head.grid))
        if (maps := self.predictor.hand_maps) is not None:
            needs.append(('predictor.hand_maps.grid', maps.grid, head.grid))
            needs.append(('predictor.hand_maps.patch', maps.patch, head.patch))
            keypoints = len(self.action.keypoint_rows)
            needs.append(('predictor.hand_maps.keypoints', maps.keypoints, keypoints))
        for what, value, expected in needs:
            if value != expected:
                raise WorldModelError(
                    f'{what} is {value}, but the other parts of {self.name} need {expected}'
                )
        if (self.predictor.hand_maps is not None) != self.action.pixels:
            raise WorldModelError(
                f'predictor.hand_maps and action.pixels of {self.name} go together: give both or '
                'neither'
            )

    @property
    def heatmap_stride(self) -> int:
        """Pixels of the input picture along a heat map cell's side."""
        return self.keypoint_head.stride

    def to_dict(self) -> dict[str, Any]:
        """All settings, in types that JSON has."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> WorldModelConfig:
        """Reads what `to_dict` gave.

        Raises:
            WorldModelError: where a key is missing or unknown, or a value is not possible.
        """
        return _read(cls, settings, 'model', complete=True)

    @classmethod
    def for_encoder(cls, written: Mapping[str, Any], encoder: Encoder) -> WorldModelConfig:
        """Completes settings as a person writes them, in a recipe.

        Left out may be what has a default, and what follows from the encoder and the action: the
        predictor's `latent_dim`, `tokens` and `action_dim`, its hand maps' `grid`, `patch` and
        `keypoints`, the keypoint head's `latent_dim`, `grid` and `patch`, the decoder's
        `latent_dim` and `grid`. `predictor.size` may stand for depth, dim and heads.

        Args:
            written: nested mappings with the names of the attributes.
            encoder: which gives the rest. `written` may leave it out; where it names one, it must
                be this one.

        Raises:
            WorldModelError: where a key is unknown, a value is not possible, or one does not
                belong to the encoder.
        """
        given = dict(written)
        named = given.get('encoder', {}).get('name', encoder.name)
        if named != encoder.name:
            raise WorldModelError(f'model.encoder.name is {named}, the encoder is {encoder.name}')
        # Its own account of its options leaves out where its files lie.
        given['encoder'] = {'name': encoder.name, 'options': encoder.options}
        action = _read(ActionOptions, given.get('action', {}), 'model.action', complete=False)
        predictor = dict(given.get('predictor', {}))
        if (size := predictor.pop('size', None)) is not None:
            if size not in SIZES:
                raise WorldModelError(
                    f'model.predictor.size must be one of {", ".join(SIZES)}, got {size!r}'
                )
            predictor = {**dataclasses.asdict(SIZES[size]), **predictor}
        if predictor.get('hand_maps') is not None:
            predictor['hand_maps'] = {
                'grid': encoder.grid,
                'patch': _patch(encoder),
                'keypoints': len(action.keypoint_rows),
                **predictor['hand_maps'],
            }
        latents = {'latent_dim': encoder.dim}
        grid = {**latents, 'grid': encoder.grid}
        tokens = encoder.grid[0] * encoder.grid[1]
        given['predictor'] = {
            **latents,
            'tokens': tokens,
            'action_dim': action.dim,
            **predictor,
        }
        given['keypoint_head'] = {
            **grid,
            'patch': _patch(encoder),
            **given.get('keypoint_head', {}),
        }
        if given.get('decoder') is not None:
            given['decoder'] = {**grid, **given['decoder']}
        config = _read(cls, given, 'model', complete=False)
        _check_encoder(config, encoder)
        return config


class WorldModel(nn.Module):
    """Predicts latents of pictures from earlier ones and actions, and reads hands and objects.

    New weights are drawn from torch's global generator: seed it before.

    Attributes:
        config: what it is.
        encoder: frozen, pictures to latents.
        predictor: latents and actions to the next latents.
        keypoint_head: latents to heat maps of wrists and fingertips.
        decoder: latents to pictures, or None.
        object_head: latents to heat maps of objects' centres, logits, or None.
    """

    def __init__(self, config: WorldModelConfig, encoder: Encoder) -> None:
        """Builds all parts but the encoder.

        Args:
            config: what the parts are.
            encoder: the one that the configuration names.

        Raises:
            WorldModelError: where the configuration is for another encoder.
        """
        super().__init__()
        _check_encoder(config, encoder)
        self.config = config
        self.encoder = encoder
        self.predictor = Predictor(config.predictor)
        self.keypoint_head = KeypointHead(config.keypoint_head)
        self.decoder = None if config.decoder is None else Decoder(config.decoder)
        self.object_head = (
            MapHead(config.keypoint_head, len(config.objects)) if config.objects else None
        )

    def add_object_head(self, objects: Sequence[str]) -> None:
        """Gives the model a new head that reads centres of objects.

        Args:
            objects: their kinds; a model that has a head for just these keeps it.

        Raises:
            WorldModelError: where there is none, or the model's head is for other objects.
        """
        if self.object_head is not None and self.config.objects == tuple(objects):
            return
        if self.object_head is not None or not objects:
            raise WorldModelError(
                f'{self.config.name} has an object head for '
                f'{", ".join(self.config.objects) or "none"}; it cannot have one for '
                f'{", ".join(objects) or "none"}'
            )
        self.config = dataclasses.replace(self.config, objects=tuple(objects))
        self.object_head = MapHead(self.config.keypoint_head, len(objects))

    def encode(self, images: Tensor) -> Tensor:
        """Latents of pictures, without gradients.

        Args:
            images: (B, H, W, 3) uint8 RGB, H and W being `encoder.image_size`.

        Returns:
            (B, P, D) float32.

        Raises:
            EncoderError: where the pictures have another type, layout or size.
        """
        with torch.no_grad():
            latents: Tensor = self.encoder(images)
        return latents

    def predict_window(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Predicts each frame of windows from the true ones before it; see `Predictor.forward`.

        Args:
            latents: (B, F, P, D).
            actions: (B, F-1, A).

        Returns:
            (B, F-1, P, D), frames 1 ... F-1.

        Raises:
            PredictorError: where the shapes do not fit one another or the configuration.
        """
        predicted: Tensor = self.predictor(latents, actions)
        return predicted

    def rollout(self, latents: Tensor, past_actions: Tensor, actions: Tensor) -> Tensor:
        """Predicts frame after frame, each from the known and the predicted ones before it.

        Args:
            latents: (B, S, P, D), the known frames, oldest first. With B = 1 they are shared by
                all rollouts.
            past_actions: (B, S-1, A), between them.
            actions: (N, T, A), of the steps to predict; N = B, or any where B = 1.

        Returns:
            (N, T, P, D).

        Raises:
            PredictorError: where the shapes do not fit one another or the configuration.
        """
        context = self.predictor.start(latents, past_actions)
        predicted = [self.predictor.step(context, actions[:, 0])]
        for t in range(1, actions.shape[1]):
            context = self.predictor.append(context, predicted[-1], actions[:, t - 1])
            predicted.append(self.predictor.step(context, actions[:, t]))
        return torch.stack(predicted, dim=1)

    def heatmaps(self, latents: Tensor) -> Tensor:
        """Heat maps of the 12 heat map keypoints, (..., P, D) to (..., 12, rows, columns)."""
        maps: Tensor = self.keypoint_head(latents)
        return maps[..., : len(HEATMAP_KEYPOINTS), :, :]

    def keypoints(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Reads the 12 heat map keypoints, softly: both results are differentiable.

        Args:
            latents: (..., P, D).

        Returns:
            Heat maps (..., 12, rows, columns); positions in the input picture (..., 12, 2), its
            columns and rows, pixels; depths (..., 12) along the camera's axis, metres, or None
            where the model's head reads none. Gradients of depths do not move the heat maps.
        """
        maps: Tensor = self.keypoint_head(latents)
        temperature = SOFT_TEMPERATURE[self.config.heatmap_loss]
        heatmaps = maps[..., : len(HEATMAP_KEYPOINTS), :, :]
        pixels = soft_argmax(heatmaps, self.config.heatmap_stride, temperature)
        if not self.config.keypoint_head.depths:
            return heatmaps, pixels, None
        weights = torch.softmax(heatmaps.detach().flatten(-2) / temperature, dim=-1)
        beyond = maps[..., len(HEATMAP_KEYPOINTS) :, :, :].flatten(-2)
        return heatmaps, pixels, (weights * beyond).sum(dim=-1) + TYPICAL_DEPTH

    def keypoint_pixels(self, latents: Tensor, decode: Literal['soft', 'hard'] = 'soft') -> Tensor:
        """Where the keypoint head sees the 12 heat map keypoints.

        Args:
            latents: (..., P, D).
            decode: 'soft': the mean under the softmax of a map, differentiable; 'hard': its
                largest cell.

        Returns:
            (..., 12, 2) column and row in the input picture. A keypoint that is hidden has a
            position too, which means nothing.

        Raises:
            WorldModelError: where decode is neither.
        """
        if decode == 'soft':
            return self.keypoints(latents)[1]
        if decode == 'hard':
            return hard_argmax(self.heatmaps(latents), self.config.heatmap_stride)
        raise WorldModelError(f"decode must be 'soft' or 'hard', got {decode!r}")

    def object_maps(self, latents: Tensor) -> Tensor:
        """Where the object head sees the centre of each kind of object.

        Args:
            latents: (..., P, D).

        Returns:
            (..., K, rows, columns), probabilities of the cells of the input picture, of
            `heatmap_stride` pixels. The map of a kind that is not there means nothing.

        Raises:
            WorldModelError: where the model has no object head.
        """
        if self.object_head is None:
            raise WorldModelError(
                f'the model {self.config.name} does not read where objects are: train it with '
                'loss.object_consistency'
            )
        maps: Tensor = self.object_head(latents)
        return maps.flatten(-2).softmax(dim=-1).unflatten(-1, maps.shape[-2:])

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of latents.

        Args:
            latents: (B, P, D).

        Returns:
            (B, 3, H, W) RGB, in [0, 1].

        Raises:
            WorldModelError: where the model has no decoder.
        """
        if self.decoder is None:
            raise WorldModelError(
                f'the model {self.config.name} has no decoder: train one, or use a model with one'
            )
        images: Tensor = self.decoder(latents)
        return images


def _patch(encoder: Encoder) -> int:
    """Pixels along a token's side."""
    (height, width), (rows, columns) = encoder.image_size, encoder.grid
    patch = height // rows
    if (patch * rows, patch * columns) != (height, width):
        raise WorldModelError(
            f'the tokens of encoder {encoder.name} are not square: {rows}x{columns} on a picture '
            f'of {height}x{width}'
        )
    return patch


def _check_encoder(config: WorldModelConfig, encoder: Encoder) -> None:
    head = config.keypoint_head
    for what, value, expected in (
        ('encoder', config.encoder.name, encoder.name),
        ('latent_dim', config.predictor.latent_dim, encoder.dim),
        ('grid', head.grid, tuple(encoder.grid)),
        ('patch', head.patch, _patch(encoder)),
    ):
        if value != expected:
            raise WorldModelError(
                f'the model {config.name} is for {what} {value}, the encoder given '
                f'({encoder.name}) has {expected}'
            )


# The sections of a configuration that are themselves configurations.
_SECTIONS: dict[tuple[type, str], type] = {
    (WorldModelConfig, 'encoder'): EncoderChoice,
    (WorldModelConfig, 'predictor'): PredictorConfig,
    (WorldModelConfig, 'keypoint_head'): KeypointHeadConfig,
    (WorldModelConfig, 'action'): ActionOptions,
    (WorldModelConfig, 'decoder'): DecoderConfig,
    (PredictorConfig, 'hand_maps'): HandMapsConfig,
}


def _read(cls: type, settings: Any, where: str, complete: bool) -> Any:
    """Makes a configuration from a mapping whose keys are exactly its fields.

    With `complete` false, fields with a default may be left out.
    """
    if not isinstance(settings, Mapping):
        raise WorldModelError(f'{where} must be a mapping, got {settings!r}')
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := [str(key) for key in settings if key not in fields]:
        raise WorldModelError(
            f'{where} has no key {", ".join(unknown)}; it has {", ".join(fields)}'
        )
    needed = [
        name
        for name, f in fields.items()
        if complete
        or (f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING)
    ]
    if missing := [name for name in needed if name not in settings]:
        raise WorldModelError(f'{where} lacks {", ".join(missing)}')
    values = {
        name: _read(_SECTIONS[cls, name], value, f'{where}.{name}', complete)
        if (cls, name) in _SECTIONS and value is not None
        else value
        for name, value in settings.items()
    }
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise WorldModelError(f'{where}: {error}') from error
