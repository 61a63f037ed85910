"""RoboCasa files: which sites are which keypoints, where the camera is, and damage named."""

import h5py
import numpy as np
import pytest

from dexwm.data.episode import DatasetError
from dexwm.data.robocasa import ROBOTVIEW_2, RoboCasaDataset
from dexwm.geometry.camera import CameraIntrinsics
from dexwm.geometry.rotations import inverse_pose, transform_points

from .robocasa_writer import HEIGHT, WIDTH, hand_in_world, write_file
from .video_writer import number_of

CAMERA = CameraIntrinsics(WIDTH, HEIGHT, 35.7526, 35.7526, 47.5, 29.5)


def test_all_demonstrations_of_all_files(tmp_path):
    write_file(tmp_path / 'exploratory_movements' / 'combine_demos_0.hdf5')
    write_file(tmp_path / 'gripper_open_and_close' / 'combine_demos_1.hdf5', demos=(3,))
    dataset = RoboCasaDataset(tmp_path, intrinsics=CAMERA)
    assert [dataset[i].name for i in range(len(dataset))] == [
        'exploratory_movements/combine_demos_0/demo_0',
        'exploratory_movements/combine_demos_0/demo_2',
        'exploratory_movements/combine_demos_0/demo_10',
        'gripper_open_and_close/combine_demos_1/demo_3',
    ]
    assert dataset.problems == []
    pictures = dataset[1].images([5, 0, 5])
    assert [number_of(picture) for picture in pictures] == [37, 32, 37]
    assert pictures.shape == (3, HEIGHT, WIDTH, 3)
    assert dataset[0].images([]).shape == (0, HEIGHT, WIDTH, 3)
    with pytest.raises(IndexError):
        dataset[0].images([6])


@pytest.mark.parametrize('unused_sites', [0, 5])
def test_keypoints_are_the_fingers(tmp_path, unused_sites):
    write_file(tmp_path / 'a.hdf5', demos=(1,), unused_sites=unused_sites)
    episode = RoboCasaDataset(tmp_path, intrinsics=CAMERA)[0]
    hand = hand_in_world(6, 1)
    right = episode.keypoints_world[:, 21:]
    np.testing.assert_allclose(right[:, 0], hand['palm'][:, :3, 3], atol=1e-6)
    # The ring finger also stands for the little finger that the hand lacks.
    fingers = ('thumb', 'index', 'middle', 'ring', 'ring')
    for i, finger in enumerate(fingers):
        np.testing.assert_allclose(right[:, 1 + 4 * i : 5 + 4 * i], hand[finger], atol=1e-6)
    assert episode.keypoints_valid[:, 21:].all() and not episode.keypoints_valid[:, :21].any()
    assert not episode.keypoints_world[:, :21].any()
    assert episode.keypoints_supervised and episode.objects is None


