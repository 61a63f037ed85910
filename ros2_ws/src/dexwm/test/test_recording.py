import hashlib
import json

import h5py
import numpy as np
import pytest

from dexwm.data.episode import DatasetError
from dexwm.data.recording import (
    Recording,
    RecordingDataset,
    RecordingInfo,
    RecordingWriter,
    recording_name,
)
from dexwm.geometry.camera import CameraIntrinsics

CAMERA = CameraIntrinsics(32, 24, 30.0, 30.0, 15.5, 11.5)
FRAMES = 6


def write(folder, seed, frames=FRAMES, names=('mug', 'can')):
    rng = np.random.default_rng(seed)
    T_base_from_camera = np.eye(4)
    T_base_from_camera[:3, 3] = [0.1, 0.2, 0.3]
    info = RecordingInfo(5.0, CAMERA, T_base_from_camera, seed, 'hand_only', names, '{"a": 1}')
    path = folder / recording_name(seed)
    rows = []
    with RecordingWriter(path, info) as writer:
        for i in range(frames):
            row = {
                'image': np.full((24, 32, 3), [10 * i, 200, 40], np.uint8),
                'joint_positions': rng.normal(size=23),
                'joint_commands': rng.normal(size=23),
                'keypoints_base': rng.normal(size=(21, 3)),
                'object_positions': rng.normal(size=(len(names), 3)),
                'object_quaternions_xyzw': np.tile([0.0, 0.0, 0.0, 1.0], (len(names), 1)),
                'object_contact': rng.random(len(names)) < 0.5,
                'object_visible_share': rng.random(len(names)),
            }
            writer.add_frame(**row)
            rows.append(row)
    return path, rows


def write_manifest(folder):
    files = {
        path.name: {'sha256': hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in folder.glob('*.h5')
    }
    (folder / 'manifest.json').write_text(json.dumps({'files': files}))


def test_what_is_written_is_read(tmp_path):
    path, rows = write(tmp_path, 7)
    recording = Recording(path)

    assert recording.length == FRAMES and recording.fps == 5.0
    assert recording.name == 'episode_00000007'
    assert recording.info.scene_json == '{"a": 1}' and recording.info.strategy == 'hand_only'
    assert recording.intrinsics == CAMERA
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(recording.joint_positions[i], row['joint_positions'])
        np.testing.assert_array_equal(recording.joint_commands[i], row['joint_commands'])
        np.testing.assert_allclose(recording.keypoints_world[i, 21:], row['keypoints_base'], 1e-6)
        np.testing.assert_allclose(recording.objects.centres_world[i], row['object_positions'])
        np.testing.assert_array_equal(recording.objects.in_contact[i], row['object_contact'])
        np.testing.assert_allclose(
            recording.objects.visible_share[i], row['object_visible_share'], atol=1e-7
        )
        assert np.abs(recording.images([i])[0].astype(int) - row['image']).max() <= 4
    assert not recording.keypoints_valid[:, :21].any() and recording.keypoints_valid[:, 21:].all()
    assert not recording.keypoints_world[:, :21].any()
    np.testing.assert_array_equal(
        recording.T_world_from_camera, np.tile(recording.info.T_base_from_camera, (FRAMES, 1, 1))
    )


def test_images_come_in_the_order_asked(tmp_path):
    recording = Recording(write(tmp_path, 1)[0])
    red = recording.images([5, 0, 0, 3])[:, 0, 0, 0].astype(int)
    assert np.abs(red - [50, 0, 0, 30]).max() <= 4
    for wrong in ([FRAMES], [-1]):
        with pytest.raises(IndexError, match='0 to 5'):
            recording.images(wrong)


def test_same_frames_give_the_same_file(tmp_path):
    (tmp_path / 'again').mkdir()
    first, second = write(tmp_path, 3)[0], write(tmp_path / 'again', 3)[0]
    assert first.read_bytes() == second.read_bytes()


def test_episode_without_objects(tmp_path):
    recording = Recording(write(tmp_path, 3, names=())[0])
    assert recording.objects.names == () and recording.objects.centres_world.shape == (6, 0, 3)


def test_an_interrupted_episode_leaves_nothing(tmp_path):
    info = RecordingInfo(5.0, CAMERA, np.eye(4), 1, 'x')
    with (
        pytest.raises(RuntimeError, match='robot'),
        RecordingWriter(tmp_path / recording_name(1), info) as writer,
    ):
        writer.add_frame(
            np.zeros((24, 32, 3), np.uint8), np.zeros(23), np.zeros(23), np.zeros((21, 3))
        )
        raise RuntimeError('the robot stopped')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'joint_positions': np.full(23, np.nan)}, 'joint_positions is not finite at frame 0'),
        ({'keypoints_base': np.zeros((20, 3))}, 'keypoints_base must have shape'),
        ({'image': np.zeros((24, 32, 3), np.float32)}, 'uint8'),
        ({'object_positions': np.zeros((1, 3))}, 'object_positions must have shape'),
    ],
)
def test_bad_frames_are_refused(tmp_path, change, message):
    writer = RecordingWriter(tmp_path / 'e.h5', RecordingInfo(5.0, CAMERA, np.eye(4), 1, 'x'))
    row = {
        'image': np.zeros((24, 32, 3), np.uint8),
        'joint_positions': np.zeros(23),
        'joint_commands': np.zeros(23),
        'keypoints_base': np.zeros((21, 3)),
    }
    with pytest.raises(DatasetError, match=message):
        writer.add_frame(**{**row, **change})


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_keypoints(path):
    with h5py.File(path, 'r+') as file:
        del file['keypoints_base']


