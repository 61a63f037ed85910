"""Goals and observations: what can be read, and what is refused with a reason."""

import cv2
import numpy as np
import pytest

from dexwm.geometry.camera import CameraIntrinsics
from dexwm.planning.goal import (
    GoalError,
    KeypointGoal,
    ObjectCrop,
    PictureGoal,
    read_goal_picture,
)
from dexwm.planning.goal_file import read_goal
from dexwm.planning.observation import Observation, ObservationError
from dexwm.robot.joints import HOME

from .planning_scene import INTRINSICS, camera_pose, picture


def test_a_picture_is_read_as_it_was_written(tmp_path):
    image = picture(0)
    path = tmp_path / 'goal.png'
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    np.testing.assert_array_equal(read_goal_picture(path), image)


def test_grey_alpha_and_16_bits_become_rgb(tmp_path):
    image = picture(0)
    grey = tmp_path / 'grey.png'
    cv2.imwrite(str(grey), image[..., 0])
    np.testing.assert_array_equal(read_goal_picture(grey), np.repeat(image[..., :1], 3, axis=2))
    alpha = tmp_path / 'alpha.png'
    cv2.imwrite(str(alpha), np.dstack([image[..., ::-1], image[..., 0]]))
    np.testing.assert_array_equal(read_goal_picture(alpha), image)
    deep = tmp_path / 'deep.png'
    cv2.imwrite(str(deep), image[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_goal_picture(deep), image)


def test_files_that_are_no_goal_are_refused(tmp_path):
    with pytest.raises(GoalError, match=r'there is no goal picture .*missing.png'):
        read_goal_picture(tmp_path / 'missing.png')
    with pytest.raises(GoalError, match='cannot be read'):
        read_goal_picture(tmp_path)
    text = tmp_path / 'text.png'
    text.write_text('not a picture')
    with pytest.raises(GoalError, match='no picture that can be read'):
        read_goal_picture(text)
    empty = tmp_path / 'empty.png'
    empty.touch()
    with pytest.raises(GoalError, match='no picture that can be read'):
        read_goal_picture(empty)
    for kind in ('png', 'jpg'):
        whole = cv2.imencode(f'.{kind}', picture(0))[1].tobytes()
        cut = tmp_path / f'cut.{kind}'
        cut.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(GoalError, match='ends early'):
            read_goal_picture(cut)
    for value in (0, 200):
        plain = tmp_path / 'plain.png'
        cv2.imwrite(str(plain), np.full((32, 48, 3), value, np.uint8))
        with pytest.raises(GoalError, match=rf'shows nothing.*\[{value}, {value}, {value}\]'):
            read_goal_picture(plain)


def test_a_goal_of_keypoints_is_read_by_their_names(tmp_path):
    path = tmp_path / 'goal.yaml'
    path.write_text('keypoints_base:\n  wrist: [0.4, 0, 0.9]\n  index_tip: [0.5, -0.1, 0.8]\n')
    points = read_goal(path).points_base
    np.testing.assert_array_equal(points[[0, 8]], [[0.4, 0.0, 0.9], [0.5, -0.1, 0.8]])
    assert np.isnan(np.delete(points, [0, 8], axis=0)).all()
    picture_path = tmp_path / 'goal.png'
    cv2.imwrite(str(picture_path), picture(0)[..., ::-1])
    np.testing.assert_array_equal(read_goal(picture_path).image, picture(0))


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, 'cannot be read'),
        ('[1', 'cannot be read'),
        ('points: {}', 'must have one entry, keypoints_base'),
        ('keypoints_base: {}', 'must be positions by name'),
        ('keypoints_base: {nose: [0, 0, 0]}', 'the names are wrist, thumb_cmc'),
        ('keypoints_base: {wrist: [0, 0]}', r'wrist of .* must be \[x, y, z\] in metres'),
        ('keypoints_base: {wrist: [a, b, c]}', r'wrist of .* must be \[x, y, z\] in metres'),
        ('keypoints_base: {wrist: [.nan, 0, 0]}', 'says nothing'),
        ('keypoints_base: {wrist: [.inf, 0, 0]}', 'must be finite'),
    ],
)
def test_files_that_tell_no_keypoints_are_refused(text, message, tmp_path):
    path = tmp_path / 'goal.yaml'
    if text is not None:
        path.write_text(text)
    with pytest.raises(GoalError, match=message):
        read_goal(path)


def test_arrays_that_are_no_goal_are_refused():
    with pytest.raises(GoalError, match=r'\(H, W, 3\) uint8 RGB, got \(32, 48\)'):
        PictureGoal(picture(0)[..., 0])
    with pytest.raises(GoalError, match='float64'):
        PictureGoal(picture(0) / 255)
    with pytest.raises(GoalError, match='says nothing'):
        KeypointGoal()
    left = np.full((12, 2), np.nan)
    left[:6] = 5.0
    with pytest.raises(GoalError, match='says nothing'):
        KeypointGoal(pixels=left)
    with pytest.raises(GoalError, match=r'points_base must be \(21, 3\), got \(20, 3\)'):
        KeypointGoal(points_base=np.zeros((20, 3)))
    with pytest.raises(GoalError, match='NaN where unknown'):
        KeypointGoal(points_base=np.full((21, 3), np.inf))
    with pytest.raises(GoalError, match='4 numbers are no points'):
        KeypointGoal.from_message([0.0] * 4)
    with pytest.raises(GoalError, match='column -1'):
        ObjectCrop(picture(0), -1, 0)


def test_digests_tell_goals_apart():
    same = {PictureGoal(picture(0)).digest for _ in range(2)}
    points = np.zeros((21, 3))
    others = {
        PictureGoal(picture(1)).digest,
        PictureGoal(picture(0).reshape(48, 32, 3)).digest,
        KeypointGoal(points_base=points).digest,
        KeypointGoal(points_base=points, object_crop=ObjectCrop(picture(0), 0, 0)).digest,
        KeypointGoal(points_base=points, object_crop=ObjectCrop(picture(0), 1, 0)).digest,
    }
    assert len(same) == 1 and len(same | others) == 6


def test_observations_that_cannot_be_true_are_refused():
    image, pose = picture(0), camera_pose()
    with pytest.raises(ObservationError, match='uint8 RGB'):
        Observation(image / 255, HOME, INTRINSICS, pose)
    with pytest.raises(ObservationError, match='48x32 pixels, its intrinsics are for 96x64'):
        Observation(image, HOME, INTRINSICS.resized(96, 64), pose)
    with pytest.raises(ObservationError, match=r'\(23,\), got \(7,\)'):
        Observation(image, HOME[:7], INTRINSICS, pose)
    unknown = HOME.copy()
    unknown[3] = np.nan
    with pytest.raises(ObservationError, match='fr3_joint4 are not finite'):
        Observation(image, unknown, INTRINSICS, pose)
    mirrored = pose @ np.diag([-1.0, 1, 1, 1])
    for wrong in (np.zeros((4, 4)), mirrored, pose * np.nan):
        with pytest.raises(ObservationError, match='no rigid transform'):
            Observation(image, HOME, INTRINSICS, wrong)
    with pytest.raises(ObservationError, match=r'\(4, 4\)'):
        Observation(image, HOME, CameraIntrinsics(48, 32, 34, 34, 23.5, 15.5), pose[:3])
