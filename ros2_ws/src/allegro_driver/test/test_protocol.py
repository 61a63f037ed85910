"""Frames of the V4, byte by byte."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allegro_driver.protocol import (
    PWM_LIMITS,
    TORQUE_LIMITS,
    FingerPose,
    FingerTemperature,
    Frame,
    HandInfo,
    ProtocolError,
    SerialNumber,
    UnsupportedHand,
    arbitration_id,
    ask_info,
    ask_serial,
    check_generation,
    clamp_pwm,
    decode,
    servo_off,
    servo_on,
    set_periods,
    set_torques,
    split_id,
)

INFO = HandInfo(0x0402, 0x0105, False, 38, True, False, False)


@pytest.mark.parametrize(
    ('frame', 'identifier', 'data', 'remote'),
    [
        (servo_on(), 0x100, '', False),
        (servo_off(), 0x104, '', False),
        (servo_off(device=3), 0x107, '', False),
        (ask_info(), 0x200, '', True),
        (ask_serial(), 0x220, '', True),
        (set_periods(3, 0, 500), 0x204, '0300 0000 f401', False),
        (set_periods(0, 0, 0), 0x204, '0000 0000 0000', False),
    ],
)
def test_frames_to_the_hand(frame, identifier, data, remote):
    assert frame == Frame(identifier, bytes.fromhex(data), remote)


def test_torque_frames():
    # Index 1, -1, 375, -375; thumb 270 at the tip.
    pwm = np.array([1, -1, 375, -285] + [0] * 4 + [256, -256, 0, 0] + [525, -405, 0, 270])
    frames = set_torques(pwm)
    assert [frame.arbitration_id for frame in frames] == [0x180, 0x184, 0x188, 0x18C]
    assert [frame.data.hex(' ', 2) for frame in frames] == [
        '0100 ffff 7701 e3fe',
        '0000 0000 0000 0000',
        '0001 00ff 0000 0000',
        '0d02 6bfe 0000 0e01',
    ]


def test_poses_of_the_hand():
    # 11266 counts are a radian; 0x7fff and 0x8000 are the ends of the range.
    pose = decode(Frame(0x8C, bytes.fromhex('022c fed3 ff7f 0080')))
    assert isinstance(pose, FingerPose) and pose.finger == 3
    degrees = [math.degrees(q) for q in pose.positions]
    per_count = 333.3 / 65536
    assert degrees == pytest.approx(
        [11266 * per_count, -11266 * per_count, 32767 * per_count, -32768 * per_count]
    )
    assert pose.positions[0] == pytest.approx(1.0, abs=1e-4)
    assert [decode(Frame(0x80 + 4 * f, bytes(8))).finger for f in range(4)] == [0, 1, 2, 3]


def test_what_the_hand_says_of_itself():
    assert decode(Frame(0x200, bytes.fromhex('0204 0501 00 26 01'))) == INFO
    ill = decode(Frame(0x200, bytes.fromhex('0204 0501 01 46 06')))
    assert (ill.left, ill.celsius) == (True, 70)
    assert (ill.servo_on, ill.too_hot, ill.internal_fault) == (False, True, True)
    assert decode(Frame(0xE8, bytes([38, 39, 40, 41]))) == FingerTemperature(2, (38, 39, 40, 41))
    assert decode(Frame(0x220, b'A040R\0\xff1')) == SerialNumber('A040R1')


def test_frames_of_nobody_or_of_the_wrong_length():
    assert decode(Frame(0x300, bytes(8))) is None
    assert decode(ask_info()) is None
    for identifier, length in ((0x80, 7), (0xE0, 8), (0x200, 8), (0x220, 0)):
        with pytest.raises(ProtocolError, match='bytes instead of'):
            decode(Frame(identifier, bytes(length)))


@pytest.mark.parametrize(
    ('hardware', 'reason'),
    [(0x0500, 'is a V5'), (0x0501, 'currents in mA'), (0x0302, 'not a V4'), (0, 'not a V4')],
)
def test_other_generations_are_refused(hardware, reason):
    check_generation(INFO)
    with pytest.raises(UnsupportedHand, match=reason):
        check_generation(HandInfo(hardware, 0, False, 30, False, False, False))


def test_limits_are_wonik_s():
    fingers, thumb = [0.3125, 0.5625, 0.375, 0.2375], [0.4375, 0.3375, 0.225, 0.225]
    assert TORQUE_LIMITS.tolist() == pytest.approx(fingers * 3 + thumb)
    assert clamp_pwm(np.full(16, 0.1)).tolist() == [120] * 16
    assert clamp_pwm(np.full(16, -9.0)).tolist() == (-PWM_LIMITS).tolist()
    assert clamp_pwm(np.full(16, 0.2), np.full(16, 0.1)).tolist() == [120] * 16


def test_what_does_not_fit_is_refused():
    with pytest.raises(ProtocolError, match='device ids'):
        arbitration_id(0x20, 4)
    with pytest.raises(ProtocolError, match='periods'):
        set_periods(70000, 0, 0)
    with pytest.raises(ProtocolError, match='counts'):
        set_torques(PWM_LIMITS + 1)
    with pytest.raises(ProtocolError, match='11 bits'):
        Frame(0x800)
    with pytest.raises(ProtocolError, match='8 bytes'):
        Frame(0x80, bytes(9))
    with pytest.raises(ProtocolError, match='no data'):
        Frame(0x80, bytes(1), remote=True)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 0x7FF), st.binary(max_size=8), st.booleans())
def test_no_frame_breaks_the_decoder(identifier, data, remote):
    frame = Frame(identifier, b'' if remote else data, remote)
    message, device = split_id(identifier)
    assert arbitration_id(message, device) == identifier
    try:
        meaning = decode(frame)
    except ProtocolError:
        return
    if isinstance(meaning, FingerPose):
        assert all(abs(q) < 2.91 for q in meaning.positions)


anything = st.lists(st.floats(width=64), min_size=16, max_size=16)


@settings(max_examples=300, deadline=None)
@given(anything, anything)
def test_no_torque_exceeds_the_clamp(torques, limits):
    pwm = clamp_pwm(torques, limits)
    assert (np.abs(pwm) <= PWM_LIMITS).all()
    own = np.array([min(limit, 1.0) if limit > 0 else 0.0 for limit in limits])
    assert (np.abs(pwm) <= own * 1200 + 1e-6).all()
    for finger, frame in enumerate(set_torques(pwm)):
        counts = np.frombuffer(frame.data, dtype='<i2')
        assert counts.tolist() == pwm[4 * finger : 4 * finger + 4].tolist()
