import av
import numpy as np
import pytest

from dexwm_sim.frame_recorder import FrameRecorder, FrameRecorderError


def picture(value, height=48, width=64):
    return np.full((height, width, 3), value, np.uint8)


def decoded(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == 'h264'
        return [(float(f.time), f.to_ndarray(format='rgb24')) for f in container.decode(stream)]


def test_every_frame_is_there_at_its_time(tmp_path):
    stamps = np.cumsum([5, 0.1, 0.1, 0.3, 0.033, 0.1, 2.0])
    values = [0, 40, 80, 120, 160, 200, 255]
    with FrameRecorder(tmp_path / 'new' / 'video.mp4') as recorder:
        for stamp, value in zip(stamps, values, strict=True):
            recorder.add(picture(value), round(stamp * 1e9))
        assert recorder.frames == len(values)
    frames = decoded(tmp_path / 'new' / 'video.mp4')
    times = [time for time, _ in frames]
    np.testing.assert_allclose(times, stamps - stamps[0], atol=2e-3)
    np.testing.assert_allclose([image.mean() for _, image in frames], values, atol=4)


def test_long_and_uneven_videos_are_written(tmp_path):
    rng = np.random.default_rng(0)
    stamp = 0
    with FrameRecorder(tmp_path / 'video.mp4') as recorder:
        for _ in range(200):
            stamp += int(rng.uniform(1e6, 3e8))
            recorder.add(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8), stamp)
    assert len(decoded(tmp_path / 'video.mp4')) == 200


def test_stamps_that_go_back_do_not_break_the_file(tmp_path):
    with FrameRecorder(tmp_path / 'video.mp4') as recorder:
        for stamp in (0, 100, 50, 50, 200):
            recorder.add(picture(100), stamp * 1_000_000)
    times = [time for time, _ in decoded(tmp_path / 'video.mp4')]
    assert len(times) == 5
    assert (np.diff(times) > 0).all()


def test_odd_sizes_are_padded(tmp_path):
    with FrameRecorder(tmp_path / 'video.mp4') as recorder:
        recorder.add(picture(100, 47, 63), 0)
    assert decoded(tmp_path / 'video.mp4')[0][1].shape == (48, 64, 3)


def test_wrong_pictures_are_refused(tmp_path):
    with FrameRecorder(tmp_path / 'video.mp4') as recorder:
        with pytest.raises(FrameRecorderError, match='RGB'):
            recorder.add(np.zeros((48, 64), np.uint8), 0)
        recorder.add(picture(0), 0)
        with pytest.raises(FrameRecorderError, match='this picture'):
            recorder.add(picture(0, 24, 24), 1)


def test_unwritable_place_is_said(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(FrameRecorderError, match='cannot write'):
        FrameRecorder(tmp_path / 'file' / 'video.mp4').add(picture(0), 0)


def test_no_frames_no_file(tmp_path):
    FrameRecorder(tmp_path / 'video.mp4').close()
    assert not (tmp_path / 'video.mp4').exists()
