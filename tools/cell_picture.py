"""Draws docs/cell.jpg: the expert has lifted the can, seen by head camera and by a bystander."""

from pathlib import Path

import cv2
import numpy as np

from dexwm.robot.joints import HOME
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.description import robot_description
from dexwm_sim.cell import Cell
from dexwm_sim.expert import Expert
from dexwm_sim.follow import Follower
from dexwm_sim.render import CellRenderer
from dexwm_sim.scene_config import SceneConfig

SEED = 11
OBJECTS = ('can', 'apple', 'bowl', 'box', 'milk')


def main() -> None:
    """Simulate, draw and write."""
    cell = Cell(SceneConfig.sample(SEED, OBJECTS, quality='fine'))
    expert = Expert(RobotModel.from_urdf(robot_description()))
    Follower(cell, HOME).follow(expert.pick(cell.object_pose('can')[:3], HOME))
    views = []
    for camera in ('head', 'side'):
        with CellRenderer(cell.model, 588, 336, camera) as renderer:
            views.append(renderer.render(cell.data))
    path = Path(__file__).parents[1] / 'docs' / 'cell.jpg'
    cv2.imwrite(str(path), np.hstack(views)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])


if __name__ == '__main__':
    main()
