"""EfficientNet-Lite0, 1 and 2 as encoders; the first is the backbone of the default model.

The network is EfficientNet (Tan and Le, 2019, table 1) in its Lite form: ReLU6, no squeeze and
excitation; stem, first and last stage do not grow with the others. Its convolutions stand here
with their batch normalisation folded in, which gives the same numbers in fewer operations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dexwm.model.encoders.encoder import Encoder, EncoderError
from dexwm.model.encoders.weights import check_weights

STEM_CHANNELS = 32
# Of every batch normalisation of this family.
BATCH_NORM_EPSILON = 1e-3
# Width and depth over those of Lite0.
SCALES = {
    'efficientnet_lite0': (1.0, 1.0),
    'efficientnet_lite1': (1.0, 1.1),
    'efficientnet_lite2': (1.1, 1.2),
}
_CHANNELS_DIVISOR = 8


@dataclass(frozen=True)
class BlockShape:
    """One inverted residual block: expansion, depthwise convolution, projection."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    expansion: int


def block_shapes(name: str) -> list[BlockShape]:
    """The blocks of a network, by its name in `SCALES`."""
    width, depth = SCALES[name]
    # Repeats, kernel, stride of the first, expansion, outputs.
    stages = [
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    ]
    blocks, channels = [], STEM_CHANNELS
    for stage, (repeats, kernel, stride, expansion, plain) in enumerate(stages):
        outputs = _channels(plain * width)
        if 0 < stage < len(stages) - 1:
            repeats = math.ceil(repeats * depth)
        for i in range(repeats):
            blocks.append(
                BlockShape(channels, outputs, kernel, stride if i == 0 else 1, expansion)
            )
            channels = outputs
    return blocks


def _channels(wanted: float) -> int:
    """The nearest multiple of 8, but not less than nine tenths of what is wanted."""
    divisor = _CHANNELS_DIVISOR
    channels = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return channels + divisor if channels < 0.9 * wanted else channels


class _Convolution(nn.Module):
    """A convolution with its batch normalisation folded in; padded like TensorFlow's 'SAME'."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, groups: int, clipped: bool
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.stride, self.groups, self.clipped = stride, groups, clipped
        # At stride 2 an even size needs one row more at the end than at the start.
        before = (kernel - stride) // 2
        self.padding = before
        self.extra = kernel - stride - 2 * before

    def forward(self, x: Tensor) -> Tensor:
        padding = self.padding
        if self.extra:
            after = padding + self.extra
            x, padding = F.pad(x, (padding, after, padding, after)), 0
        x = F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)
        return F.relu6(x, inplace=True) if self.clipped else x


class _Block(nn.Module):
    """An inverted residual block."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        wide = shape.inputs * shape.expansion
        self.expand = (
            _Convolution(shape.inputs, wide, 1, 1, 1, True) if shape.expansion > 1 else None
        )
        self.depthwise = _Convolution(wide, wide, shape.kernel, shape.stride, wide, True)
        self.project = _Convolution(wide, shape.outputs, 1, 1, 1, False)
        self.skip = shape.stride == 1 and shape.inputs == shape.outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x) if self.expand is not None else x)
        y = self.project(y)
        return y.add_(x) if self.skip else y


