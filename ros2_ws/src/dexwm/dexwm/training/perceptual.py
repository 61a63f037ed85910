"""How different two pictures look, by what a frozen network sees in them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dexwm.model.encoders.efficientnet_lite import EfficientNetLite
from dexwm.model.encoders.weights import WeightsNotFoundError, load_into, read_weights


class PerceptualDistance(nn.Module, ABC):
    """A frozen network whose features of two pictures are compared, layer by layer."""

    def forward(self, drawn: Tensor, real: Tensor) -> Tensor:
        """The distance (B,) of pictures (B, 3, H, W) in [0, 1].

        Features of each position are scaled to unit length; the squares of their differences are
        weighted, summed over channels, averaged over positions and summed over layers (Zhang et
        al., 2018, equation 1).
        """
        total = torch.zeros(len(drawn), device=drawn.device)
        with torch.no_grad():
            targets = self._features(real)
        for i, (a, b) in enumerate(zip(self._features(drawn), targets, strict=True)):
            square = (_unit(a) - _unit(b)).square()
            total = total + self._weigh(i, square).sum(1).mean((1, 2))
        return total

    @abstractmethod
    def _features(self, images: Tensor) -> list[Tensor]:
        """Maps (B, channels, rows, columns) of several layers."""

    def _weigh(self, layer: int, square: Tensor) -> Tensor:
        """Squared differences with the weights of their channels."""
        return square

    def train(self, mode: bool = True) -> PerceptualDistance:
        """Stay in evaluation mode: the network is frozen.

        Args:
            mode: Ignored.
        """
        del mode
        super().train(False)
        return self


class EfficientNetDistance(PerceptualDistance):
    """Compares what EfficientNet-Lite0 sees at strides 2, 4, 8 and 16.

    All channels count alike: nobody fitted weights to people's judgement, as LPIPS did. Sides of
    pictures must be multiples of 16.
    """

    BLOCKS = (0, 2, 4, 10)

    def __init__(self, network: EfficientNetLite) -> None:
        """Take the frozen network."""
        super().__init__()
        self.network = network.freeze()

    def _features(self, images: Tensor) -> list[Tensor]:
        assert isinstance(self.network, EfficientNetLite)
        return self.network.maps_after(self.network.normalise(images), self.BLOCKS)


class LpipsVgg16(PerceptualDistance):
    """LPIPS of Zhang et al. (2018) with VGG16, version 0.1, from its published weights."""

    # Channels of the convolutions; 'M' halves the picture.
    LAYERS = (64, 64, 'M', 128, 128, 'M', 256, 256, 256, 'M', 512, 512, 512, 'M', 512, 512, 512)
    CHANNELS = (64, 128, 256, 512, 512)

    _shift: Tensor
    _scale: Tensor

    def __init__(self, vgg: str | os.PathLike[str], linear: str | os.PathLike[str]) -> None:
        """Read the weights.

        Args:
            vgg: ImageNet's VGG16 as torchvision publishes it (vgg16-397923af.pth).
            linear: LPIPS's weights of channels (vgg.pth of its version 0.1).

        Raises:
            WeightsNotFoundError: A file isn't there.
            WeightsError: A file holds other weights.
        """
        super().__init__()
        parts: list[nn.Module] = []
        inputs = 3
        for layer in self.LAYERS:
            if isinstance(layer, str):
                parts.append(nn.MaxPool2d(2))
            else:
                parts += [nn.Conv2d(inputs, layer, 3, padding=1), nn.ReLU()]
                inputs = layer
        self.features = nn.Sequential(*parts)
        self.linear = nn.ModuleList(nn.Conv2d(c, 1, 1, bias=False) for c in self.CHANNELS)
        for module, path, prefix, network, unused in (
            (self.features, vgg, 'features.', 'VGG16', ('classifier.',)),
            (self.linear, linear, 'lin', 'LPIPS', ()),
        ):
            if not Path(path).is_file():
                raise WeightsNotFoundError(f'there are no weights of {network} at {path}')
            state = {
                name.removeprefix(prefix).replace('.model.1.', '.'): tensor
                for name, tensor in read_weights(Path(path)).items()
            }
            load_into(module, state, network, str(path), unused)
        # LPIPS's own normalisation, of pictures from -1 to 1.
        shift, scale = [-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]
        self.register_buffer('_shift', torch.tensor(shift).view(3, 1, 1), persistent=False)
        self.register_buffer('_scale', torch.tensor(scale).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.train(False)

    def _features(self, images: Tensor) -> list[Tensor]:
        x = (2 * images - 1 - self._shift) / self._scale
        maps = []
        for part in self.features:
            if isinstance(part, nn.MaxPool2d):
                maps.append(x)
            x = part(x)
        return [*maps, x]

    def _weigh(self, layer: int, square: Tensor) -> Tensor:
        weighted: Tensor = self.linear[layer](square)
        return weighted


def _unit(maps: Tensor) -> Tensor:
    return F.normalize(maps.float(), dim=1, eps=1e-10)
