"""Actions of joint waypoints: the numbers of recorded frames, and derivatives."""

import numpy as np
import pytest
import torch

from dexwm.data.actions import ActionOptions, conditioning, window_actions
from dexwm.geometry.heatmaps import HEATMAP_KEYPOINTS
from dexwm.geometry.preprocess import ResizeAndCrop
from dexwm.geometry.rotations import inverse_pose, transform_points
from dexwm.planning.errors import PlanningError
from dexwm.planning.joint_actions import JointActions
from dexwm.robot.joints import HOME
from dexwm.robot.kinematics import BatchedKinematics

from .planning_scene import INTRINSICS, camera_pose, observation


@pytest.fixture(scope='module')
def kinematics(model):
    return BatchedKinematics.from_model(model).float()


def waypoints(count, steps):
    noise = np.random.default_rng(3).normal(0, 0.2, (count, steps, 23))
    return HOME + noise


@pytest.mark.parametrize('absolute', [False, True])
@pytest.mark.parametrize('pixels', [False, True])
@pytest.mark.parametrize('subset', ['full', 'peva'])
@pytest.mark.parametrize('camera_frame', ['first_camera', 'world'])
def test_the_model_is_told_the_same_as_about_recorded_frames(
    model, kinematics, absolute, pixels, subset, camera_frame
):
    options = ActionOptions(absolute, pixels, subset, camera_frame=camera_frame)
    actions = JointActions(kinematics, options, observation(), INTRINSICS)
    joints = waypoints(2, 3)
    told, points = actions(torch.from_numpy(joints).float())
    for n in range(2):
        frames = np.stack([model.keypoints(q) for q in [HOME, *joints[n]]])
        np.testing.assert_allclose(points[n], frames[1:], atol=1e-5)
        in_camera = np.zeros((4, 42, 3))
        in_camera[:, 21:] = transform_points(inverse_pose(camera_pose()), frames)
        known = np.zeros((4, 42), bool)
        known[:, 21:] = True
        poses = np.tile(camera_pose(), (4, 1, 1))
        rows = window_actions(in_camera, known, poses, options)
        projected = INTRINSICS.project(np.where(known[..., None], in_camera, [0, 0, -1]))
        seen = np.concatenate([np.nan_to_num(projected), in_camera[..., 2:]], axis=-1)
        expected = conditioning(rows, in_camera, seen, options)
        assert expected.any()
        np.testing.assert_allclose(told[n], expected, atol=1e-5, rtol=1e-5)


def test_gradients_reach_every_joint(kinematics):
    actions = JointActions(kinematics, ActionOptions(absolute=True), observation(), INTRINSICS)
    joints = torch.from_numpy(waypoints(1, 2)).float().requires_grad_()
    weights = torch.randn(258, generator=torch.Generator().manual_seed(0))
    told, _ = actions(joints)
    (told @ weights).sum().backward()
    assert (joints.grad[0] != 0).all()
    step = 1e-2
    for joint in (3, 12):
        moved = joints.detach().clone()
        moved[0, 1, joint] += step
        back = joints.detach().clone()
        back[0, 1, joint] -= step
        rise = ((actions(moved)[0] - actions(back)[0]) @ weights).sum() / (2 * step)
        torch.testing.assert_close(joints.grad[0, 1, joint], rise, atol=1e-3, rtol=1e-2)


def test_a_model_that_is_not_told_about_the_hand_is_refused(kinematics):
    with pytest.raises(PlanningError, match=r'nwm.*another action subset'):
        JointActions(kinematics, ActionOptions(subset='nwm'), observation(), INTRINSICS)


def test_keypoints_are_projected_into_the_input_picture_and_back(model, kinematics):
    preprocess = ResizeAndCrop.to_cover(48, 32, 16, 24)
    small = preprocess.apply_to_intrinsics(INTRINSICS)
    actions = JointActions(kinematics, ActionOptions(), observation(), small)
    points = torch.from_numpy(model.keypoints(HOME)).float()
    pixels, depths = actions.project(points)
    assert pixels.isnan().all(dim=-1).tolist() == [True] * 6 + [False] * 6
    rows = [row - 21 for row in HEATMAP_KEYPOINTS[6:]]
    in_camera = transform_points(inverse_pose(camera_pose()), model.keypoints(HOME)[rows])
    scaled = preprocess.matrix @ INTRINSICS.K
    homogeneous = in_camera @ scaled.T
    np.testing.assert_allclose(pixels[6:], homogeneous[:, :2] / homogeneous[:, 2:], atol=1e-3)
    np.testing.assert_allclose(depths[6:], in_camera[:, 2], atol=1e-5)
    torch.testing.assert_close(actions.unproject(pixels[6:], depths[6:]), points[rows])
    behind = points + 10 * (torch.from_numpy(camera_pose()[:3, 3]).float() - points)
    assert actions.project(behind)[0].isnan().all()
