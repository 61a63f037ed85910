"""Receives what a planner looks at, in a thread of its own, and judges whether it is fresh."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, JointState

from dexwm.calibration.lens import Lens, LensError
from dexwm.control.joint_state_buffer import JointStateBuffer
from dexwm.control.trajectory_message import nanoseconds
from dexwm.geometry.camera import CameraIntrinsics, CameraIntrinsicsError
from dexwm.robot.joints import JOINTS
from dexwm_franka_bringup.image_conversion import ImageMessageError, image_to_array

IMAGE_TOPIC = '/camera/color/image_raw'
CAMERA_INFO_TOPIC = '/camera/color/camera_info'

_REMEMBERED = 400
# So long may ROS time stand, as that of a slow simulation or replay does between two messages (s).
_STANDSTILL = 5.0
_POLL = 0.02


class StaleInputError(RuntimeError):
    """Something that a plan needs is missing, too old, or cannot be used.

    Attributes:
        of_picture: whether it is the picture, its CameraInfo or the clock; otherwise the joint
            states.
    """

    def __init__(self, reason: str, of_picture: bool) -> None:
        super().__init__(reason)
        self.of_picture = of_picture


@dataclass(frozen=True)
class Inputs:
    """A picture, and where the joints were when it was taken.

    Attributes:
        stamp_ns: when the picture was taken (ns).
        image: RGB (height, width, 3).
        intrinsics: of its camera, pixels.
        joint_positions: (23,), rad.
    """

    stamp_ns: int
    image: NDArray[np.uint8]
    intrinsics: CameraIntrinsics
    joint_positions: NDArray[np.float64]


class PlannerInputs:
    """Subscribes to picture, CameraInfo and joint states beside a node, with a hidden node.

    Planning keeps a node's executor busy for seconds; these messages are taken in meanwhile.
    """

    def __init__(
        self,
        node: Node,
        image_timeout: float,
        joint_state_timeout: float,
        max_skew: float,
        undistort: bool = False,
    ) -> None:
        """Starts to listen.

        Args:
            node: whose names, remappings, clock and context are used.
            image_timeout: age at which a picture is too old, s.
            joint_state_timeout: age at which joint states are too old, s.
            max_skew: largest time between a picture and the joint states beside it, s.
            undistort: whether the distortion that CameraInfo tells is taken out of pictures.
        """
        self._image_timeout, self._max_skew = image_timeout, max_skew
        self._undistort = undistort
        self._clock = node.get_clock()
        self._clock_ns, self._clock_went_on = -1, time.monotonic()
        self._changed = threading.Condition()
        self._image: Image | None = None
        self._image_came = -np.inf
        self._camera_info: CameraInfo | None = None
        self._joint_states = JointStateBuffer(JOINTS, joint_state_timeout)
        self._history: deque[tuple[int, NDArray[np.float64]]] = deque(maxlen=_REMEMBERED)
        self._malformed = ''
        self._node = Node(
            f'_{node.get_name()}_inputs',
            namespace=node.get_namespace(),
            context=node.context,
            use_global_arguments=False,
            start_parameter_services=False,
            enable_rosout=False,
        )
        for kind, topic, callback in (
            (Image, IMAGE_TOPIC, self._on_image),
            (CameraInfo, CAMERA_INFO_TOPIC, self._on_camera_info),
            (JointState, '/joint_states', self._on_joint_state),
        ):
            self._node.create_subscription(
                kind, node.resolve_topic_name(topic), callback, qos_profile_sensor_data
            )
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name='inputs', daemon=True)
        self._thread.start()

    def problem(self) -> str:
        """Why no plan can be made now; empty if one can."""
        try:
            self.newest()
        except StaleInputError as error:
            return str(error)
        return ''

    def newest(self, taken_after_ns: int = 0) -> Inputs:
        """The newest picture with the joint states of its time.

        Args:
            taken_after_ns: a picture that was taken earlier is too old.

        Raises:
            StaleInputError: with what is missing, too old or contradictory.
        """
        with self._changed:
            now_ns = self._now_ns()
            standstill = time.monotonic() - self._clock_went_on
            image_since = time.monotonic() - self._image_came
            image, info = self._image, self._camera_info
            stale = self._joint_states.problem(now_ns)
            history = tuple(self._history)
            malformed = self._malformed
        if standstill > _STANDSTILL:
            # Ages stand still with it.
            raise StaleInputError(
                f'ROS time has stood still for {standstill:.1f} s: does /clock still come?', True
            )
        if image is None:
            raise StaleInputError(
                f'no picture has come on {IMAGE_TOPIC}: is the camera running?', True
            )
        stamp_ns = nanoseconds(image.header.stamp)
        age = (now_ns - stamp_ns) * 1e-9
        if age - image_since > self._image_timeout:
            raise StaleInputError(
                f'the newest picture was {age - image_since:.2f} s old when it came, at most '
                f'{self._image_timeout:g} s are allowed: synchronise the clocks, and set '
                'use_sim_time as the camera has it',
                True,
            )
        if age > self._image_timeout:
            raise StaleInputError(
                f'the newest picture is {age:.2f} s old, at most {self._image_timeout:g} s are '
                'allowed: is the camera running?',
                True,
            )
        if stamp_ns < taken_after_ns:
            raise StaleInputError(
                f'the newest picture is {age:.2f} s old and no newer one comes: is the camera '
                'running, and with use_sim_time the clock?',
                True,
            )
        if age < -self._image_timeout:
            raise StaleInputError(
                f'the picture is stamped {-age:.2f} s in the future; synchronise the clocks', True
            )
        if info is None:
            raise StaleInputError(f'no camera matrix has come on {CAMERA_INFO_TOPIC}', True)
        if stale:
            raise StaleInputError(f'{stale}; {malformed}' if malformed else stale, False)
        when_ns, positions = min(history, key=lambda entry: abs(entry[0] - stamp_ns))
        skew = abs(when_ns - stamp_ns) * 1e-9
        if skew > self._max_skew:
            raise StaleInputError(
                f'the joint states nearest to the picture are {skew:.2f} s from it, at most '
                f'{self._max_skew:g} s are allowed: synchronise the clocks',
                False,
            )
        picture, intrinsics = _picture(image), _intrinsics(info, image)
        if self._undistort:
            picture = _undistorted(picture, intrinsics, info)
        return Inputs(stamp_ns, picture, intrinsics, positions)

    def wait(self, taken_after_ns: int, should_stop: Callable[[], bool]) -> Inputs:
        """Waits for a picture that was taken after a time.

        Args:
            taken_after_ns: that time, ns.
            should_stop: asked all the time; ends the waiting.

        Raises:
            StaleInputError: with what did not come within the picture's time-out, or until
                `should_stop`.
        """
        # Not in ROS time, which may stand still.
        deadline = time.monotonic() + self._image_timeout
        while True:
            try:
                return self.newest(taken_after_ns)
            except StaleInputError:
                if should_stop() or time.monotonic() > deadline:
                    raise
            with self._changed:
                self._changed.wait(_POLL)

    def close(self) -> None:
        """Stops receiving."""
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()

    def _on_image(self, message: Image) -> None:
        with self._changed:
            self._image, self._image_came = message, time.monotonic()
            self._changed.notify_all()

    def _on_camera_info(self, message: CameraInfo) -> None:
        with self._changed:
            self._camera_info = message

    def _on_joint_state(self, message: JointState) -> None:
        stamp_ns = nanoseconds(message.header.stamp)
        with self._changed:
            now_ns = self._now_ns()
            try:
                self._joint_states.observe(message.name, message.position, stamp_ns, now_ns)
            except ValueError as error:
                self._malformed = f'a malformed joint state came: {error}'
                return
            if not self._joint_states.problem(now_ns):
                self._malformed = ''
            positions = self._joint_states.positions
            if np.isfinite(positions).all():
                self._history.append((stamp_ns, positions))

    def _now_ns(self) -> int:
        """ROS time; takes note that it goes on. To be called with the lock."""
        now_ns = int(self._clock.now().nanoseconds)
        if now_ns != self._clock_ns:
            self._clock_ns, self._clock_went_on = now_ns, time.monotonic()
        return now_ns

    def _spin(self) -> None:
        # The context may be shut down by somebody else.
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()


def lens_of(info: CameraInfo) -> Lens:
    """The distortion that a CameraInfo tells; one that tells of none has none.

    Raises:
        LensError: The message's model is not known, or its coefficients do not fit it.
    """
    return Lens(info.distortion_model, tuple(info.d)) if info.d else Lens()


def _undistorted(
    image: NDArray[np.uint8], intrinsics: CameraIntrinsics, info: CameraInfo
) -> NDArray[np.uint8]:
    """The picture (height, width, 3) of the same camera without distortion.

    What the lens did not see is black.
    """
    try:
        lens = lens_of(info)
    except LensError as error:
        raise StaleInputError(f'the lens distortion cannot be used: {error}', True) from error
    if not any(lens.coefficients):
        return image
    return np.asarray(cv2.remap(image, _distortion(lens, intrinsics), None, cv2.INTER_LINEAR))


@lru_cache(maxsize=2)
def _distortion(lens: Lens, intrinsics: CameraIntrinsics) -> NDArray[np.float32]:
    """Where the pixels of a picture without distortion are in the one that comes.

    Returns:
        (height, width, 2) columns and rows.
    """
    columns, rows = np.meshgrid(np.arange(intrinsics.width), np.arange(intrinsics.height))
    at = lens.distorted(np.stack([columns.ravel(), rows.ravel()], axis=-1), intrinsics)
    return at.reshape(intrinsics.height, intrinsics.width, 2).astype(np.float32)


def _picture(message: Image) -> NDArray[np.uint8]:
    try:
        return np.asarray(image_to_array(message, 'rgb8'))
    except ImageMessageError as error:
        raise StaleInputError(f'the picture cannot be used: {error}', True) from error


def _intrinsics(info: CameraInfo, image: Image) -> CameraIntrinsics:
    if (info.width, info.height) != (image.width, image.height):
        raise StaleInputError(
            f'the camera matrix is for {info.width}x{info.height} pixels, the picture has '
            f'{image.width}x{image.height}: both must be of one size',
            True,
        )
    k = info.k
    try:
        return CameraIntrinsics(
            int(info.width), int(info.height), float(k[0]), float(k[4]), float(k[2]), float(k[5])
        )
    except CameraIntrinsicsError as error:
        raise StaleInputError(f'the camera matrix cannot be used: {error}', True) from error
