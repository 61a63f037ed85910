"""The camera's sources: calibration files, pace, files, devices and the simulated cell."""

import time
from itertools import pairwise

import cv2
import numpy as np
import pytest
import yaml

from dexwm.geometry.camera import CameraIntrinsics
from dexwm.geometry.preprocess import ResizeAndCrop
from dexwm_planner.camera.sources.calibration import (
    CalibrationError,
    CameraCalibration,
    load_calibration,
)
from dexwm_planner.camera.sources.device import (
    DeviceSettings,
    DeviceSource,
    capture_stamp,
)
from dexwm_planner.camera.sources.file import FileSource
from dexwm_planner.camera.sources.pacer import Pacer
from dexwm_planner.camera.sources.sim import SimSource
from dexwm_planner.camera.sources.source import (
    CameraConfigError,
    CameraSourceError,
    Frame,
    MalformedFrameError,
)

pytestmark = pytest.mark.realtime

SIZE = (64, 48)
CALIBRATION = CameraCalibration.pinhole(CameraIntrinsics(*SIZE, 50, 50, 31.5, 23.5))

CALIBRATION_FILE = {
    'image_width': 1280,
    'image_height': 720,
    'camera_name': 'head',
    'camera_matrix': {'rows': 3, 'cols': 3, 'data': [900.0, 0, 630.0, 0, 905.0, 355.0, 0, 0, 1]},
    'distortion_model': 'plumb_bob',
    'distortion_coefficients': {'rows': 1, 'cols': 5, 'data': [0.1, -0.2, 0.001, 0.002, 0.05]},
    'rectification_matrix': {'rows': 3, 'cols': 3, 'data': [1, 0, 0, 0, 1, 0, 0, 0, 1]},
    'projection_matrix': {
        'rows': 3,
        'cols': 4,
        'data': [880.0, 0, 628.0, -44.0, 0, 890.0, 352.0, 0, 0, 0, 1, 0],
    },
}


