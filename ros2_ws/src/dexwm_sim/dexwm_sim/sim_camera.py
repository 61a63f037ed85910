"""The head camera of the running cell: draws its newest state, in a process of its own."""

from __future__ import annotations

import time

import mujoco
import numpy as np
from numpy.typing import NDArray

from dexwm_sim.render import CellRenderer
from dexwm_sim.scene import build_model
from dexwm_sim.scene_config import SceneConfig
from dexwm_sim.shared_state import SharedState, SharedStateError, SharedStateMissingError, Snapshot

STALE_AFTER = 0.5
"""Age at which a state is no longer drawn (s)."""


class SimCameraError(RuntimeError):
    """There is no fresh state to draw. Calling `grab` again later is how to recover."""


class SimCamera:
    """Renders the state that the cell node shares, as its head camera sees it.

    Attaches on the first `grab`, and again by itself when the cell was restarted, also with
    another scene. Rendering contexts belong to a thread: call `grab` and `close` from one and
    the same.
    """

    def __init__(self, name: str, width: int, height: int) -> None:
        """Prepare to draw; nothing is opened before the first `grab`.

        Args:
            name: Name of the cell's shared state.
            width: Width of the picture (pixels).
            height: Height of the picture (pixels).

        Raises:
            ValueError: If the size is not positive.
        """
        if width < 1 or height < 1:
            raise ValueError(f'A picture of {width}x{height} pixels cannot be rendered.')
        self._name = name
        self._size = (width, height)
        self._state: SharedState | None = None
        self._model: mujoco.MjModel | None = None
        self._data: mujoco.MjData | None = None
        self._renderer: CellRenderer | None = None

    def grab(self) -> tuple[NDArray[np.uint8], int]:
        """Return the newest picture and when the state it shows held.

        Returns:
            The picture (height, width, 3) in RGB and the ROS system time (ns).

        Raises:
            SimCameraError: If no cell runs under the name, or its state is older than
                `STALE_AFTER`.
        """
        try:
            state = self._attached()
            snapshot = state.read()
        except SharedStateError as error:
            self.close()
            raise SimCameraError(str(error)) from error
        self._check_age(state, snapshot)
        assert self._data is not None and self._renderer is not None
        self._data.qpos[:] = snapshot.qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        return self._renderer.render(self._data), snapshot.stamp_ns

    def close(self) -> None:
        """Let go of the cell and the rendering context."""
        if self._renderer is not None:
            self._renderer.close()
        if self._state is not None:
            self._state.close()
        self._state = self._model = self._data = self._renderer = None

    def _attached(self) -> SharedState:
        if self._state is not None and not self._state.superseded():
            return self._state
        self.close()
        state = SharedState.attach(self._name)
        self._state = state
        model = build_model(SceneConfig.from_json(state.scene_json))
        if model.nq != state.nq:
            raise SharedStateMissingError(
                f'The cell {self._name!r} shares {state.nq} positions, but its scene has '
                f'{model.nq} here: run cell and camera from the same version.'
            )
        self._model, self._data = model, mujoco.MjData(model)
        self._renderer = CellRenderer(model, *self._size)
        return state

    def _check_age(self, state: SharedState, snapshot: Snapshot) -> None:
        age = (time.monotonic_ns() - snapshot.monotonic_ns) * 1e-9
        if age <= STALE_AFTER:
            return
        if state.writer_alive():
            raise SimCameraError(
                f'The cell {self._name!r} has not moved on for {age:.2f} s: its physics stands '
                'still although the process lives.'
            )
        self.close()
        raise SimCameraError(f'The cell {self._name!r} is gone since {age:.2f} s: start it again.')
