"""Receives what a planner looks at, in a thread of its own, and judges whether it is fresh."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, JointState

from dexwm.control.joint_state_buffer import JointStateBuffer
from dexwm.control.trajectory_message import nanoseconds
from dexwm.geometry.camera import CameraIntrinsics, CameraIntrinsicsError
from dexwm.robot.joints import JOINTS
from dexwm_planner.camera.image_conversion import ImageMessageError, image_to_array

IMAGE_TOPIC = '/camera/color/image_raw'
CAMERA_INFO_TOPIC = '/camera/color/camera_info'

_REMEMBERED = 400


class StaleInputError(RuntimeError):
    """Something that a plan needs is missing, too old, or cannot be used.

    Attributes:
        of_picture: whether it is the picture or its CameraInfo; otherwise the joint states.
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
        intrinsics: of its camera.
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
        self, node: Node, image_timeout: float, joint_state_timeout: float, max_skew: float
    ) -> None:
        """Starts to listen.

        Args:
            node: whose names, remappings, clock and context are used.
            image_timeout: age at which a picture is too old, s.
            joint_state_timeout: age at which joint states are too old, s.
            max_skew: largest time between a picture and the joint states beside it, s.
        """
        self._image_timeout, self._max_skew = image_timeout, max_skew
        self._clock = node.get_clock()
        self._changed = threading.Condition()
        self._image: Image | None = None
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
        now_ns = self._clock.now().nanoseconds
        with self._changed:
            image, info = self._image, self._camera_info
            stale = self._joint_states.problem(now_ns)
            history = tuple(self._history)
            malformed = self._malformed
        if image is None:
            raise StaleInputError(
                f'no picture has come on {IMAGE_TOPIC}: is the camera running?', True
            )
        stamp_ns = nanoseconds(image.header.stamp)
        age = (now_ns - stamp_ns) * 1e-9
        if age > self._image_timeout or stamp_ns < taken_after_ns:
            raise StaleInputError(
                f'the newest picture is {age:.2f} s old, at most {self._image_timeout:g} s are '
                'allowed: is the camera running?',
                True,
            )
        if age < -self._image_timeout:
            raise StaleInputError(
                f'the picture is stamped {-age:.2f} s in the future; synchronise the clocks', True
            )
        if info is None:
            raise StaleInputError(f'no camera matrix has come on {CAMERA_INFO_TOPIC}', True)
        if stale:
            raise StaleInputError(malformed or stale, False)
        when_ns, positions = min(history, key=lambda entry: abs(entry[0] - stamp_ns))
        skew = abs(when_ns - stamp_ns) * 1e-9
        if skew > self._max_skew:
            raise StaleInputError(
                f'the joint states nearest to the picture are {skew:.2f} s from it, at most '
                f'{self._max_skew:g} s are allowed: synchronise the clocks',
                False,
            )
        return Inputs(stamp_ns, _picture(image), _intrinsics(info, image), positions)

    def wait(self, taken_after_ns: int) -> Inputs:
        """Waits for a picture that was taken after a time.

        Raises:
            StaleInputError: with what did not come within the picture's time-out.
        """
        deadline_ns = self._clock.now().nanoseconds + round(self._image_timeout * 1e9)
        while True:
            try:
                return self.newest(taken_after_ns)
            except StaleInputError:
                if self._clock.now().nanoseconds > deadline_ns:
                    raise
            with self._changed:
                self._changed.wait(0.02)

    def close(self) -> None:
        """Stops receiving."""
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()

    def _on_image(self, message: Image) -> None:
        with self._changed:
            self._image = message
            self._changed.notify_all()

    def _on_camera_info(self, message: CameraInfo) -> None:
        with self._changed:
            self._camera_info = message

    def _on_joint_state(self, message: JointState) -> None:
        stamp_ns = nanoseconds(message.header.stamp)
        with self._changed:
            try:
                self._joint_states.observe(
                    message.name, message.position, stamp_ns, self._clock.now().nanoseconds
                )
            except ValueError as error:
                self._malformed = f'a malformed joint state: {error}'
                return
            positions = self._joint_states.positions
            if np.isfinite(positions).all():
                self._history.append((stamp_ns, positions))

    def _spin(self) -> None:
        # The context may be shut down by somebody else.
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()


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