def write_video(path, levels, fps=30.0, size=SIZE):
    """A video whose frames are each of one grey level, by which they can be told apart."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), fps, size)
    for level in levels:
        writer.write(np.full((size[1], size[0], 3), level, np.uint8))
    writer.release()
    return path


def level_of(frame):
    return round(float(frame.image.mean()))


# -- frames and calibration --------------------------------------------------------------------


@pytest.mark.parametrize(
    'image',
    [
        None,
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
    ],
)
def test_what_is_no_picture_is_no_frame(image):
    with pytest.raises(MalformedFrameError):
        Frame(image, 0, None)


def test_calibration_file_is_read(tmp_path):
    path = tmp_path / 'head.yaml'
    path.write_text(yaml.safe_dump(CALIBRATION_FILE))
    calibration = load_calibration(path)
    assert calibration.intrinsics == CameraIntrinsics(1280, 720, 900, 905, 630, 355)
    assert calibration.distortion.tolist() == [0.1, -0.2, 0.001, 0.002, 0.05]
    assert calibration.projection[0].tolist() == [880, 0, 628, -44]


def test_resized_calibration_still_projects_distorted_and_rectified_points(tmp_path):
    path = tmp_path / 'head.yaml'
    path.write_text(yaml.safe_dump(CALIBRATION_FILE))
    before = load_calibration(path)
    step = ResizeAndCrop.to_cover(1280, 720, 224, 392)
    after = before.resized_and_cropped(step)
    points = np.random.default_rng(0).uniform([-0.5, -0.3, 0.8], [0.5, 0.3, 2.0], (50, 3))

    def raw(calibration):
        pixels, _ = cv2.projectPoints(
            points, np.zeros(3), np.zeros(3), calibration.intrinsics.K, calibration.distortion
        )
        return pixels[:, 0]

    def rectified(calibration):
        pixels = np.c_[points, np.ones(50)] @ calibration.projection.T
        return pixels[:, :2] / pixels[:, 2:]

    scale = np.array([398 / 1280, 224 / 720])
    for project in (raw, rectified):
        # Edges to edges: a pixel centre u lies u + 0.5 pixels from the edge.
        expected = (project(before) + 0.5) * scale - 0.5 - [3, 0]
        np.testing.assert_allclose(project(after), expected, atol=1e-9)


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'image_width': None}, 'head.yaml'),
        ({'camera_matrix': {'data': [1.0] * 8}}, 'reshape'),
        ({'camera_matrix': {}}, 'data is missing'),
        ({'distortion_model': 'fisheye'}, "unknown distortion model 'fisheye'.*plumb_bob"),
        ({'distortion_coefficients': {'data': [0.1]}}, 'distortion of a plumb_bob'),
        ({'projection_matrix': {'data': [float('nan')] * 12}}, 'projection'),
        ({'rectification_matrix': {'data': 'abc'}}, 'head.yaml'),
    ],
)
def test_calibration_files_that_cannot_be_used_are_refused(tmp_path, change, reason):
    path = tmp_path / 'head.yaml'
    path.write_text(yaml.safe_dump(CALIBRATION_FILE | change))
    with pytest.raises(CalibrationError, match=reason):
        load_calibration(path)


def test_calibration_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(CalibrationError, match='No such file'):
        load_calibration(tmp_path / 'absent.yaml')
    path = tmp_path / 'head.yaml'
    path.write_text('[: not yaml')
    with pytest.raises(CalibrationError, match='not YAML'):
        load_calibration(path)
    path.write_text('just text')
    with pytest.raises(CalibrationError, match='image_width is missing'):
        load_calibration(path)


# -- pace --------------------------------------------------------------------------------------


def test_pacer_keeps_its_grid_and_drops_what_it_missed():
    now, slept = 100.0, []

    def sleep(seconds):
        nonlocal now
        slept.append(seconds)
        now += seconds

    pacer = Pacer(10.0, clock=lambda: now, sleep=sleep)
    pacer.wait()  # at 100.0
    now += 0.03
    pacer.wait()  # until 100.1
    now += 0.35  # misses 100.2, 100.3 and 100.4
    pacer.wait()  # at once, at 100.45: the grid starts anew
    pacer.wait()  # until 100.55
    assert slept == pytest.approx([0.07, 0.1])


# -- file --------------------------------------------------------------------------------------


def test_a_picture_is_given_again_and_again_in_rgb(tmp_path):
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[..., 0], rgb[:, :10, 2] = 200, 90
    path = tmp_path / 'red.png'
    cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    source = FileSource(path, 'loop', 100.0, CALIBRATION)
    source.open()
    before = time.time_ns()
    frames = [source.read() for _ in range(3)]
    source.close()
    stamps = [frame.stamp_ns for frame in frames]
    assert before <= stamps[0] < stamps[1] < stamps[2] <= time.time_ns()
    for frame in frames:
        np.testing.assert_array_equal(frame.image, rgb)
        assert frame.calibration is CALIBRATION


def test_a_video_plays_at_its_own_speed(tmp_path):
    levels = range(10, 250, 4)  # 60 frames at 100 Hz
    path = write_video(tmp_path / 'video.avi', levels, fps=100.0)
    source = FileSource(path, 'hold', 25.0, None)
    source.open()
    seen, start = [], time.monotonic()
    for _ in range(8):
        frame = source.read()
        seen.append(((level_of(frame) - 10) / 4, (time.monotonic() - start) * 100))
    source.close()
    assert round(seen[0][0]) == 0
    # Never ahead of the time, and behind it only by what a busy machine sleeps too long.
    assert all(shown <= due + 1.5 for shown, due in seen)
    shown = [round(shown) for shown, _ in seen]
    assert shown == sorted(set(shown)) and shown[-1] > 15


def test_a_video_holds_its_last_frame_or_starts_anew(tmp_path):
    path = write_video(tmp_path / 'video.avi', [50, 100, 150], fps=100.0)
    hold = FileSource(path, 'hold', 100.0, None)
    hold.open()
    levels = [level_of(hold.read()) for _ in range(12)]
    hold.close()
    assert levels[0] == pytest.approx(50, abs=2)
    assert levels[-5:] == pytest.approx([150] * 5, abs=2)
    assert levels == sorted(levels)

    loop = FileSource(path, 'loop', 100.0, None)
    loop.open()
    levels = [level_of(loop.read()) for _ in range(30)]
    loop.close()
    assert any(a > b + 30 for a, b in pairwise(levels))


def test_files_that_cannot_be_shown_are_refused_at_once(tmp_path):
    with pytest.raises(CameraConfigError, match='there is no file'):
        FileSource(tmp_path / 'absent.png', 'loop', 10.0, None)
    text = tmp_path / 'text.png'
    text.write_text('no picture')
    with pytest.raises(CameraConfigError, match='neither a picture nor a video'):
        FileSource(text, 'loop', 10.0, None)
    video = write_video(tmp_path / 'video.avi', [50])
    with pytest.raises(CameraConfigError, match="loop or hold, not with 'bounce'"):
        FileSource(video, 'bounce', 10.0, None)
    other = CameraCalibration.pinhole(CameraIntrinsics(640, 480, 500, 500, 320, 240))
    with pytest.raises(CameraConfigError, match='64x48, the calibration is for 640x480'):
        FileSource(video, 'loop', 10.0, other)


# -- device: a video file opened by the same code stands in for /dev/video* --------------------


def settings_of(path, size=SIZE):
    return DeviceSettings(str(path), *size, rate=30.0, mjpg=False)


def open_file(settings):
    return cv2.VideoCapture(str(settings.file))


def test_device_gives_frames_and_says_when_they_end(tmp_path):
    path = write_video(tmp_path / 'video.avi', [50, 100, 150])
    source = DeviceSource(settings_of(path), 1e6, CALIBRATION, open_file)
    source.open()
    levels = [level_of(source.read()) for _ in range(3)]
    assert levels == pytest.approx([50, 100, 150], abs=2)
    with pytest.raises(CameraSourceError, match='stopped: was it unplugged'):
        source.read()
    source.open()  # Back again.
    assert level_of(source.read()) == pytest.approx(50, abs=2)
    source.close()
    source.close()


class DatedCapture:
    """A capture whose frames the driver dated on the monotonic clock, as V4L2 does."""

    def __init__(self, capture, period_ms):
        self._capture = capture
        self._period_ms = period_ms
        self._first_ms = None
        self._count = -1

    def __getattr__(self, name):
        return getattr(self._capture, name)

    def grab(self):
        self._count += 1
        if self._first_ms is None:
            self._first_ms = time.monotonic() * 1e3 - 900
        return self._capture.grab()

    def get(self, key):
        if key == cv2.CAP_PROP_POS_MSEC:
            return self._first_ms + self._count * self._period_ms
        return self._capture.get(key)


@pytest.mark.parametrize(
    ('period_ms', 'rate', 'expected'),
    [
        (33.3, 10.0, [0, 3, 6, 9, 12]),  # every third
        (33.3, 30.0, [0, 1, 2, 3, 4]),  # every one
        (33.3, 20.0, [0, 2, 3, 5, 6]),  # two of three
        (66.7, 30.0, [0, 1, 2, 3, 4]),  # a slow device: every one
    ],
)
def test_device_skips_to_the_rate_by_capture_times(tmp_path, period_ms, rate, expected):
    path = write_video(tmp_path / 'video.avi', range(0, 250, 10))

    def open_dated(settings):
        return DatedCapture(open_file(settings), period_ms)

    source = DeviceSource(settings_of(path), rate, None, open_dated)
    source.open()
    frames = [source.read() for _ in range(5)]
    source.close()
    assert [round(level_of(frame) / 10) for frame in frames] == expected
    gaps = np.diff([frame.stamp_ns for frame in frames]) * 1e-6
    np.testing.assert_allclose(gaps, np.diff(expected) * period_ms, atol=5)


def test_device_goes_on_when_the_clock_is_set_back(tmp_path, monkeypatch):
    path = write_video(tmp_path / 'video.avi', range(0, 250, 10))
    source = DeviceSource(
        settings_of(path), 10.0, None, lambda s: DatedCapture(open_file(s), 33.3)
    )
    source.open()
    levels = [level_of(source.read()) for _ in range(2)]
    now_ns = time.time_ns
    monkeypatch.setattr(time, 'time_ns', lambda: now_ns() - 10_000_000_000)
    levels += [level_of(source.read()) for _ in range(3)]
    source.close()
    # The one that comes next, and from there on every third.
    assert [round(level / 10) for level in levels] == [0, 3, 4, 7, 10]


def test_capture_times_of_the_driver_become_system_time():
    second = 1_000_000_000
    # Captured 20 ms ago on the monotonic clock.
    assert capture_stamp(4_980.0, 5 * second, 900 * second) == 900 * second - 20_000_000
    # None given, one of the future, one of another clock: the time of the call.
    for capture_ms in (0.0, 6_000.0, 1.7e12, 100.0):
        assert capture_stamp(capture_ms, 5 * second, 900 * second) == 900 * second


def test_devices_that_are_not_there_or_no_camera_say_so(tmp_path):
    absent = DeviceSource(settings_of('/dev/video_absent'), 10.0, None)
    with pytest.raises(CameraSourceError, match='there is no device /dev/video_absent'):
        absent.open()
    no_camera = tmp_path / 'video0'
    no_camera.write_text('')
    source = DeviceSource(settings_of(no_camera), 10.0, None)
    with pytest.raises(CameraSourceError, match='does not open'):
        source.open()


def test_device_of_another_size_than_asked_for_says_so(tmp_path):
    path = write_video(tmp_path / 'video.avi', [50])
    source = DeviceSource(settings_of(path, (128, 96)), 10.0, None, open_file)
    with pytest.raises(CameraSourceError, match='takes 64x48, not 128x96'):
        source.open()


def test_device_settings_that_cannot_be_are_refused():
    assert str(settings_of('2').file) == '/dev/video2'
    with pytest.raises(CameraConfigError, match='needs the device'):
        settings_of('')
    with pytest.raises(CameraConfigError, match='0x48'):
        settings_of('/dev/video0', (0, 48))
    with pytest.raises(CameraConfigError, match='take 128x96, the calibration is for 64x48'):
        DeviceSource(settings_of('/dev/video0', (128, 96)), 10.0, CALIBRATION)


# -- the simulated cell ------------------------------------------------------------------------


def test_sim_without_a_cell_says_so_and_draws_when_there_is_one():
    scene_config = pytest.importorskip('dexwm_sim.scene_config')
    cell_module = pytest.importorskip('dexwm_sim.cell')
    shared_state = pytest.importorskip('dexwm_sim.shared_state')
    intrinsics = CameraIntrinsics.from_matrix(
        784, 448, [[459.0, 0, 391.5], [0, 459.0, 223.5], [0, 0, 1]]
    )
    name = f'test-camera-{time.monotonic_ns()}'
    source = SimSource(name, intrinsics, 90, 120, 50.0)
    try:
        source.open()
        with pytest.raises(CameraSourceError, match=name):
            source.read()
        config = scene_config.SceneConfig.sample(1, ['box'])
        cell = cell_module.Cell(config)
        cell.reset()
        with shared_state.SharedState.create(name, config.to_json(), cell.model.nq) as state:
            # Drawing for the first time builds the scene, longer than a state stays fresh.
            for _ in range(50):
                stamp_ns = time.time_ns()
                state.write(0.0, stamp_ns, cell.data.qpos)
                try:
                    frame = source.read()
                    break
                except CameraSourceError as error:
                    reason = error
            else:
                pytest.fail(str(reason))
    finally:
        source.close()
    # 784x448 covers 120x90 at 158x90; the node crops the rest.
    assert frame.image.shape == (90, 158, 3)
    assert frame.image.std() > 10
    assert frame.stamp_ns == stamp_ns
    assert frame.calibration.intrinsics == intrinsics.resized(158, 90)
