"""Pictures of the simulated cell."""

from __future__ import annotations

import importlib
from typing import Any

from dexwm.geometry.camera import CameraIntrinsics
from dexwm.geometry.preprocess import ResizeAndCrop
from dexwm_planner.camera.sources.calibration import CameraCalibration
from dexwm_planner.camera.sources.pacer import Pacer
from dexwm_planner.camera.sources.source import CameraConfigError, CameraSourceError, Frame


class SimSource:
    """Draws the running cell through its head camera, at the size that is needed in the end."""

    def __init__(
        self, name: str, intrinsics: CameraIntrinsics, height: int, width: int, rate: float
    ) -> None:
        """Prepares to draw; the cell may start later.

        Args:
            name: name of the cell's shared state; the one of this user and ROS domain where
                empty.
            intrinsics: the head camera of the cell's configuration.
            height: rows that will be published.
            width: columns that will be published.
            rate: pictures a second.

        Raises:
            CameraConfigError: where the simulator is not installed.
        """
        try:
            # Imported here: on the robot's PC the simulator need not be installed.
            self._module: Any = importlib.import_module('dexwm_sim.sim_camera')
            shared_state = importlib.import_module('dexwm_sim.shared_state')
            render = importlib.import_module('dexwm_sim.render')
        except ImportError as error:
            raise CameraConfigError(
                f'source sim draws with the package dexwm_sim, which cannot be imported: {error}. '
                'Build it in the workspace (colcon build --packages-up-to dexwm_sim), or choose '
                'source device or file.'
            ) from error
        self._errors = (self._module.SimCameraError, render.RenderError)
        self._name = name or shared_state.default_name()
        # What the node would throw away is not drawn.
        step = ResizeAndCrop.to_cover(intrinsics.width, intrinsics.height, height, width)
        self._intrinsics = intrinsics.resized(step.scaled_width, step.scaled_height)
        self._pacer = Pacer(rate)
        self._camera: Any = None

    def open(self) -> None:
        """Prepares the camera; it attaches to the cell in the first read."""
        self._camera = self._module.SimCamera(
            self._name, self._intrinsics.width, self._intrinsics.height
        )

    def read(self) -> Frame:
        """Draws the newest state of the cell. Raises as `CameraSource.read`."""
        self._pacer.wait()
        try:
            image, stamp_ns = self._camera.grab()
        except self._errors as error:
            raise CameraSourceError(str(error)) from error
        return Frame(image, stamp_ns, CameraCalibration.pinhole(self._intrinsics))

    def close(self) -> None:
        """Lets go of the cell and of the rendering context."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None
