"""An encoder whose features go through a projection that was fitted or trained here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from dexwm.model.adapter import Adapter, AdapterConfig, AdapterError
from dexwm.model.encoders.encoder import Encoder, EncoderError, digest_of
from dexwm.model.encoders.weights import WeightsError, WeightsNotFoundError, load_into
from dexwm.model.pca import Pca, PcaConfig, PcaError

# What files say of themselves.
FORMAT = 'dexwm projection 1'


class ProjectedEncoder(Encoder):
    """A frozen public encoder, then an :class:`Adapter` or a :class:`Pca`.

    Attributes:
        backbone: The public encoder.
        projection: What follows it.
    """

    def __init__(self, name: str, backbone: Encoder, projection: Adapter | Pca) -> None:
        """Put them together; the projection's weights are loaded or trained afterwards.

        Args:
            name: The whole's name.
            backbone: The encoder.
            projection: It takes the encoder's tokens.

        Raises:
            EncoderError: The projection is for other tokens.
        """
        config = projection.config
        if (config.in_dim, config.grid) != (backbone.dim, backbone.grid):
            raise EncoderError(
                f'the projection takes {config.in_dim} channels on a grid of {config.grid}, '
                f'{backbone.name} gives {backbone.dim} on {backbone.grid}'
            )
        super().__init__(
            name,
            backbone.image_size,
            config.out_grid,
            config.dim,
            mean=backbone._mean.flatten().tolist(),
            std=backbone._std.flatten().tolist(),
        )
        self.backbone = backbone
        self.projection = projection
        self._has_weights = False
        self.freeze()

    @property
    def options(self) -> dict[str, Any]:
        """See the base class."""
        config = asdict(self.projection.config)
        for key in ('in_dim', 'grid', 'fine_channels'):
            config.pop(key, None)
        return {**self.backbone.options, **config}

    def project(self, features: Tensor) -> Tensor:
        """Latents of the backbone's tokens, for features that are on disk already.

        Args:
            features: (B, P, D) of the backbone, any float type.

        Returns:
            (B, rows * columns, dim).

        Raises:
            EncoderError: The projection has no weights yet.
        """
        if not self._has_weights:
            raise EncoderError(
                f'encoder {self.name} has no trained weights yet: give the file with them as '
                "option 'projection', load a checkpoint, or train them"
            )
        return self.projection(features)

    def _encode(self, pixels: Tensor) -> Tensor:
        return self.project(self.backbone._encode(pixels))

    def frozen_digest(self) -> str:
        """See the base class."""
        return self.backbone.digest()

    def digest(self) -> str:
        """See the base class."""
        settings = {'name': self.name, 'options': self.options, 'backbone': self.frozen_digest()}
        return digest_of(settings, self.projection.state_dict())

    def fit_pca(self, features: Tensor) -> None:
        """Fit the principal components; after this the encoder can be used.

        Args:
            features: (N, P, D) of the backbone.

        Raises:
            EncoderError: There is an adapter in their place.
            PcaError: There are too few features, or some aren't finite.
        """
        if not isinstance(self.projection, Pca):
            raise EncoderError(f'encoder {self.name} has an adapter, which is trained')
        self.projection.fit(features)
        self._has_weights = True

    def trained_state(self) -> dict[str, Tensor]:
        """See the base class."""
        return self.projection.state_dict()

    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        """See the base class."""
        load_into(self.projection, state, f"{self.name}'s projection", 'the state given')
        self._has_weights = True

    def save_projection(self, path: str | os.PathLike[str]) -> None:
        """Write the projection's weights and settings to one .safetensors file.

        It is written beside the old one and takes its place when complete.

        Raises:
            OSError: The file can't be written.
        """
        metadata = {
            'format': FORMAT,
            'encoder': self.name,
            'backbone_digest': self.frozen_digest(),
            'options': json.dumps(self.options),
        }
        target = Path(path)
        part = target.with_name(target.name + '.part')
        tensors = {k: v.detach().cpu().contiguous() for k, v in self.trained_state().items()}
        save_file(tensors, part, metadata)
        part.replace(target)

    def load_projection(self, path: str | os.PathLike[str]) -> None:
        """Load what :meth:`save_projection` wrote.

        Raises:
            WeightsNotFoundError: The file isn't there.
            WeightsError: It can't be read or belongs to another encoder.
        """
        metadata = read_projection_metadata(path)
        if metadata['backbone_digest'] != self.frozen_digest():
            raise WeightsError(
                f'{path} was made with other weights or settings of {self.backbone.name} than '
                'are loaded: use those, or train it anew'
            )
        state = load_file(path)
        load_into(self.projection, state, f"{self.name}'s projection", str(path))
        self._has_weights = True


def build_projection(
    kind: str, backbone: Encoder, options: Mapping[str, Any], name: str
) -> ProjectedEncoder:
    """Put a projection behind an encoder.

    Args:
        kind: 'adapter' or 'pca'.
        backbone: The encoder.
        options: `projection`: a file by :meth:`ProjectedEncoder.save_projection`, whose settings
            then hold; or the settings (those of :class:`~dexwm.model.adapter.AdapterConfig` or
            :class:`~dexwm.model.pca.PcaConfig` that the encoder doesn't give), for a projection
            without weights.
        name: The whole's name.

    Raises:
        EncoderError: The file is missing or for another encoder; the options aren't ones.
    """
    settings = dict(options)
    path = settings.pop('projection', None)
    if path is not None:
        if settings:
            raise EncoderError(
                f'{path} says how the projection is shaped: leave {", ".join(settings)} out'
            )
        metadata = read_projection_metadata(path)
        if metadata['encoder'] != name:
            raise WeightsError(f'{path} is of encoder {metadata["encoder"]}, not of {name}')
        settings = json.loads(metadata['options'])
        for key in backbone.options:
            settings.pop(key, None)
    projection: Adapter | Pca
    try:
        if kind == 'adapter':
            projection = Adapter(
                AdapterConfig(
                    in_dim=backbone.dim,
                    grid=backbone.grid,
                    fine_channels=backbone.fine_channels,
                    **settings,
                )
            )
        else:
            projection = Pca(PcaConfig(in_dim=backbone.dim, grid=backbone.grid, **settings))
    except (AdapterError, PcaError, TypeError) as error:
        raise EncoderError(f'the options of {name} do not make one: {error}') from error
    encoder = ProjectedEncoder(name, backbone, projection)
    if path is not None:
        encoder.load_projection(path)
    return encoder


def read_projection_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """What a file by :meth:`ProjectedEncoder.save_projection` says of itself.

    Raises:
        WeightsNotFoundError: The file isn't there.
        WeightsError: It isn't such a file.
    """
    if not Path(path).is_file():
        raise WeightsNotFoundError(f'there is no projection at {path}')
    try:
        with safe_open(path, 'pt') as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f'{path} cannot be read: {error}') from error
    if metadata.get('format') != FORMAT:
        raise WeightsError(
            f'{path} says format {metadata.get("format")!r}, expected {FORMAT!r}: '
            'it was not written by save_projection of this version'
        )
    return metadata