def put_nan_pose(path):
    with h5py.File(path, 'r+') as file:
        file['camera/T_base_from_camera'][0, 3] = np.nan


def put_nan_keypoint(path):
    with h5py.File(path, 'r+') as file:
        file['keypoints_base'][2, 3] = np.nan


def shorten_commands(path):
    with h5py.File(path, 'r+') as file:
        rows = file['joint_commands'][:-1]
        del file['joint_commands']
        file['joint_commands'] = rows


def age(path):
    with h5py.File(path, 'r+') as file:
        file.attrs['format_version'] = 99


@pytest.mark.parametrize(
    ('damage', 'reason'),
    [
        (truncate, 'cannot be read'),
        (drop_keypoints, 'keypoints_base'),
        (put_nan_pose, 'camera poses are not finite'),
        (put_nan_keypoint, 'keypoints_base is not finite'),
        (shorten_commands, r'joint_commands must have shape \(6, 23\), got \(5, 23\)'),
        (age, 'format 99'),
    ],
)
def test_a_damaged_recording_is_left_out_and_named(tmp_path, damage, reason):
    write(tmp_path, 1)
    damaged, _ = write(tmp_path, 2)
    damage(damaged)
    dataset = RecordingDataset(tmp_path)
    assert [recording.info.seed for recording in dataset] == [1]
    (problem,) = dataset.problems
    assert problem.file == str(damaged)
    with pytest.raises(DatasetError, match=reason):
        Recording(damaged)
    assert damaged.name in str(problem)


def test_a_truncated_picture_is_an_error_that_names_the_file(tmp_path):
    path, _ = write(tmp_path, 1)
    with h5py.File(path, 'r+') as file:
        file['images'][4] = file['images'][4][:-40]
    recording = Recording(path)
    recording.images([3, 5])
    with pytest.raises(DatasetError, match=f'{path.name}: the picture at frame 4 is damaged'):
        recording.images([3, 4])


def test_held_out_seeds_are_every_tenth(tmp_path):
    for seed in range(8, 22):
        write(tmp_path, seed, frames=1)
    seeds = {
        split: [recording.info.seed for recording in RecordingDataset(tmp_path, split)]
        for split in ('train', 'held_out', 'all')
    }
    assert seeds['held_out'] == [10, 20]
    assert seeds['all'] == list(range(8, 22))
    assert sorted(seeds['train'] + seeds['held_out']) == seeds['all']


def test_the_manifest_is_checked(tmp_path):
    for seed in (1, 2, 3):
        write(tmp_path, seed)
    write_manifest(tmp_path)
    (tmp_path / recording_name(2)).unlink()
    write(tmp_path, 3, frames=2)
    assert [str(problem) for problem in RecordingDataset(tmp_path).problems] == [
        f'{tmp_path / recording_name(2)}: the file is in manifest.json but missing'
    ]
    problems = RecordingDataset(tmp_path, verify_digests=True).problems
    assert [problem.file for problem in problems] == [
        str(tmp_path / recording_name(seed)) for seed in (2, 3)
    ]
    assert 'SHA-256 differs' in problems[1].reason
    (tmp_path / 'manifest.json').write_text('{"files": 3}')
    with pytest.raises(DatasetError, match='not a manifest'):
        RecordingDataset(tmp_path)


def test_an_empty_dataset_says_what_to_run(tmp_path):
    with pytest.raises(DatasetError, match='make data'):
        RecordingDataset(tmp_path)
    with pytest.raises(DatasetError, match='is not a folder'):
        RecordingDataset(tmp_path / 'nowhere')
    damaged, _ = write(tmp_path, 1)
    truncate(damaged)
    with pytest.raises(DatasetError, match=damaged.name):
        RecordingDataset(tmp_path)
    with pytest.raises(DatasetError, match='held_out'):
        RecordingDataset(tmp_path, 'held_out')
