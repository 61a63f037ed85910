"""Colour and blur of training pictures, the same for all pictures of a window."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# Of red, green and blue in brightness (ITU-R BT.601).
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_BLUR_SIGMA = (0.1, 2.0)
_BLUR_KERNEL = 3


@dataclass(frozen=True)
class ClipAugmentation:
    """Random colour jitter, greyness and blur; one draw for a whole clip.

    Attributes:
        brightness: factors are drawn from 1 - this to 1 + this.
        contrast: likewise, about the clip's mean brightness.
        saturation: likewise.
        hue: turns of the colour circle are drawn from minus to plus this.
        jitter_probability: how often these four are applied, in random order.
        grey_probability: how often colours are dropped.
        blur_probability: how often pictures are blurred, by a 3x3 Gaussian.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    jitter_probability: float = 0.5
    grey_probability: float = 0.2
    blur_probability: float = 0.5

    def __call__(self, images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """The clip with one draw of changes.

        Args:
            images: (n, H, W, 3) uint8, RGB. Not changed.
            rng: source of all choices.

        Returns:
            (n, H, W, 3) uint8.
        """
        clip = images.astype(np.float32)
        if rng.random() < self.jitter_probability:
            clip = self._jitter(clip, rng)
        if rng.random() < self.grey_probability:
            clip = np.repeat(_grey(clip), 3, axis=-1)
        if rng.random() < self.blur_probability:
            sigma = float(rng.uniform(*_BLUR_SIGMA))
            size = (_BLUR_KERNEL, _BLUR_KERNEL)
            clip = np.stack(
                [cv2.GaussianBlur(i, size, sigma, borderType=cv2.BORDER_REFLECT_101) for i in clip]
            )
        return np.clip(np.rint(clip), 0, 255).astype(np.uint8)

    def _jitter(self, clip: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        for step in rng.permutation(4):
            if step == 3:
                clip = _turn_hue(clip, float(rng.uniform(-self.hue, self.hue)))
                continue
            amount = (self.brightness, self.contrast, self.saturation)[step]
            factor = np.float32(rng.uniform(1 - amount, 1 + amount))
            if step == 0:
                clip = clip * factor
            elif step == 1:
                mean = _grey(clip).mean()
                clip = mean + factor * (clip - mean)
            else:
                grey = _grey(clip)
                clip = grey + factor * (clip - grey)
            clip = np.clip(clip, 0, 255)
        return clip


def _grey(clip: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(clip @ _LUMA, np.float32)[..., None]


def _turn_hue(clip: NDArray[np.float32], turn: float) -> NDArray[np.float32]:
    # One tall picture, as OpenCV converts one at a time.
    tall = clip.reshape(-1, clip.shape[2], 3)
    hsv = cv2.cvtColor(tall, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + 360 * turn) % 360
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32).reshape(clip.shape)
