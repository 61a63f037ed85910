"""Image messages to arrays and back, with numpy and, where it works, with cv_bridge."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dexwm_franka_bringup import image_conversion
from dexwm_franka_bringup.image_conversion import (
    ImageMessageError,
    array_to_image,
    image_to_array,
)

COLOURS = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1}


def picture(encoding, height=5, width=7, seed=0):
    rng = np.random.default_rng(seed)
    if encoding == '16UC1':
        return rng.integers(0, 2**16, (height, width), dtype=np.uint16)
    if encoding == '32FC1':
        return rng.random((height, width), dtype=np.float32)
    channels = COLOURS[encoding]
    shape = (height, width) if channels == 1 else (height, width, channels)
    return rng.integers(0, 256, shape, dtype=np.uint8)


needs_cv_bridge = pytest.mark.skipif(
    image_conversion.CV_BRIDGE is None, reason='no cv_bridge that fits this OpenCV'
)


@pytest.fixture(params=['numpy'] + ['cv_bridge'] * (image_conversion.CV_BRIDGE is not None))
def converter(request, monkeypatch):
    """Runs a test with numpy and, where it works, with cv_bridge."""
    if request.param == 'numpy':
        monkeypatch.setattr(image_conversion, 'CV_BRIDGE', None)


@pytest.mark.parametrize('encoding', [*COLOURS, '16UC1', '32FC1'])
def test_message_carries_the_array_and_gives_it_back(converter, encoding):
    array = picture(encoding)
    header = Header(frame_id='head_camera_optical_frame')
    header.stamp.sec = 12
    msg = array_to_image(array, encoding, header)
    assert (msg.height, msg.width, msg.encoding) == (5, 7, encoding)
    assert msg.step * msg.height == len(msg.data) == array.nbytes
    assert (msg.header.frame_id, msg.header.stamp.sec) == ('head_camera_optical_frame', 12)
    back = image_to_array(msg, encoding)
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype


@pytest.mark.parametrize('encoding', COLOURS)
def test_every_colour_order_gives_the_same_rgb(converter, encoding):
    rgb = picture('rgb8')
    if encoding == 'mono8':
        rgb = np.repeat(rgb[..., :1], 3, axis=2)
    order = {'r': rgb[..., 0], 'g': rgb[..., 1], 'b': rgb[..., 2], 'a': np.full((5, 7), 9, 'u1')}
    if encoding == 'mono8':
        array = rgb[..., 0].copy()
    else:
        array = np.stack([order[letter] for letter in encoding[:-1]], axis=-1)
    np.testing.assert_array_equal(image_to_array(array_to_image(array, encoding)), rgb)


def test_mono8_of_a_colour_picture_is_its_luma(converter):
    rgb = picture('rgb8', 40, 40)
    luma = rgb @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    grey = image_to_array(array_to_image(rgb), 'mono8')
    assert np.abs(grey - luma).max() <= 1.0


@settings(max_examples=60, deadline=None)
@given(
    encoding=st.sampled_from([*COLOURS, '16UC1', '32FC1']),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(0, 13),
    bigendian=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_padded_rows_and_byte_order_change_nothing(
    encoding, height, width, padding, bigendian, seed
):
    array = picture(encoding, height, width, seed)
    rows = array.astype(array.dtype.newbyteorder('>' if bigendian else '<'))
    rows = np.frombuffer(rows.tobytes(), np.uint8).reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    msg = Image(
        height=height,
        width=width,
        encoding=encoding,
        step=padded.shape[1],
        is_bigendian=int(bigendian),
        data=padded.tobytes(),
    )
    np.testing.assert_array_equal(image_to_array(msg, encoding), array)


def test_the_array_does_not_share_the_messages_memory(converter):
    msg = array_to_image(picture('rgb8'))
    array = image_to_array(msg)
    before = array.copy()
    msg.data[0] ^= 255
    np.testing.assert_array_equal(array, before)


def wrong(**fields):
    msg = array_to_image(picture('rgb8'))
    for name, value in fields.items():
        setattr(msg, name, value)
    return msg


@pytest.mark.parametrize(
    ('fields', 'reason'),
    [
        ({'width': 0}, 'empty'),
        ({'height': 0}, 'empty'),
        ({'step': 20}, 'step of 20 bytes is shorter than a row of 7 rgb8 pixels'),
        ({'width': 8}, 'shorter than a row of 8'),
        ({'data': bytes(104)}, 'data has 104 bytes, step 21 times height 5 is 105'),
        ({'data': b''}, 'data has 0 bytes'),
        ({'height': 6}, 'data has 105 bytes'),
        ({'encoding': 'yuv422'}, "unknown encoding 'yuv422'.*rgb8"),
        ({'encoding': ''}, 'unknown encoding'),
        ({'encoding': '16UC1', 'width': 1, 'step': 21}, '16UC1 does not convert to rgb8'),
    ],
)
def test_a_malformed_message_is_refused_with_the_reason(converter, fields, reason):
    with pytest.raises(ImageMessageError, match=reason):
        image_to_array(wrong(**fields))


@pytest.mark.parametrize(
    ('array', 'encoding'),
    [
        (np.zeros((5, 7), np.uint8), 'rgb8'),
        (np.zeros((5, 7, 4), np.uint8), 'rgb8'),
        (np.zeros((5, 7, 3), np.float32), 'rgb8'),
        (np.zeros((0, 7, 3), np.uint8), 'rgb8'),
        (np.zeros((5, 7, 1), np.uint8), 'mono8'),
        (np.zeros((5, 7, 3), np.uint8), 'jpeg'),
    ],
)
def test_an_array_that_is_not_of_the_encoding_is_refused(converter, array, encoding):
    with pytest.raises(ImageMessageError):
        array_to_image(array, encoding)


@needs_cv_bridge
def test_cv_bridge_and_numpy_give_the_same(monkeypatch):
    bridge = image_conversion.CV_BRIDGE
    pairs = [(a, b) for a in COLOURS for b in COLOURS] + [(d, d) for d in ('16UC1', '32FC1')]
    for encoding, wanted in pairs:
        array = picture(encoding, 48, 64)
        monkeypatch.setattr(image_conversion, 'CV_BRIDGE', bridge)
        bridge_msg = array_to_image(array, encoding)
        bridge_array = image_to_array(bridge_msg, wanted)
        monkeypatch.setattr(image_conversion, 'CV_BRIDGE', None)
        assert array_to_image(array, encoding) == bridge_msg
        np.testing.assert_array_equal(image_to_array(bridge_msg, wanted), bridge_array)


@needs_cv_bridge
def test_a_cv_bridge_of_another_opencv_is_not_used(monkeypatch):
    monkeypatch.setattr(cv2, 'CV_8UC3', cv2.CV_8UC3 + 1)
    assert image_conversion._working_cv_bridge() is None
