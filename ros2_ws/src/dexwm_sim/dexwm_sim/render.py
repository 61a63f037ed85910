"""Pictures of the cell.

MuJoCo draws through OpenGL without a screen: through EGL, which uses the GPU where there is one
and else Mesa's software renderer. The environment variable ``MUJOCO_GL=osmesa`` chooses OSMesa
instead, where EGL cannot be had; ``MUJOCO_EGL_DEVICE_ID`` chooses among GPUs.
"""

from __future__ import annotations

import atexit
import importlib
import os
import weakref
from types import TracebackType
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from dexwm_sim.scene import HEAD_CAMERA

_LARGEST_GEOM_COUNT = 2000
_BACKENDS = ('egl', 'osmesa')

_open_renderers: weakref.WeakSet[CellRenderer] = weakref.WeakSet()


class RenderError(RuntimeError):
    """OpenGL gives no picture."""


class CellRenderer:
    """Draws a model from one of its cameras.

    It belongs to the thread that made it. Use it as a context manager, or call ``close``.
    """

    def __init__(
        self, model: mujoco.MjModel, width: int, height: int, camera: str = HEAD_CAMERA
    ) -> None:
        """Makes an OpenGL context.

        Args:
            model: The model to draw; its ``vis`` fields set the quality.
            width: Width of the pictures (pixels).
            height: Height of the pictures (pixels). The view is that of the camera's own
                intrinsics, scaled: keep their aspect ratio.
            camera: Name of a camera in the model.

        Raises:
            RenderError: If no OpenGL context can be made.
        """
        self._model = model
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = model.camera(camera).id
        self._options = mujoco.MjvOption()
        self._view = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), np.uint8)
        self._scene = mujoco.MjvScene(model, maxgeom=_LARGEST_GEOM_COUNT)
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        self._gl: Any = _make_context(width, height)
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        if not _open_renderers:
            # After EGL's own exit handler was registered, hence run before it: closing later
            # than EGL does is an error.
            atexit.unregister(_close_all)
            atexit.register(_close_all)
        _open_renderers.add(self)

    def render(self, data: mujoco.MjData) -> NDArray[np.uint8]:
        """Draws the state, whose kinematics must be up to date.

        Returns:
            The picture, RGB (height, width, 3).

        Raises:
            RenderError: If the renderer is closed.
        """
        if self._gl is None:
            raise RenderError('the renderer is closed')
        self._gl.make_current()
        mujoco.mjv_updateScene(
            self._model,
            data,
            self._options,
            None,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )
        mujoco.mjr_render(self._view, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._view, self._context)
        # OpenGL's rows start at the bottom.
        return np.ascontiguousarray(self._pixels[::-1])

    def close(self) -> None:
        """Frees the OpenGL context. May be called twice."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None
            _open_renderers.discard(self)

    def __enter__(self) -> CellRenderer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _close_all() -> None:
    for renderer in list(_open_renderers):
        renderer.close()


def _make_context(width: int, height: int) -> Any:
    backend = os.environ.get('MUJOCO_GL', '').lower() or 'egl'
    if backend not in _BACKENDS:
        raise RenderError(f'MUJOCO_GL={backend} is not supported; use one of {_BACKENDS}')
    # More threads hardly make Mesa's pictures faster, and take the cores from the physics.
    os.environ.setdefault('LP_NUM_THREADS', '1')
    try:
        # MuJoCo binds a backend when it is imported, and without MUJOCO_GL that would be one
        # that needs a screen.
        context = importlib.import_module(f'mujoco.{backend}').GLContext(width, height)
        context.make_current()
    except Exception as error:
        raise RenderError(
            f'no OpenGL context through {backend}: {error}. EGL needs system libraries: `sudo '
            'apt install libegl1 libgl1-mesa-dri`. Where EGL cannot work: `sudo apt install '
            'libosmesa6` and set MUJOCO_GL=osmesa.'
        ) from error
    return context
