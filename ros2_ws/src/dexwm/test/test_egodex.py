"""EgoDex as it is on disk: right joints, right pixels, and damage that is named."""

import shutil

import h5py
import numpy as np
import pytest

from dexwm.data.egodex import EGODEX_JOINTS, EgoDexDataset
from dexwm.data.episode import DatasetError
from dexwm.geometry.preprocess import ResizeAndCrop
from dexwm.geometry.rotations import inverse_pose, transform_points

from . import egodex_writer
from .egodex_writer import HEIGHT, WIDTH, hand_joints, write_episode
from .video_writer import number_of


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """One episode on disk that tests copy and damage, and what is in it."""
    path = tmp_path_factory.mktemp('egodex') / 'pour' / '0.hdf5'
    return path, write_episode(path, frames=20)


@pytest.fixture
def root(tmp_path, written):
    """A data set of two episodes, the same twice."""
    for number in (0, 1):
        for ending in ('.hdf5', '.mp4'):
            target = tmp_path / 'train' / 'pour' / f'{number}{ending}'
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(written[0].with_suffix(ending), target)
    return tmp_path


def change(path, name, function):
    """Replaces a dataset of a file by a function of its values; None deletes it."""
    with h5py.File(path, 'r+') as file:
        values = file[name][()]
        del file[name]
        values = function(values)
        if values is not None:
            file[name] = values


def expect_problem(root, reason):
    """The first episode is refused and listed once, the second one still works."""
    dataset = EgoDexDataset(root)
    for _ in range(2):
        with pytest.raises(DatasetError, match=reason) as raised:
            dataset[0]
    assert 'pour/0' in str(raised.value)
    assert [problem.file for problem in dataset.problems] == [str(root / 'train/pour/0.hdf5')]
    assert dataset[1].length == 20


def test_files_have_what_egodex_has(written):
    with h5py.File(written[0]) as file:
        assert len(file['transforms']) == 69
        assert file['transforms/camera'].dtype == np.float32
    assert len(egodex_writer.JOINTS) == 68


def test_keypoints_are_the_joints_without_four_metacarpals():
    for side, ours in (('left', EGODEX_JOINTS[:21]), ('right', EGODEX_JOINTS[21:])):
        expected = [name for name in hand_joints(side) if 'Metacarpal' not in name]
        assert list(ours) == expected
    assert [EGODEX_JOINTS[i] for i in (0, 4, 8, 20, 21, 41)] == [
        'leftHand',
        'leftThumbTip',
        'leftIndexFingerTip',
        'leftLittleFingerTip',
        'rightHand',
        'rightLittleFingerTip',
    ]


def test_episode_holds_what_was_written(root, written):
    episode = EgoDexDataset(root)[0]
    truth = written[1]
    assert (episode.name, episode.length, episode.fps) == ('train/pour/0', 20, 30.0)
    assert episode.keypoints_supervised and episode.objects is None
    for i, joint in enumerate(EGODEX_JOINTS):
        expected = truth.transforms[joint][:, :3, 3]
        np.testing.assert_array_equal(episode.keypoints_world[:, i], expected)
    assert episode.keypoints_valid.all()
    np.testing.assert_array_equal(episode.T_world_from_camera, truth.transforms['camera'])
    assert episode.images([]).shape == (0, HEIGHT, WIDTH, 3)
    assert [number_of(picture) for picture in episode.images([7, 0, 19])] == [7, 0, 19]
    with pytest.raises(IndexError, match='0 to 19'):
        episode.images([20])


def test_pixels_in_the_input_picture(root, written):
    """The published formula, u / 1920 * 398 - 3 and v / 1080 * 224, counts from corners."""
    episode = EgoDexDataset(root)[0]
    step = ResizeAndCrop.to_cover(WIDTH, HEIGHT, 224, 392)
    camera = step.apply_to_intrinsics(episode.intrinsics)
    points = transform_points(inverse_pose(episode.T_world_from_camera), episode.keypoints_world)
    pixels = camera.project(points)
    inside = 0
    for i, joint in enumerate(EGODEX_JOINTS):
        u, v = written[1].pixels(joint).T / [[WIDTH], [HEIGHT]] * [[1920], [1080]]
        reference = np.stack([u / 1920 * 398 - 3, v / 1080 * 224], axis=-1)
        np.testing.assert_allclose(pixels[:, i] + 0.5, reference, atol=1e-3)
        inside += ((reference > 0) & (reference < [392, 224])).all(-1).sum()
    assert inside > 400  # the writer's hand is to be seen


