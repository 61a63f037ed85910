import numpy as np
import pytest

from dexwm.data.episode import DatasetError
from dexwm.data.frame_table import SEEN, FrameTable
from dexwm.data.recording import Recording

from .tiny_recordings import CAMERA, T_BASE_FROM_CAMERA, write_recording

IMAGE_SIZE = (32, 40)


@pytest.fixture
def recording(tmp_path):
    return Recording(write_recording(tmp_path, 1))


def input_pixels(point_base):
    """Of a 96x64 picture, scaled to 48x32, cut to 40x32 out of the middle."""
    x, y, z = (np.linalg.inv(T_BASE_FROM_CAMERA) @ [*point_base, 1.0])[:3]
    u, v = CAMERA.fx * x / z + CAMERA.cx, CAMERA.fy * y / z + CAMERA.cy
    return np.array([(u + 0.5) / 2 - 0.5 - 4, (v + 0.5) / 2 - 0.5]), z


def test_pixels_are_those_of_the_input_picture(recording):
    table = FrameTable.of_episode(recording, IMAGE_SIZE)
    assert len(table) == recording.length
    for frame in (0, 7):
        for keypoint in (21, 30, 41):
            pixel, depth = input_pixels(recording.keypoints_world[frame, keypoint])
            np.testing.assert_allclose(table.keypoint_pixels[frame, keypoint], pixel, atol=1e-4)
            assert table.keypoint_depths[frame, keypoint] == pytest.approx(depth, abs=1e-5)
            inside = -0.5 < pixel[0] < 39.5 and -0.5 < pixel[1] < 31.5
            assert table.keypoint_visible[frame, keypoint] == inside
        for column in range(2):
            pixel, _ = input_pixels(recording.objects.centres_world[frame, column])
            np.testing.assert_allclose(table.object_pixels[frame, column], pixel, atol=1e-4)
    assert not table.keypoint_visible[:, :21].any() and not table.keypoint_known[:, :21].any()
    assert table.keypoint_visible[:, 21:].any()
    np.testing.assert_array_equal(table.object_contact, recording.objects.in_contact)


def test_behind_the_camera_is_not_visible(recording):
    recording.keypoints_world[3, 25] = T_BASE_FROM_CAMERA[:3, 3] - [1.0, 0, 0]
    recording.keypoints_world[4, 25] = T_BASE_FROM_CAMERA[:3, 3] + [1.0, 2.0, 0]
    table = FrameTable.of_episode(recording, IMAGE_SIZE)
    assert not table.keypoint_visible[3:5, 25].any()
    assert np.isfinite(table.keypoint_pixels).all()
    assert table.keypoint_known[3:5, 25].all()


def test_a_hidden_object_is_not_visible(recording):
    before = FrameTable.of_episode(recording, IMAGE_SIZE)
    frame, column = np.argwhere(before.object_visible)[0]
    recording.objects.visible_share[frame, column] = 0.9 * SEEN
    after = FrameTable.of_episode(recording, IMAGE_SIZE)
    changed = np.argwhere(before.object_visible != after.object_visible)
    np.testing.assert_array_equal(changed, [[frame, column]])


def test_objects_are_columns_by_kind(tmp_path):
    tables = [
        FrameTable.of_episode(Recording(write_recording(tmp_path, seed, 3, names)), IMAGE_SIZE)
        for seed, names in ((1, ('mug', 'can')), (2, ()), (3, ('box', 'mug')))
    ]
    table = FrameTable.concatenate(tables)
    assert table.object_names == ('box', 'can', 'mug') and len(table) == 9
    np.testing.assert_array_equal(table.object_pixels[:3, 2], tables[0].object_pixels[:, 0])
    np.testing.assert_array_equal(table.object_contact[6:, 0], tables[2].object_contact[:, 0])
    assert not table.object_visible[3:6].any() and not table.object_visible[:3, 0].any()
    with pytest.raises(DatasetError, match='box'):
        table.with_objects(('can', 'mug'))
    recording = Recording(write_recording(tmp_path, 4, 3, ('box',)))
    with pytest.raises(DatasetError, match='box'):
        FrameTable.of_episode(recording, IMAGE_SIZE, ('can', 'mug'))


def test_it_survives_the_disk(recording, tmp_path):
    table = FrameTable.of_episode(recording, IMAGE_SIZE)
    table.save(tmp_path / 'frames.npz')
    again = FrameTable.load(tmp_path / 'frames.npz')
    assert again.digest() == table.digest() and again.object_names == table.object_names
    np.testing.assert_array_equal(again.object_pixels, table.object_pixels)
    (tmp_path / 'frames.npz').write_bytes((tmp_path / 'frames.npz').read_bytes()[:500])
    with pytest.raises(DatasetError, match=r'frames\.npz cannot be read'):
        FrameTable.load(tmp_path / 'frames.npz')


def test_the_digest_follows_the_data(recording):
    before = FrameTable.of_episode(recording, IMAGE_SIZE).digest()
    recording.keypoints_world[2, 30, 1] += 1e-3
    assert FrameTable.of_episode(recording, IMAGE_SIZE).digest() != before


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda e: e.T_world_from_camera.__setitem__((2, 0, 3), np.nan), 'first at frame 2'),
        (lambda e: e.T_world_from_camera.__setitem__((1, 0, 0), 0.5), 'rotation and translation'),
        (lambda e: e.keypoints_world.__setitem__((4, 30), np.inf), 'first at frame 4'),
        (lambda e: setattr(e, 'keypoints_valid', np.ones((3, 42), bool)), 'validity must have'),
        (lambda e: setattr(e, 'length', 0), 'no frames'),
    ],
)
def test_bad_episodes_are_refused(recording, change, message):
    change(recording)
    with pytest.raises(DatasetError, match=message):
        FrameTable.of_episode(recording, IMAGE_SIZE)


def test_what_is_unknown_may_be_anything(recording):
    recording.keypoints_world[:, 3] = np.nan
    table = FrameTable.of_episode(recording, IMAGE_SIZE)
    assert not table.keypoints_world[:, 3].any()
