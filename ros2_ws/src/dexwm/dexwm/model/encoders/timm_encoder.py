"""Vision transformers out of timm as encoders: DINOv2, DINOv3 and SigLIP 2."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dexwm.model.encoders.encoder import Encoder, EncoderError
from dexwm.model.encoders.torchvision_operators import define_missing_torchvision_operators
from dexwm.model.encoders.weights import (
    find_in_hub,
    find_weights,
    load_into,
    not_found,
    read_weights,
)

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
HALF = (127.5, 127.5, 127.5)


@dataclass(frozen=True)
class TimmArchitecture:
    """A published network of timm.

    Attributes:
        model: Its name in timm.
        tag: The name of its weights in timm.
        patch: Pixels per side of a patch.
        mean: Of red, green and blue in its training, 0 to 255.
        std: As `mean`.
        unused: Beginnings of the names of published tensors that tokens don't depend on.
    """

    model: str
    tag: str
    patch: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    unused: tuple[str, ...] = ()

    @property
    def image_size(self) -> tuple[int, int]:
        """Rows and columns used here: 224 x 392 for patches of 14 (appendix A.1), else 384."""
        return (224, 392) if self.patch == 14 else (224, 384)


def _dinov2(size: str) -> TimmArchitecture:
    return TimmArchitecture(f'vit_{size}_patch14_dinov2', 'lvd142m', 14)


def _dinov3(size: str) -> TimmArchitecture:
    return TimmArchitecture(f'vit_{size}_patch16_dinov3', 'lvd1689m', 16)


def _siglip2(size: str) -> TimmArchitecture:
    model = f'vit_{size}_patch16_siglip_256'
    return TimmArchitecture(model, 'v2_webli', 16, HALF, HALF, unused=('attn_pool.',))


TIMM_ARCHITECTURES: dict[str, TimmArchitecture] = {
    'dinov2_s': _dinov2('small'),
    'dinov2_b': _dinov2('base'),
    'dinov2_l': _dinov2('large'),
    'dinov3_s': _dinov3('small'),
    'dinov3_b': _dinov3('base'),
    'dinov3_l': _dinov3('large'),
    'siglip2_b': _siglip2('base'),
    'siglip2_l': _siglip2('large'),
    'siglip2_so400m': _siglip2('so400m'),
}


class TimmEncoder(Encoder):
    """The patch tokens of a timm vision transformer after its last normalisation.

    Class and register tokens are left out. For DINOv2 these are `x_norm_patchtokens` of its
    authors' code, with the position embedding resized in their way.
    """

    def __init__(
        self,
        name: str,
        architecture: TimmArchitecture,
        image_size: tuple[int, int] | None = None,
        **changes: Any,
    ) -> None:
        """Build the network, its weights random: :meth:`load_weights` follows.

        Args:
            name: The encoder's name.
            architecture: The network.
            image_size: Rows and columns, multiples of the patch; the architecture's if None.
            changes: Arguments for timm that make it another network, as `depth`.

        Raises:
            EncoderError: The image size isn't one.
        """
        define_missing_torchvision_operators()
        import timm

        image_size = image_size or architecture.image_size
        grid = patch_grid(name, image_size, architecture.patch)
        model: Any = timm.create_model(
            architecture.model,
            pretrained=False,
            img_size=image_size,
            num_classes=0,
            global_pool='',
            **changes,
        )
        super().__init__(
            name, image_size, grid, int(model.num_features), architecture.mean, architecture.std
        )
        self.model: Any = model
        self._architecture = architecture
        self.freeze()

    @property
    def options(self) -> dict[str, Any]:
        """See the base class."""
        return {'image_size': list(self.image_size)}

    def load_weights(self, state: Mapping[str, Tensor], source: str) -> None:
        """Load published weights, in timm's naming or that of the authors.

        Args:
            state: Named tensors.
            source: Where they are from, for messages.

        Raises:
            WeightsError: They aren't this network's.
        """
        from timm.models import eva, vision_transformer

        state = dict(state)
        module = eva if isinstance(self.model, eva.Eva) else vision_transformer
        if 'dinov2' in self._architecture.model and 'pos_embed' in state:
            state['pos_embed'] = resize_dinov2_positions(state['pos_embed'], self.grid)
        try:
            state = module.checkpoint_filter_fn(state, self.model)
        except (KeyError, RuntimeError, AttributeError, ValueError) as error:
            raise EncoderError(f'{source} does not fit {self.name}: {error}') from error
        load_into(self.model, state, self.name, source, self._architecture.unused)

    def _encode(self, pixels: Tensor) -> Tensor:
        tokens: Tensor = self.model.forward_features(pixels)
        return tokens[:, self.model.num_prefix_tokens :]


def build_timm_encoder(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    image_size: Sequence[int] | None = None,
    download: bool = False,
) -> TimmEncoder:
    """Build an encoder of :data:`TIMM_ARCHITECTURES` with its published weights.

    Args:
        name: Its name.
        weights: Their file; looked for where None.
        image_size: Rows and columns.
        download: Whether they may be fetched.

    Raises:
        WeightsNotFoundError: They aren't on this machine.
        WeightsError: They aren't this network's.
        EncoderError: The image size isn't one.
    """
    define_missing_torchvision_operators()
    import timm

    architecture = TIMM_ARCHITECTURES[name]
    path = find_weights(name, weights)
    if path is None:
        config: Any = timm.get_pretrained_cfg(f'{architecture.model}.{architecture.tag}')
        file = config.hf_hub_filename or 'model.safetensors'
        folder = find_in_hub(config.hf_hub_id, [file], download)
        if folder is None:
            form = f"{file} of {config.hf_hub_id} (with the file's suffix) or its authors' .pth"
            raise not_found(name, config.hf_hub_id, form)
        path = folder / file
    size = None if image_size is None else image_pair(name, image_size)
    encoder = TimmEncoder(name, architecture, size)
    encoder.load_weights(read_weights(path), str(path))
    return encoder


def image_pair(name: str, image_size: Sequence[int]) -> tuple[int, int]:
    """Rows and columns out of an option.

    Raises:
        EncoderError: It isn't two whole numbers.
    """
    sides = list(image_size) if isinstance(image_size, Sequence) else []
    if len(sides) != 2 or not all(isinstance(side, int) for side in sides):
        raise EncoderError(f'image_size of {name} is [rows, columns], got {image_size!r}')
    return sides[0], sides[1]


def patch_grid(name: str, image_size: tuple[int, int], patch: int) -> tuple[int, int]:
    """Rows and columns of patches in a picture.

    Raises:
        EncoderError: The picture isn't cut into whole patches.
    """
    rows, columns = image_size
    if min(rows, columns) < patch or rows % patch or columns % patch:
        raise EncoderError(
            f'{name} takes pictures whose sides are multiples of {patch}, got {rows}x{columns}'
        )
    return rows // patch, columns // patch


def resize_dinov2_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize DINOv2's position embedding as its authors do.

    They interpolate bicubically by the scale (n + 0.1) / m instead of n / m, without
    antialiasing; the 0.1, there against a rounding, moves the samples and so the latents.

    Args:
        positions: (1, 1 + m * m, D), the class token's first.
        grid: Rows and columns wanted.

    Returns:
        (1, 1 + rows * columns, D).
    """
    old = round((positions.shape[1] - 1) ** 0.5)
    if (old, old) == grid or positions.ndim != 3 or old * old != positions.shape[1] - 1:
        return positions
    maps = positions[:, 1:].float().unflatten(1, (old, old)).permute(0, 3, 1, 2)
    scale = ((grid[0] + 0.1) / old, (grid[1] + 0.1) / old)
    resized = F.interpolate(maps, scale_factor=scale, mode='bicubic')
    return torch.cat([positions[:, :1].float(), resized.flatten(2).transpose(1, 2)], 1)