def test_pixels_are_where_the_video_shows_them(root):
    episode = EgoDexDataset(root)[0]
    step = ResizeAndCrop.to_cover(WIDTH, HEIGHT, 224, 392)
    camera = step.apply_to_intrinsics(episode.intrinsics)
    points = transform_points(inverse_pose(episode.T_world_from_camera), episode.keypoints_world)
    expected = camera.project(points)[:, EGODEX_JOINTS.index('rightIndexFingerTip')]
    rows, columns = np.mgrid[:224, :392]
    rows, columns = rows[56:], columns[56:]  # below the bars that number the picture
    for frame, picture in enumerate(episode.images(np.arange(episode.length))):
        weight = np.clip(step.apply(picture)[56:, :, 1] - 110.0, 0, None)
        found = [(weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()]
        np.testing.assert_allclose(found, expected[frame], atol=0.15)


def test_parts_as_downloaded_and_merged(tmp_path, written):
    places = ['part1/pour/0', 'part2/pour/10', 'part2/pour/2', 'part2/fold/0', 'test/pour/5']
    for place in places:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        for ending in ('.hdf5', '.mp4'):
            shutil.copy(written[0].with_suffix(ending), tmp_path / f'{place}{ending}')
    dataset = EgoDexDataset(tmp_path)
    names = [dataset[i].name for i in range(len(dataset))]
    assert names == ['part1/pour/0', 'part2/fold/0', 'part2/pour/2', 'part2/pour/10']
    assert [EgoDexDataset(tmp_path, 'test')[0].name] == ['test/pour/5']
    # Merged by links: the same four, each once.
    for place in places[:4]:
        (tmp_path / 'train' / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / 'train' / 'pour').mkdir(parents=True)
    for ending in ('.hdf5', '.mp4'):
        link = tmp_path / 'train' / 'pour' / f'0{ending}'
        link.symlink_to(tmp_path / f'part1/pour/0{ending}')
    merged = EgoDexDataset(tmp_path)
    assert len(merged) == 4
    assert merged[0].name == 'train/pour/0'


def test_confidences(tmp_path):
    sure = np.ones(20)
    unsure = np.where(np.arange(20) < 5, 0.2, 0.9)
    path = tmp_path / 'train' / 'pour' / '0.hdf5'
    write_episode(
        path, frames=20, confidences={'leftHand': unsure, 'rightThumbTip': unsure, 'hip': 0 * sure}
    )
    expected = np.ones((20, 42), bool)
    expected[:5, :21] = False  # a finger is placed relative to its wrist
    expected[:5, EGODEX_JOINTS.index('rightThumbTip')] = False
    episode = EgoDexDataset(tmp_path)[0]
    np.testing.assert_array_equal(episode.keypoints_valid, expected)
    np.testing.assert_array_equal(episode.keypoints_world.any(-1), expected)
    assert EgoDexDataset(tmp_path, min_confidence=0)[0].keypoints_valid.all()
    assert EgoDexDataset(tmp_path, min_confidence=0.2)[0].keypoints_valid.all()
    assert not EgoDexDataset(tmp_path, min_confidence=0.95)[0].keypoints_valid[:, 0].any()
    for wrong in (-0.1, 1.5, float('nan')):
        with pytest.raises(DatasetError, match='min_confidence'):
            EgoDexDataset(tmp_path, min_confidence=wrong)


@pytest.mark.parametrize(('video_frames', 'length'), [(19, 19), (22, 20)])
def test_different_lengths_are_cut_and_counted(tmp_path, video_frames, length):
    write_episode(tmp_path / 'train' / 'pour' / '0.hdf5', frames=20, video_frames=video_frames)
    dataset = EgoDexDataset(tmp_path)
    episode = dataset[0]
    assert episode.length == length
    assert len(episode.keypoints_world) == len(episode.keypoints_valid) == length
    assert len(episode.T_world_from_camera) == length
    assert dataset.shortened == {'train/pour/0': abs(video_frames - 20)}
    assert dataset.problems == []


@pytest.mark.parametrize('kept', [0, 100, 20000])
def test_truncated_hdf5(root, kept):
    path = root / 'train/pour/0.hdf5'
    path.write_bytes(path.read_bytes()[:kept])
    expect_problem(root, '0.hdf5 cannot be read')


def test_truncated_video(root):
    path = root / 'train/pour/0.mp4'
    path.write_bytes(path.read_bytes()[:3000])
    expect_problem(root, '0.mp4')


@pytest.mark.parametrize('name', ['camera/intrinsic', 'transforms/camera', 'transforms/rightHand'])
def test_missing_dataset(root, name):
    change(root / 'train/pour/0.hdf5', name, lambda values: None)
    expect_problem(root, f'/{name} is missing')


def test_missing_video(root):
    (root / 'train/pour/0.mp4').unlink()
    dataset = EgoDexDataset(root)
    assert len(dataset) == 1
    assert [str(problem) for problem in dataset.problems] == [
        f'{root / "train/pour/0.hdf5"}: 0.mp4 is missing beside it'
    ]


def set_nan(values):
    values[3] = np.nan
    return values


@pytest.mark.parametrize('name', ['transforms/camera', 'transforms/leftRingFingerTip'])
def test_poses_that_are_not_finite(root, name):
    change(root / 'train/pour/0.hdf5', name, set_nan)
    expect_problem(root, f'/{name} is not finite, first at row 3')


def test_camera_pose_that_is_none(root):
    change(root / 'train/pour/0.hdf5', 'transforms/camera', lambda values: 0 * values)
    expect_problem(root, 'rotation and translation')


def test_wrong_shapes(root):
    change(root / 'train/pour/0.hdf5', 'transforms/leftHand', lambda values: values[:-1])
    expect_problem(root, r'/transforms/leftHand must have shape \(20, 4, 4\), got \(19, 4, 4\)')


def test_no_frames(root):
    for name in ('camera', *EGODEX_JOINTS):
        change(root / 'train/pour/0.hdf5', f'transforms/{name}', lambda values: values[:0])
    expect_problem(root, '20 pictures and 0 rows')


def test_intrinsics_of_another_size(root):
    change(root / 'train/pour/0.hdf5', 'camera/intrinsic', lambda K: K * [[2], [2], [1]])
    expect_problem(root, 'not the middle of the 480x270 video')


def test_nothing_there(tmp_path):
    with pytest.raises(DatasetError, match=r'docs/data.md'):
        EgoDexDataset(tmp_path)
    with pytest.raises(DatasetError, match='is not a folder'):
        EgoDexDataset(tmp_path / 'none')
    with pytest.raises(DatasetError, match='train, test, extra'):
        EgoDexDataset(tmp_path, 'validation')


def test_places_outside_are_refused(root):
    for index in (-1, 2):
        with pytest.raises(IndexError):
            EgoDexDataset(root)[index]
