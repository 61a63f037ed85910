"""What a goal means for an observation."""

import numpy as np
import pytest
import torch

from dexwm.geometry.preprocess import ResizeAndCrop
from dexwm.planning.goal_reader import GoalReader
from dexwm.planning.joint_actions import RIGHT_HAND, RIGHT_HEATMAP_KEYPOINTS, JointActions
from dexwm.planning.observation import Observation
from dexwm.planning.target import make_target
from dexwm.robot.joints import HOME
from dexwm.robot.kinematics import BatchedKinematics

from .planning_scene import INTRINSICS, camera_pose, deep_model, picture, picture_goal

SEEN = list(RIGHT_HEATMAP_KEYPOINTS)


@pytest.fixture(scope='module')
def kinematics(model):
    return BatchedKinematics.from_model(model).float()


def read(kinematics, goal_seed, now_seed, pose=None):
    """Points of a goal picture; as they would be without correction; and those seen now."""
    model = deep_model()
    image = picture(now_seed)
    seen = Observation(image, HOME, INTRINSICS, camera_pose() if pose is None else pose)
    step = ResizeAndCrop.to_cover(48, 32, *model.encoder.image_size)
    small = step.apply_to_intrinsics(INTRINSICS)
    actions = JointActions(kinematics, model.config.action, seen, small)
    latents = model.encode(torch.from_numpy(step.apply(image))[None])[0]
    reader, goal = GoalReader(model, torch.device('cpu')), picture_goal(goal_seed)
    target = make_target(goal, model, reader, actions, image, step, latents)
    wanted = reader.read(goal, step)
    plain = actions.unproject(wanted.pixels[RIGHT_HAND], wanted.depths[RIGHT_HAND])
    _, pixels, depths = model.keypoints(latents)
    now = actions.unproject(pixels[RIGHT_HAND], depths[RIGHT_HAND])
    return target.points_base[SEEN], plain, now, actions


def test_a_goal_is_corrected_the_less_the_further_away_its_hand_is(kinematics):
    parts = []
    for goal in (1, 2):
        points, plain, now, actions = read(kinematics, goal, 1)
        misread = now - actions.start_keypoints_base[SEEN]
        assert misread.norm(dim=-1).mean() > 0.05
        way = (plain - now).norm(dim=-1).mean()
        parts.append(float(torch.exp(-way / 0.09)))
        torch.testing.assert_close(plain - points, parts[-1] * misread)
    # The first is the observed picture.
    assert 1.0 >= parts[0] > parts[1] > 0.0


def test_a_hand_outside_the_picture_corrects_nothing(kinematics):
    turned = camera_pose() @ np.diag([1.0, -1.0, -1.0, 1.0])
    points, plain, _, _ = read(kinematics, 1, 1, turned)
    torch.testing.assert_close(points, plain)


def test_objects_count_that_are_seen_clearly(kinematics):
    model = deep_model(objects=['ball', 'cube', 'egg'])
    maps = torch.zeros(3, 8, 12)
    maps[0, 3, 4] = 9.0  # The ball: one cell.
    maps[1, 5, 1:9] = 9.0  # The cube: eight, of 2.1 nats.
    shown = []

    def look(latents):
        """The egg is hidden now, and shown in the goal picture."""
        both = maps.expand(2, -1, -1, -1).clone()
        both[0, 2, 6, 1:9] = 9.0
        # Now the ball is one cell further left; it alone moves.
        both[1, 0] = maps[0].roll(-1, dims=-1)
        shown.append(latents.shape)
        return both.flatten(-2).softmax(dim=-1).unflatten(-1, (8, 12))

    model.object_maps = look
    image, step = picture(1), ResizeAndCrop.to_cover(48, 32, *model.encoder.image_size)
    seen = Observation(image, HOME, INTRINSICS, camera_pose())
    small = step.apply_to_intrinsics(INTRINSICS)
    actions = JointActions(kinematics, model.config.action, seen, small)
    latents = model.encode(torch.from_numpy(step.apply(image))[None])[0]
    reader = GoalReader(model, torch.device('cpu'))
    target = make_target(picture_goal(2), model, reader, actions, image, step, latents)
    assert shown == [(2, 6, 6)]
    expected = torch.tensor([[8.5, 6.5], [9.5, 10.5]])
    torch.testing.assert_close(target.objects[:2], expected, atol=0.1, rtol=0)
    assert target.objects[2].isnan().all()
    torch.testing.assert_close(target.moving, target.objects[0])
    maps[:2] = 0.0
    target = make_target(picture_goal(2), model, reader, actions, image, step, latents)
    assert target.objects is None and target.moving is None
    without = deep_model()
    reader = GoalReader(without, torch.device('cpu'))
    target = make_target(picture_goal(2), without, reader, actions, image, step, latents)
    assert target.objects is None and target.moving is None
