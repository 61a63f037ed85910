"""Pictures by number: the right one, from anywhere in the file, and no silent damage."""

import pickle

import av
import numpy as np
import pytest

from dexwm.data.episode import DatasetError
from dexwm.data.video import Video, shared_length

from .video_writer import number_of, write_numbered_video


def numbers(pictures):
    return [number_of(picture) for picture in pictures]


@pytest.mark.parametrize('group', [1, 2, 7, 250])
@pytest.mark.parametrize('b_frames', [0, 3])
def test_any_pictures_in_any_order(tmp_path, group, b_frames):
    write_numbered_video(tmp_path / 'a.mp4', 60, group=group, b_frames=b_frames)
    video = Video(tmp_path / 'a.mp4')
    assert (len(video), video.width, video.height, video.fps) == (60, 64, 36, 30.0)
    assert numbers(video.frames(np.arange(60))) == list(range(60))
    rng = np.random.default_rng(group)
    for _ in range(8):
        wanted = rng.integers(0, 60, 9)
        assert numbers(video.frames(wanted)) == wanted.tolist()
    assert numbers(video.frames([59, 0, 59])) == [59, 0, 59]


def test_every_picture_alone(tmp_path):
    write_numbered_video(tmp_path / 'a.mp4', 30, group=10, b_frames=2)
    video = Video(tmp_path / 'a.mp4')
    assert [numbers(video.frames([i])) for i in range(30)] == [[i] for i in range(30)]


def test_no_pictures_asked_for(tmp_path):
    write_numbered_video(tmp_path / 'a.mp4', 5)
    assert Video(tmp_path / 'a.mp4').frames([]).shape == (0, 36, 64, 3)


def test_a_copy_in_another_process_reads_the_same(tmp_path):
    write_numbered_video(tmp_path / 'a.mp4', 12)
    copy = pickle.loads(pickle.dumps(Video(tmp_path / 'a.mp4')))
    assert numbers(copy.frames([11, 3])) == [11, 3]


@pytest.mark.parametrize('wanted', [[-1], [12], [0, 99]])
def test_numbers_outside_are_refused(tmp_path, wanted):
    write_numbered_video(tmp_path / 'a.mp4', 12)
    with pytest.raises(IndexError, match='0 to 11'):
        Video(tmp_path / 'a.mp4').frames(wanted)


@pytest.mark.parametrize('index_first', [False, True])
@pytest.mark.parametrize('kept', [0.0, 0.3, 0.7, 0.95])
def test_a_truncated_file_is_refused_by_name(tmp_path, index_first, kept):
    path = tmp_path / 'cut.mp4'
    write_numbered_video(path, 60, index_first=index_first)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DatasetError, match=r'cut\.mp4'):
        Video(path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(DatasetError, match=r'none\.mp4'):
        Video(tmp_path / 'none.mp4')


def test_damage_in_the_middle_is_seen_when_decoding(tmp_path):
    path = tmp_path / 'hole.mp4'
    write_numbered_video(path, 60, group=10, b_frames=0)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux() if packet.size]
        hole = packets[30]
        assert hole.is_keyframe
        start, end = hole.pos, hole.pos + hole.size
    content = bytearray(path.read_bytes())
    content[start:end] = bytes(end - start)
    path.write_bytes(content)
    video = Video(path)
    assert numbers(video.frames([29])) == [29]
    with pytest.raises(DatasetError, match=r'hole\.mp4'):
        video.frames([30])


def test_a_file_with_sound_only_is_refused(tmp_path):
    path = tmp_path / 'sound.mp4'
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('aac', rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), 'fltp', 'mono')
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(DatasetError, match=r'sound.mp4 holds no video'):
        Video(path)


def test_an_unknown_format_is_refused(tmp_path):
    path = tmp_path / 'odd.mp4'
    write_numbered_video(path, 5)
    content = path.read_bytes()
    assert content.count(b'avc1') >= 1
    path.write_bytes(content.replace(b'avc1', b'zzzz'))
    with pytest.raises(DatasetError, match=r'odd\.mp4 holds a video of no known format'):
        Video(path)


@pytest.mark.parametrize(('rows', 'length'), [(60, 60), (58, 58), (64, 60), (66, 60)])
def test_lengths_may_differ_a_little(tmp_path, rows, length):
    write_numbered_video(tmp_path / 'a.mp4', 60)
    assert shared_length(Video(tmp_path / 'a.mp4'), rows) == length


@pytest.mark.parametrize('rows', [0, 30, 100])
def test_lengths_may_not_differ_much(tmp_path, rows):
    write_numbered_video(tmp_path / 'a.mp4', 60)
    with pytest.raises(DatasetError, match='60 pictures'):
        shared_length(Video(tmp_path / 'a.mp4'), rows)
