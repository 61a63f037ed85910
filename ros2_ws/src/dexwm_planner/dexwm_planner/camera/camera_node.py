"""The node `camera`: pictures with their CameraInfo, from the cell, a device or a file."""

from __future__ import annotations

import sys

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy._rclpy_pybind11 import RCLError
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from dexwm.geometry.preprocess import ResizeAndCrop
from dexwm_franka_bringup.image_conversion import CV_BRIDGE, array_to_image
from dexwm_planner.camera.camera_grabber import CameraGrabber, GrabberStatus
from dexwm_planner.camera.camera_parameters import CameraParameters
from dexwm_planner.camera.sources.source import CameraConfigError, Frame

_DIAGNOSTICS_PERIOD = 1.0
_STOP_TIMEOUT = 5.0


class CameraNode(Node):
    """Publishes camera/color/image_raw and camera/color/camera_info, stamped at capture.

    Every picture goes through the one resize and crop (`dexwm.geometry.preprocess`), and the
    CameraInfo belongs to what comes out of it. /diagnostics says once a second how it goes.

    Raises:
        CameraConfigError: where the parameters ask for what can never work.
    """

    def __init__(self, **node_arguments: object) -> None:
        super().__init__('camera', **node_arguments)
        self._settings = CameraParameters(self)
        source = self._settings.make_source()
        qos = self._settings.qos
        self._image_publisher = self.create_publisher(Image, 'camera/color/image_raw', qos)
        self._info_publisher = self.create_publisher(CameraInfo, 'camera/color/camera_info', qos)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._step: ResizeAndCrop | None = None
        self._calibrated = False
        self._malformed_before = 0
        self._grabber = CameraGrabber(
            source,
            self._publish,
            self._log_problem,
            self.get_logger().info,
            self._settings.retry_period,
        )
        self.create_timer(_DIAGNOSTICS_PERIOD, self._report)
        self.get_logger().info(
            f'source {self._settings.source}, {self._settings.rate:g} Hz, images converted '
            f'by {"numpy" if CV_BRIDGE is None else "cv_bridge"}'
        )
        self._grabber.start()

    def destroy_node(self) -> None:
        """Stops the grabbing, then the node."""
        # First the thread, which publishes.
        self._grabber.stop(_STOP_TIMEOUT)
        super().destroy_node()

    def _log_problem(self, reason: str) -> None:
        # Before the first frame the source may only be slower to start than this node.
        # (Two lines, for rclpy ties a severity to the line that logs.)
        if self._grabber.status().frames:
            self.get_logger().error(reason)
        else:
            self.get_logger().warning(reason)

    def _publish(self, frame: Frame) -> None:
        """Runs in the grabber's thread."""
        height, width = frame.image.shape[:2]
        if self._step is None or (self._step.source_height, self._step.source_width) != (
            height,
            width,
        ):
            self._step = ResizeAndCrop.to_cover(
                width, height, self._settings.height or height, self._settings.width or width
            )
        header = Header(
            stamp=Time(nanoseconds=frame.stamp_ns).to_msg(), frame_id=self._settings.frame_id
        )
        image = array_to_image(self._step.apply(frame.image), 'rgb8', header)
        self._calibrated = frame.calibration is not None
        if frame.calibration is None:
            # Zeros in K are how sensor_msgs/CameraInfo says "not calibrated".
            info = CameraInfo(header=header, width=image.width, height=image.height)
        else:
            info = frame.calibration.resized_and_cropped(self._step).to_message(header)
        self._image_publisher.publish(image)
        self._info_publisher.publish(info)

    def _report(self) -> None:
        status = self._grabber.status()
        level, message = judge(
            status, self._settings.rate, self._calibrated, self._malformed_before
        )
        self._malformed_before = status.malformed
        values = {
            'source': self._settings.source,
            'frames': str(status.frames),
            'malformed frames': str(status.malformed),
            'failures': str(status.failures),
            'rate (Hz)': f'{status.rate:.2f}',
            'age of last frame (s)': 'none' if status.age is None else f'{status.age:.3f}',
        }
        report = DiagnosticArray()
        report.header.stamp = self.get_clock().now().to_msg()
        report.status = [
            DiagnosticStatus(
                level=level,
                name='camera: frames',
                message=message,
                hardware_id=self._settings.source,
                values=[KeyValue(key=key, value=value) for key, value in values.items()],
            )
        ]
        self._diagnostics.publish(report)


def judge(
    status: GrabberStatus, rate: float, calibrated: bool, malformed_before: int
) -> tuple[bytes, str]:
    """Level and message of the diagnostics.

    Args:
        status: of the grabber.
        rate: pictures a second that were asked for.
        calibrated: whether the last frame had a calibration.
        malformed_before: malformed frames up to the last report.

    Returns:
        The level of diagnostic_msgs/DiagnosticStatus and what to tell.
    """
    if status.problem is not None:
        return DiagnosticStatus.ERROR, status.problem
    if status.age is not None and status.age > max(0.5, 3 / rate):
        broken = f'; last malformed: {status.last_malformed}' if status.last_malformed else ''
        return DiagnosticStatus.ERROR, f'no frame for {status.age:.1f} s{broken}'
    if status.malformed > malformed_before:
        count = status.malformed - malformed_before
        return (
            DiagnosticStatus.WARN,
            f'{count} malformed frames since the last report: {status.last_malformed}',
        )
    if not calibrated:
        return DiagnosticStatus.WARN, 'not calibrated: camera_info_url is empty, K is zero'
    if status.rate < 0.8 * rate:
        return DiagnosticStatus.WARN, f'{status.rate:.1f} Hz, {rate:g} Hz were asked for'
    return DiagnosticStatus.OK, f'{status.rate:.1f} Hz'


def main() -> int:
    """Runs the node; 1 where its parameters cannot work."""
    rclpy.init()
    node = None
    try:
        node = CameraNode()
        rclpy.spin(node)
    except (
        CameraConfigError,
        InvalidParameterTypeException,
        InvalidParameterValueException,
    ) as error:
        print(f'camera: {error}', file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RCLError:
        if rclpy.ok():
            raise
        # Asked to stop while it was starting.
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
