"""DROID's raw files: the left camera, the dummy hand, and damage that is named."""

import json

import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dexwm.data.droid import ZED2_HD720, DroidDataset, dummy_hand
from dexwm.data.episode import DatasetError
from dexwm.geometry.camera import CameraIntrinsics

from .droid_writer import HEIGHT, LEFT_EXTRINSICS, WIDTH, write_episode
from .video_writer import number_of

CAMERA = CameraIntrinsics(WIDTH, HEIGHT, 26.5, 26.5, 31.5, 17.5)


def test_dummy_hand_by_the_figure():
    """Distances and directions, finger by finger (paper, figure 11)."""
    hand = dummy_hand(np.array([[0.5, -0.1, 0.3]] * 2), np.array([0.49, 0.5]))
    np.testing.assert_array_equal(hand[:, 0], [[0.5, -0.1, 0.3]] * 2)
    fingers = (hand[:, 1:] - hand[:, :1]).reshape(2, 5, 4, 3)
    np.testing.assert_allclose(fingers[..., 2], 0)
    radii = np.hypot(fingers[..., 0], fingers[..., 1])
    np.testing.assert_allclose(radii[0], np.tile([0.03, 0.04, 0.05, 0.06], (5, 1)))
    np.testing.assert_allclose(radii[1], np.tile([0.03, 0.04, 0.035, 0.03], (5, 1)))
    angles = np.degrees(np.arctan2(fingers[..., 1], fingers[..., 0])) % 360
    np.testing.assert_allclose(angles[0], np.repeat([[0, 72, 144, 216, 288]], 4, 0).T, atol=1e-9)
    np.testing.assert_allclose(angles[1], angles[0], atol=1e-9)


@pytest.mark.parametrize('left_is', ['ext1', 'ext2'])
def test_episode_holds_what_was_written(tmp_path, left_is):
    _, position, gripper = write_episode(tmp_path, left_is=left_is)
    dataset = DroidDataset(tmp_path, intrinsics=CAMERA)
    episode = dataset[0]
    assert episode.name == 'AUTOLab/success/2023-07-07/Fri_Jul__7_09:42:23_2023'
    # 15 a second, one per control step: what the video says (60) has no meaning.
    assert (episode.length, episode.fps) == (20, 15.0)
    assert not episode.keypoints_supervised
    hand = episode.keypoints_world[:, 21:]
    np.testing.assert_allclose(hand[:, 0], position, atol=1e-6)
    tip_distance = np.linalg.norm(hand[:, 8] - hand[:, 0], axis=-1)
    np.testing.assert_allclose(tip_distance, np.where(gripper < 0.5, 0.06, 0.03), atol=1e-6)
    assert not episode.keypoints_world[:, :21].any()
    assert not episode.keypoints_valid[:, :21].any() and episode.keypoints_valid[:, 21:].all()
    pose = episode.T_world_from_camera
    # Euler 'xyz' about fixed axes: z after y after x.
    x, y, z = (
        Rotation.from_rotvec(angle * axis)
        for angle, axis in zip(LEFT_EXTRINSICS[3:], np.eye(3), strict=True)
    )
    np.testing.assert_allclose(pose[:, :3, :3], np.tile((z * y * x).as_matrix(), (20, 1, 1)))
    np.testing.assert_allclose(pose[:, :3, 3], np.tile(LEFT_EXTRINSICS[:3], (20, 1)))
    # The other cameras' videos are a picture longer.
    assert dataset.shortened == {}
    assert [number_of(picture) for picture in episode.images([19, 4])] == [19, 4]
    with pytest.raises(IndexError):
        episode.images([20])


def test_outcomes_and_order(tmp_path):
    write_episode(tmp_path, lab='TRI', time='b')
    write_episode(tmp_path, lab='ILIAD', time='c')
    write_episode(tmp_path, lab='ILIAD', outcome='failure', time='a')
    found = {
        outcome: [
            DroidDataset(tmp_path, outcome, CAMERA)[i].name
            for i in range(len(DroidDataset(tmp_path, outcome, CAMERA)))
        ]
        for outcome in ('success', 'failure', 'all')
    }
    success = ['ILIAD/success/2023-07-07/c', 'TRI/success/2023-07-07/b']
    failure = ['ILIAD/failure/2023-07-07/a']
    assert found == {'success': success, 'failure': failure, 'all': sorted(success + failure)}
    with pytest.raises(DatasetError, match="'success', 'failure' or 'all'"):
        DroidDataset(tmp_path, 'good')


