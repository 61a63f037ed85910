"""A small observation, goal and planner: a robot in front of a camera, and a tiny world model."""

import numpy as np

from dexwm.geometry.camera import CameraIntrinsics
from dexwm.planning.goal import PictureGoal
from dexwm.planning.observation import Observation
from dexwm.planning.planner import Planner
from dexwm.planning.preset import Preset
from dexwm.robot.joints import HOME

from .tiny_world_model import tiny_world_model

INTRINSICS = CameraIntrinsics(48, 32, 34.0, 34.0, 23.5, 15.5)


def picture(seed, height=32, width=48):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def camera_pose():
    """Looks from above and beside at where the hand is at home."""
    position, at = np.array([0.1, 0.55, 1.0]), np.array([0.5, -0.1, 0.5])
    forward = (at - position) / np.linalg.norm(at - position)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = position
    return pose


def observation(seed=0, q=HOME):
    return Observation(picture(seed), np.array(q), INTRINSICS, camera_pose())


def picture_goal(seed=1):
    return PictureGoal(picture(seed))


def deep_model(**written):
    """A tiny model that reads depths."""
    head = {'dim': 8, 'depth': 1, 'heads': 2, 'stride': 2, 'depths': True}
    return tiny_world_model(
        keypoint_head=head, heatmap_loss='cross_entropy', action={'absolute': True}, **written
    )


def planner(model, robot, **settings):
    settings = {'samples': 12, 'iterations': 3, 'elites': 4, **settings}
    return Planner(robot=robot, model=model, preset=Preset('test', **settings))
