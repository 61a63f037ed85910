"""The bus: frames across a socket, and errors that say what to do."""

import can
import pytest

from allegro_driver.bus import BusError, BusOff, HandBus
from allegro_driver.protocol import Frame
from allegro_driver.unix_bus import UnixBus


@pytest.fixture
def ends(tmp_path):
    path = str(tmp_path / 'bus')
    with UnixBus(path, listen=True) as far, HandBus.open('unix', path) as near:
        yield near, far, path


def test_frames_cross_as_they_are(ends):
    near, far, _ = ends
    for frame in (Frame(0x180, bytes(range(8))), Frame(0x100), Frame(0x200, remote=True)):
        near.send(frame)
        message = far.recv(1.0)
        assert message.arbitration_id == frame.arbitration_id
        assert bytes(message.data) == frame.data
        assert message.is_remote_frame == frame.remote
        far.send(message)
        assert near.receive(1.0) == frame
    assert near.receive(0.0) is None


def test_frames_that_are_none_of_the_hand_s_are_left_out(ends):
    near, far, _ = ends
    far.recv(0.0)
    far.send(can.Message(arbitration_id=0x80, is_extended_id=True, data=bytes(8)))
    far.send(can.Message(arbitration_id=0x80, is_extended_id=False, data=b'1'))
    assert near.receive(1.0) is None
    assert near.receive(1.0) == Frame(0x80, b'1')


def test_a_lost_end_is_reported_and_the_next_one_taken(ends):
    near, far, path = ends
    near.send(Frame(0x104))
    assert far.recv(1.0).arbitration_id == 0x104
    near.close()
    assert far.recv(0.0) is None
    with pytest.raises(can.CanOperationError):
        far.send(can.Message(arbitration_id=0x80, is_extended_id=False))
    with HandBus.open('unix', path) as again:
        again.send(Frame(0x100))
        assert far.recv(1.0).arbitration_id == 0x100
        far.shutdown()
        with pytest.raises(BusOff, match='check the power of the hand'):
            again.send(Frame(0x104))
        with pytest.raises(BusOff):
            again.receive(0.0)
            again.receive(0.0)


def test_an_end_that_does_not_read_does_not_keep_others_off_the_bus(ends):
    _, far, path = ends
    far.recv(0.0)
    frame = can.Message(arbitration_id=0x80, is_extended_id=False)
    with pytest.raises(can.CanOperationError, match='does not read'):
        while True:
            far.send(frame)
    with HandBus.open('unix', path) as other:
        other.send(Frame(0x104))
        assert far.recv(1.0).arbitration_id == 0x104
        far.send(frame)
        assert other.receive(1.0) == Frame(0x80)
    # And one that is gone is told from one that does not read.
    assert far.recv(0.0) is None and far.connected


def test_the_last_words_of_an_end_arrive(ends):
    near, far, _ = ends
    far.recv(0.0)
    near.send(Frame(0x104))
    near.close()
    with pytest.raises(can.CanOperationError):
        far.send(can.Message(arbitration_id=0x80, is_extended_id=False))
    assert far.recv(1.0).arbitration_id == 0x104


def test_the_last_words_of_an_end_that_left_frames_unread_arrive(ends):
    near, far, _ = ends
    far.recv(0.0)
    far.send(can.Message(arbitration_id=0x80, is_extended_id=False))
    near.send(Frame(0x104))
    near.close()
    assert far.recv(1.0).arbitration_id == 0x104
    assert far.recv(0.0) is None and not far.connected


def test_a_controller_that_is_bus_off_is_reported():
    name = 'test_a_controller_that_is_bus_off'
    with can.Bus(interface='virtual', channel=name) as other, HandBus.open('virtual', name) as bus:
        other.send(can.Message(arbitration_id=0x4, is_error_frame=True, is_extended_id=False))
        assert bus.receive(1.0) is None
        other.send(can.Message(arbitration_id=0x40, is_error_frame=True, is_extended_id=False))
        with pytest.raises(BusOff, match='bus-off'):
            bus.receive(1.0)


def test_what_cannot_be_opened_says_how_to_bring_it_up(tmp_path):
    advice = 'ip link set can9 up type can bitrate 1000000 restart-ms 100'
    with pytest.raises(BusError, match=advice):
        HandBus.open('socketcan', 'can9')
    with pytest.raises(BusError, match='is the simulated hand running'):
        HandBus.open('unix', str(tmp_path / 'nobody'))
    with pytest.raises(ValueError, match='must be one of'):
        HandBus.open('pcan', 'PCAN_USBBUS1')