def test_camera_in_the_world(tmp_path):
    """Written out by hand for a base that stands turned by 90 degrees about z."""
    write_file(tmp_path / 'a.hdf5', demos=(0,))
    episode = RoboCasaDataset(tmp_path, intrinsics=CAMERA)[0]
    # In the base the camera looks forward (x) and 30 degrees above straight down.
    forward_base = np.array([np.sqrt(3) / 2, 0, -0.5])
    right_base = np.array([0, -1, 0])
    down_base = np.cross(forward_base, right_base)
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    axes = turn @ np.stack([right_base, down_base, forward_base], axis=-1)
    position = turn @ [0.212, 0, 1.614] + [2.5, -2.0, 0.7]
    pose = episode.T_world_from_camera
    np.testing.assert_allclose(pose[:, :3, :3], np.tile(axes, (6, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(pose[:, :3, 3], np.tile(position, (6, 1)), atol=1e-6)
    # A point on the camera's axis is in the middle of the picture, one to its right further right.
    points = position + [axes[:, 2], axes[:, 2] + 0.2 * axes[:, 0]]
    middle, right = CAMERA.project(transform_points(inverse_pose(pose[0]), points))
    np.testing.assert_allclose(middle, [(WIDTH - 1) / 2, (HEIGHT - 1) / 2], atol=1e-4)
    np.testing.assert_allclose(right - middle, [0.2 * 35.7526, 0], atol=1e-4)


def test_pictures_of_the_published_size(tmp_path):
    write_file(tmp_path / 'a.hdf5', demos=(0,), frames=2, width=960, height=600)
    episode = RoboCasaDataset(tmp_path)[0]
    assert episode.images([1]).shape == (1, 600, 960, 3)
    # K puts the corner of the first pixel at (0, 0), we its centre.
    np.testing.assert_allclose(
        episode.intrinsics.K + [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]],
        [[357.526, 0, 480], [0, 357.526, 300], [0, 0, 1]],
    )
    assert 2 * np.degrees(np.arctan(300 / ROBOTVIEW_2.fy)) == pytest.approx(80, abs=1e-3)


def test_frame_rate(tmp_path):
    write_file(tmp_path / 'a.hdf5', demos=(0,), control_freq=10)
    assert RoboCasaDataset(tmp_path, intrinsics=CAMERA)[0].fps == 10
    assert RoboCasaDataset(tmp_path, fps=25, intrinsics=CAMERA)[0].fps == 25
    for wrong in (0.0, -5.0, float('nan')):
        with pytest.raises(DatasetError, match='fps must be positive'):
            RoboCasaDataset(tmp_path, fps=wrong)


def test_frame_rate_is_never_guessed(tmp_path):
    write_file(tmp_path / 'a.hdf5', demos=(0,), control_freq=None)
    with pytest.raises(DatasetError, match='pass fps='):
        RoboCasaDataset(tmp_path, intrinsics=CAMERA)
    assert len(RoboCasaDataset(tmp_path, fps=20, intrinsics=CAMERA)) == 1


def test_filter(tmp_path):
    filters = {'train': ['demo_10', 'demo_0'], 'other': ['demo_7']}
    write_file(tmp_path / 'a.hdf5', filters=filters)
    dataset = RoboCasaDataset(tmp_path, filter_key='train', intrinsics=CAMERA)
    assert [dataset[i].name for i in range(len(dataset))] == ['a/demo_0', 'a/demo_10']
    with pytest.raises(DatasetError, match='lists demo_7, which the file lacks'):
        RoboCasaDataset(tmp_path, filter_key='other', intrinsics=CAMERA)
    with pytest.raises(DatasetError, match='mask/valid is missing'):
        RoboCasaDataset(tmp_path, filter_key='valid', intrinsics=CAMERA)


def replace(file, key, function):
    name = f'data/demo_0/obs/{key}'
    values = file[name][()]
    del file[name]
    file[name] = function(values)


def set_nan(values):
    values[4, 0] = np.nan
    return values


def transposed(values):
    return values.reshape(-1, 4, 4).transpose(0, 2, 1).reshape(-1, 16)


IMAGE = 'robot0_robotview_2_image'
PALM = 'robot0_right_hand_T_world_pose_mat'
SITES = 'robot0_right_gripper_keypoint_pose'


@pytest.mark.parametrize(
    ('key', 'function', 'reason'),
    [
        (IMAGE, lambda values: values[:-1], r'robot0_base_pos must have shape \(5, 3\)'),
        (IMAGE, lambda values: values[:, ::2], 'must have shape'),
        (IMAGE, lambda values: values.astype(np.float32), 'must be uint8'),
        (IMAGE, lambda values: values.ravel(), 'must have shape'),
        ('robot0_base_pos', set_nan, 'robot0_base_pos is not finite, first at row 4'),
        (SITES, set_nan, 'is not finite'),
        (SITES, lambda values: values[:, :45], 'at least 16 sites, got 45'),
        (SITES, lambda values: values[:, :-1], 'at least 16 sites'),
        (PALM, set_nan, 'is not finite'),
        (PALM, transposed, 'row by row'),
        ('robot0_base_quat', np.zeros_like, 'cannot be read'),
    ],
)
def test_damage_is_named_and_the_rest_still_works(tmp_path, key, function, reason):
    write_file(tmp_path / 'a.hdf5')
    with h5py.File(tmp_path / 'a.hdf5', 'r+') as file:
        replace(file, key, function)
    dataset = RoboCasaDataset(tmp_path, intrinsics=CAMERA)
    with pytest.raises(DatasetError, match=reason) as raised:
        dataset[0]
    assert 'a.hdf5' in str(raised.value)
    assert [problem.file for problem in dataset.problems] == [f'{tmp_path / "a.hdf5"} demo_0']
    assert dataset[1].length == 6


@pytest.mark.parametrize('key', [IMAGE, PALM, SITES, 'robot0_base_pos', 'robot0_base_quat'])
def test_missing_key(tmp_path, key):
    write_file(tmp_path / 'a.hdf5')
    with h5py.File(tmp_path / 'a.hdf5', 'r+') as file:
        del file[f'data/demo_0/obs/{key}']
    dataset = RoboCasaDataset(tmp_path, intrinsics=CAMERA)
    with pytest.raises(DatasetError, match=f'/data/demo_0/obs/{key} is missing'):
        dataset[0]
    assert dataset[1].length == 6


def test_no_frames(tmp_path):
    write_file(tmp_path / 'a.hdf5', demos=(0,))
    with h5py.File(tmp_path / 'a.hdf5', 'r+') as file:
        for key in list(file['data/demo_0/obs']):
            replace(file, key, lambda values: values[:0])
    with pytest.raises(DatasetError, match='no frames'):
        RoboCasaDataset(tmp_path, intrinsics=CAMERA)[0]


def test_truncated_file_is_left_out(tmp_path):
    write_file(tmp_path / 'a.hdf5', demos=(0,))
    write_file(tmp_path / 'b.hdf5', demos=(0,))
    content = (tmp_path / 'a.hdf5').read_bytes()
    (tmp_path / 'a.hdf5').write_bytes(content[: len(content) // 2])
    dataset = RoboCasaDataset(tmp_path, intrinsics=CAMERA)
    assert [dataset[i].name for i in range(len(dataset))] == ['b/demo_0']
    assert [problem.file for problem in dataset.problems] == [str(tmp_path / 'a.hdf5')]


def test_file_without_demonstrations(tmp_path):
    with h5py.File(tmp_path / 'a.hdf5', 'w') as file:
        file['data/other'] = 1
    with pytest.raises(DatasetError, match='no demonstrations'):
        RoboCasaDataset(tmp_path, intrinsics=CAMERA)
