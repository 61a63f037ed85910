"""sensor_msgs/Image to numpy and back, with cv_bridge where it works and without where not.

cv_bridge does not come with ROS 2 from wheels, and one that was built against another OpenCV
major version than the `cv2` in use imports well and then fails in each conversion. So both ways
exist, give the same arrays and the same messages, and refuse the same malformed messages.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header


class ImageMessageError(ValueError):
    """Raised for an Image message, or an array, whose parts contradict each other."""


class _Encoding(NamedTuple):
    dtype: np.dtype[Any]
    channels: int
    colour: str | None
    """OpenCV's name of the colour order; None where the values are no colour (depth)."""


_ENCODINGS = {
    'rgb8': _Encoding(np.dtype(np.uint8), 3, 'RGB'),
    'bgr8': _Encoding(np.dtype(np.uint8), 3, 'BGR'),
    'rgba8': _Encoding(np.dtype(np.uint8), 4, 'RGBA'),
    'bgra8': _Encoding(np.dtype(np.uint8), 4, 'BGRA'),
    'mono8': _Encoding(np.dtype(np.uint8), 1, 'GRAY'),
    '16UC1': _Encoding(np.dtype(np.uint16), 1, None),
    '32FC1': _Encoding(np.dtype(np.float32), 1, None),
}
"""The encodings that are understood, by the names of sensor_msgs/image_encodings.hpp."""


def _working_cv_bridge() -> Any | None:
    """A CvBridge that fits the `cv2` in use, or None."""
    try:
        from cv_bridge import CvBridge
        from cv_bridge.boost.cv_bridge_boost import getCvType
    except (ImportError, AttributeError):  # AttributeError: built against another numpy
        return None
    # OpenCV 5 renumbered its types: a cv_bridge built with 4 then looks up numbers that are gone.
    return CvBridge() if getCvType('bgr8') == cv2.CV_8UC3 else None


CV_BRIDGE = _working_cv_bridge()
"""The CvBridge that converts, or None where numpy and OpenCV do it."""


def image_to_array(msg: Image, encoding: str = 'rgb8') -> NDArray[Any]:
    """The picture in a message.

    Args:
        msg: any of the encodings rgb8, bgr8, rgba8, bgra8, mono8, 16UC1, 32FC1; rows may be
            padded, 16UC1 and 32FC1 may have either byte order.
        encoding: wanted; the 8-bit encodings convert to one another, 16UC1 and 32FC1 only to
            themselves.

    Returns:
        (height, width, channels), or (height, width) for one channel; native byte order, its own
        memory.

    Raises:
        ImageMessageError: where the message has no pixels, an unknown encoding, a step shorter
            than a row, or data of another length than step times height; or where its encoding
            does not convert to the wanted one.
    """
    source = _encoding(msg.encoding)
    wanted = _encoding(encoding)
    if msg.encoding != encoding and None in (source.colour, wanted.colour):
        raise ImageMessageError(f'{msg.encoding} does not convert to {encoding}')
    row_bytes = msg.width * source.channels * source.dtype.itemsize
    if msg.width == 0 or msg.height == 0:
        raise ImageMessageError(f'image of {msg.width}x{msg.height} pixels is empty')
    if msg.step < row_bytes:
        raise ImageMessageError(
            f'step of {msg.step} bytes is shorter than a row of {msg.width} {msg.encoding} '
            f'pixels ({row_bytes} bytes)'
        )
    if len(msg.data) != msg.step * msg.height:
        raise ImageMessageError(
            f'data has {len(msg.data)} bytes, step {msg.step} times height {msg.height} is '
            f'{msg.step * msg.height}'
        )
    native = bool(msg.is_bigendian) == (sys.byteorder == 'big')
    # cv_bridge shears rows whose padding is not whole pixels, and its byte swap needs numpy 1.
    if CV_BRIDGE is not None and msg.step == row_bytes and native:
        return np.array(CV_BRIDGE.imgmsg_to_cv2(msg, encoding))
    dtype = source.dtype.newbyteorder('>' if msg.is_bigendian else '<')
    rows = np.frombuffer(msg.data, np.uint8).reshape(msg.height, msg.step)[:, :row_bytes]
    pixels = np.ascontiguousarray(rows).view(dtype)
    if source.channels > 1:
        pixels = pixels.reshape(msg.height, msg.width, source.channels)
    if msg.encoding == encoding:
        return pixels.astype(source.dtype)
    return np.asarray(cv2.cvtColor(pixels, _conversion(source, wanted)))


def array_to_image(
    array: NDArray[Any], encoding: str = 'rgb8', header: Header | None = None
) -> Image:
    """The message of a picture.

    Args:
        array: (height, width, channels), or (height, width) for one channel, of the encoding's
            type.
        encoding: what the array holds: rgb8, bgr8, rgba8, bgra8, mono8, 16UC1 or 32FC1.
        header: stamp and optical frame; empty where None.

    Raises:
        ImageMessageError: where the encoding is unknown or the array is not of it.
    """
    kind = _encoding(encoding)
    ndim = 2 if kind.channels == 1 else 3
    fits = array.ndim == ndim and (ndim == 2 or array.shape[2] == kind.channels)
    if not fits or array.dtype != kind.dtype or array.size == 0:
        shape = '(height, width)' if ndim == 2 else f'(height, width, {kind.channels})'
        raise ImageMessageError(
            f'{encoding} needs a filled array of shape {shape} and type {kind.dtype}, '
            f'got {array.shape} and {array.dtype}'
        )
    if CV_BRIDGE is not None:
        return CV_BRIDGE.cv2_to_imgmsg(array, encoding, header)
    msg = Image(
        height=array.shape[0],
        width=array.shape[1],
        encoding=encoding,
        step=array.shape[1] * kind.channels * kind.dtype.itemsize,
        # ROS counts the byte order of single bytes as little endian.
        is_bigendian=int(kind.dtype.itemsize > 1 and sys.byteorder == 'big'),
        # Bytes: rclpy copies them in one go, an array it would copy value by value.
        data=array.tobytes(),
    )
    if header is not None:
        msg.header = header
    return msg


def _encoding(name: str) -> _Encoding:
    if name not in _ENCODINGS:
        raise ImageMessageError(
            f'unknown encoding {name!r}: this understands {", ".join(_ENCODINGS)}'
        )
    return _ENCODINGS[name]


def _conversion(source: _Encoding, wanted: _Encoding) -> int:
    return int(getattr(cv2, f'COLOR_{source.colour}2{wanted.colour}'))
