"""Pictures on surfaces."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

_LARGEST_SIDE = 512


class UnreadableTextureError(RuntimeError):
    """A texture file that cannot be decoded."""


def add_textured_material(
    spec: mujoco.MjSpec,
    name: str,
    picture: Path,
    *,
    per_metre: float = 0.0,
    specular: float = 0.15,
) -> None:
    """Adds a material that shows a picture.

    Args:
        spec: Model to add to.
        name: Name of the material; its texture gets the same.
        picture: Picture file.
        per_metre: Repetitions of the picture per metre; zero: the mesh's texture coordinates.
        specular: Specular reflectance.

    Raises:
        UnreadableTextureError: If the file is no picture.
    """
    image = _read(picture)
    pixels = spec.add_texture(
        name=name,
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        width=image.shape[1],
        height=image.shape[0],
        nchannel=3,
    )
    # Rows from the bottom, as OpenGL and the texture coordinates of meshes have it.
    pixels.data = image[::-1].tobytes()
    material = spec.add_material(name=name)
    textures = [''] * mujoco.mjtTextureRole.mjNTEXROLE
    textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    material.textures = textures
    material.specular = specular
    if per_metre:
        material.texuniform = True
        material.texrepeat = [per_metre, per_metre]


@functools.cache
def _read(picture: Path) -> NDArray[np.uint8]:
    """RGB (height, width, 3).

    Read once: decoding takes longer than all else that building a cell does. Reduced to
    512 pixels: the camera sees no more of it, and OpenGL takes it up faster.
    """
    image = cv2.imread(str(picture), cv2.IMREAD_COLOR)
    if image is None:
        raise UnreadableTextureError(f'{picture} is not a picture that OpenCV can read')
    scale = _LARGEST_SIDE / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[..., ::-1], np.uint8)
