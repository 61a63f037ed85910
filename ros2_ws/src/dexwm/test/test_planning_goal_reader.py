"""What the world model sees in a goal picture."""

import cv2
import numpy as np
import pytest
import torch

from dexwm.geometry.preprocess import ResizeAndCrop
from dexwm.planning.goal import GoalError, PictureGoal
from dexwm.planning.goal_reader import GoalReader

from .planning_scene import deep_model, picture, picture_goal


def preprocess(model, width=48, height=32):
    return ResizeAndCrop.to_cover(width, height, *model.encoder.image_size)


def test_keypoints_are_the_mean_of_readings_of_shifted_pictures():
    model, goal = deep_model(), picture_goal(1)
    step = preprocess(model)
    image = step.apply(goal.image)
    height, width = model.encoder.image_size
    third = round(height / model.encoder.grid[0] / 3)
    assert third > 0
    pixels, depths = [], []
    for across in (-third, 0, third):
        for down in (-third, 0, third):
            move = np.float64([[1, 0, across], [0, 1, down]])
            moved = cv2.warpAffine(image, move, (width, height), borderMode=cv2.BORDER_REPLICATE)
            _, seen, depth = model.keypoints(model.encode(torch.from_numpy(moved)[None])[0])
            pixels.append(seen.detach().numpy() - [across, down])
            depths.append(depth.detach().numpy())
    seen = GoalReader(model, torch.device('cpu')).read(goal, step)
    np.testing.assert_allclose(seen.pixels, np.mean(pixels, axis=0), atol=1e-4)
    np.testing.assert_allclose(seen.depths, np.mean(depths, axis=0), atol=1e-5)
    latents = model.encode(torch.from_numpy(image)[None])[0]
    torch.testing.assert_close(seen.latents, latents)


def test_the_same_goal_is_read_once(monkeypatch):
    model = deep_model()
    encode, count = model.encode, []
    monkeypatch.setattr(model, 'encode', lambda images: count.append(1) or encode(images))
    reader = GoalReader(model, torch.device('cpu'))
    first = reader.read(picture_goal(1), preprocess(model))
    assert reader.read(picture_goal(1), preprocess(model)) is first
    assert len(count) == 1
    other = reader.read(picture_goal(2), preprocess(model))
    assert not torch.equal(other.pixels, first.pixels)
    again = reader.read(picture_goal(1), preprocess(model))
    torch.testing.assert_close(again.pixels, first.pixels)
    # Another camera cuts another part out of its pictures.
    reader.read(picture_goal(1), preprocess(model, 96, 64))
    assert len(count) == 4


def test_a_picture_of_another_shape_is_refused():
    model = deep_model()
    with pytest.raises(GoalError, match='has 48x48 pixels, the camera 48x32'):
        reader = GoalReader(model, torch.device('cpu'))
        reader.read(PictureGoal(picture(1, 48)), preprocess(model))