@pytest.mark.parametrize('video_frames', [18, 21])
def test_different_lengths_are_cut_and_counted(tmp_path, video_frames):
    write_episode(tmp_path, video_frames=video_frames)
    dataset = DroidDataset(tmp_path, intrinsics=CAMERA)
    episode = dataset[0]
    assert episode.length == min(20, video_frames) == len(episode.keypoints_world)
    assert list(dataset.shortened.values()) == [abs(video_frames - 20)]


def test_nominal_camera_is_a_zed_2():
    """A ZED 2 sees about 100 degrees of the 110 of its lens once the picture is rectified."""
    assert (ZED2_HD720.width, ZED2_HD720.height) == (1280, 720)
    angle = 2 * np.degrees(np.arctan(640 / ZED2_HD720.fx))
    assert 95 < angle < 110


def edit(folder, **changes):
    path = next(folder.glob('metadata_*.json'))
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def damage_video(folder):
    path = folder / 'recordings/MP4/22008760.mp4'
    path.write_bytes(path.read_bytes()[:500])


def damage_trajectory(folder):
    path = folder / 'trajectory.h5'
    path.write_bytes(path.read_bytes()[:1000])


def remove_gripper(folder):
    with h5py.File(folder / 'trajectory.h5', 'r+') as file:
        del file['observation/robot_state/gripper_position']


def not_a_number(folder):
    with h5py.File(folder / 'trajectory.h5', 'r+') as file:
        file['observation/robot_state/cartesian_position'][7, 1] = np.nan


def no_steps(folder):
    with h5py.File(folder / 'trajectory.h5', 'r+') as file:
        state = file['observation/robot_state']
        for name in ('cartesian_position', 'gripper_position'):
            values = state[name][:0]
            del state[name]
            state[name] = values


@pytest.mark.parametrize(
    ('harm', 'reason'),
    [
        (damage_video, '22008760.mp4'),
        (lambda folder: (folder / 'recordings/MP4/22008760.mp4').unlink(), '22008760.mp4'),
        (damage_trajectory, 'trajectory.h5 cannot be read'),
        (remove_gripper, 'gripper_position is missing'),
        (not_a_number, 'cartesian_position is not finite, first at row 7'),
        (no_steps, '0 rows'),
        (lambda folder: next(folder.glob('*.json')).unlink(), 'one metadata'),
        (lambda folder: next(folder.glob('*.json')).write_text('{"uuid"'), 'metadata_'),
        (
            lambda folder: next(folder.glob('*.json')).write_text('{}'),
            "'left_mp4_path' is missing",
        ),
        (lambda folder: edit(folder, left_mp4_path='x.mp4'), 'neither'),
        (lambda folder: edit(folder, left_mp4_path=None), 'neither'),
        (lambda folder: edit(folder, ext2_cam_extrinsics=[0.0] * 5), '6 finite numbers'),
        (lambda folder: edit(folder, ext2_cam_extrinsics=None), '6 finite numbers'),
        (lambda folder: edit(folder, ext2_cam_extrinsics=['x'] * 6), 'metadata_'),
    ],
)
def test_damage_is_named_and_the_rest_still_works(tmp_path, harm, reason):
    folder, _, _ = write_episode(tmp_path, time='a')
    write_episode(tmp_path, time='b')
    harm(folder)
    dataset = DroidDataset(tmp_path, intrinsics=CAMERA)
    with pytest.raises(DatasetError, match=reason) as raised:
        dataset[0]
    assert 'a' in str(raised.value)
    assert [problem.file for problem in dataset.problems] == [str(folder)]
    assert dataset[1].length == 20


def test_folder_without_trajectory(tmp_path):
    folder, _, _ = write_episode(tmp_path, time='a')
    write_episode(tmp_path, time='b')
    (folder / 'trajectory.h5').unlink()
    dataset = DroidDataset(tmp_path, intrinsics=CAMERA)
    assert len(dataset) == 1
    assert [str(problem) for problem in dataset.problems] == [
        f'{folder}: trajectory.h5 is missing'
    ]


def test_camera_of_another_size(tmp_path):
    write_episode(tmp_path)
    with pytest.raises(DatasetError, match='64x36 pixels, the intrinsics are for 1280x720'):
        DroidDataset(tmp_path)[0]


def test_nothing_there(tmp_path):
    with pytest.raises(DatasetError, match=r'docs/data.md'):
        DroidDataset(tmp_path)