class EfficientNetLite(Encoder):
    """Features of an EfficientNet-Lite at strides 16 and 32, on the grid of stride 32.

    A token of Lite0 is 448 channels, the 112 of stride 16 of its 2x2 finer cells, and then the 320
    of stride 32: 768. At 224x384 pixels these are 7 x 12 = 84 tokens.

    The published weights were trained with pictures scaled by (value - 127) / 128.
    """

    def __init__(self, name: str, image_size: tuple[int, int] = (224, 384)) -> None:
        """Build the network, its weights zero: use :meth:`from_state`.

        Args:
            name: One of :data:`SCALES`.
            image_size: Rows and columns, multiples of 32.

        Raises:
            EncoderError: They aren't.
        """
        rows, columns = image_size
        if rows < 32 or columns < 32 or rows % 32 or columns % 32:
            raise EncoderError(
                f'{name} takes pictures whose sides are multiples of 32, got {rows}x{columns}'
            )
        shapes = block_shapes(name)
        strided = [i for i, shape in enumerate(shapes) if shape.stride == 2]
        # The block before the last halving, and the last: strides of 16 and 32.
        self._told = (strided[-1] - 1, len(shapes) - 1)
        fine = shapes[self._told[0]].outputs * 4
        super().__init__(
            name,
            image_size,
            (rows // 32, columns // 32),
            fine + shapes[-1].outputs,
            mean=(127.0,) * 3,
            std=(128.0,) * 3,
            fine_channels=fine,
        )
        self.stem = _Convolution(3, STEM_CHANNELS, 3, 2, 1, True)
        self.blocks = nn.ModuleList(_Block(shape) for shape in shapes)

    @classmethod
    def from_state(
        cls,
        name: str,
        state: Mapping[str, Tensor],
        source: str,
        image_size: tuple[int, int] = (224, 384),
    ) -> EfficientNetLite:
        """Build it from published weights.

        Args:
            name: One of :data:`SCALES`.
            state: Tensors as `efficientnet-lite0-57934424.pth` names them.
            source: Where they are from, for messages.
            image_size: Rows and columns, multiples of 32.

        Raises:
            WeightsError: The tensors aren't this network's.
            EncoderError: The image size isn't one.
        """
        encoder = cls(name, image_size)
        pairs = [('_conv_stem', '_bn0', encoder.stem)]
        for i, block in enumerate(encoder.blocks):
            assert isinstance(block, _Block)
            if block.expand is not None:
                pairs.append((f'_blocks.{i}._expand_conv', f'_blocks.{i}._bn0', block.expand))
            pairs.append((f'_blocks.{i}._depthwise_conv', f'_blocks.{i}._bn1', block.depthwise))
            pairs.append((f'_blocks.{i}._project_conv', f'_blocks.{i}._bn2', block.project))
        shapes: dict[str, tuple[int, ...]] = {}
        for convolution, norm, module in pairs:
            shapes[f'{convolution}.weight'] = tuple(module.weight.shape)
            for part in ('weight', 'bias', 'running_mean', 'running_var'):
                shapes[f'{norm}.{part}'] = tuple(module.bias.shape)
        counters = tuple(f'{norm}.num_batches_tracked' for _, norm, _ in pairs)
        classifier = ('_conv_head.', '_bn1.', '_fc.')
        check_weights(state, shapes, name, source, classifier + counters)
        with torch.no_grad():
            for convolution, norm, module in pairs:
                gain, shift, mean, variance = (
                    state[f'{norm}.{part}'].double()
                    for part in ('weight', 'bias', 'running_mean', 'running_var')
                )
                scale = gain / (variance + BATCH_NORM_EPSILON).sqrt()
                weight = state[f'{convolution}.weight'].double() * scale.view(-1, 1, 1, 1)
                module.weight.copy_(weight)
                module.bias.copy_(shift - mean * scale)
                # The layout in which pictures come, (B, H, W, 3), is this one.
                module.weight.data = module.weight.contiguous(memory_format=torch.channels_last)
        encoder.freeze()
        return encoder

    @property
    def options(self) -> dict[str, Any]:
        """See the base class."""
        return {'image_size': list(self.image_size)}

    def maps_after(self, pixels: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Maps after some of the blocks; gradients pass through, where they are enabled.

        Args:
            pixels: (B, 3, H, W), normalised.
            blocks: Numbers of blocks from 0, rising.

        Returns:
            (B, channels, rows, columns) each, see :func:`block_shapes`.
        """
        maps = []
        x = self.stem(pixels)
        for i, block in enumerate(self.blocks[: blocks[-1] + 1]):
            x = block(x)
            if i in blocks:
                maps.append(x)
        return maps

    def normalise(self, images: Tensor) -> Tensor:
        """Pixels as the network takes them, of pictures (B, 3, H, W) in [0, 1]."""
        return (images * 255 - self._mean) / self._std

    def _encode(self, pixels: Tensor) -> Tensor:
        if not len(pixels):
            return pixels.new_zeros(0, self.tokens, self.dim)
        # On a CPU one picture at a time keeps its maps in the cache: half as fast again.
        size = 1 if pixels.device.type == 'cpu' else len(pixels)
        return torch.cat([self._tokens_of(part) for part in pixels.split(size)])

    def _tokens_of(self, pixels: Tensor) -> Tensor:
        fine, coarse = self.maps_after(pixels, self._told)
        return torch.cat([F.pixel_unshuffle(fine, 2), coarse], 1).flatten(2).transpose(1, 2)
