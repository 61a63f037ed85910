"""The simulated robot is the described one: same links, same places, same contacts."""

import mujoco
import numpy as np
import pytest

from dexwm.robot.collision import IGNORED_ARM_PAIRS, CollisionChecker
from dexwm.robot.joints import JOINTS, robot_limits
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.cell_config import CAMERA_FRAME, load_cell_config
from dexwm_franka_bringup.description import robot_description
from dexwm_sim.robot_spec import ARM_LINKS, FINGERTIPS, PALM, WRIST_SITE
from dexwm_sim.scene import HEAD_CAMERA, build_model
from dexwm_sim.scene_config import SceneConfig

LINKS = (*ARM_LINKS, PALM, *(f'link_{i}.0' for i in range(16)), *FINGERTIPS)

# The simulator leaves these out: it lets what is next to each other interpenetrate.
SIMULATOR_IGNORES = {('fr3_link5', PALM), ('fr3_link6', PALM)}

# The arm's hulls and most of the hand's boxes are the same in both. A fingertip and the link that
# it sits on overlap, by different lengths in the two, so they count as one body.
DEEP = 0.005


@pytest.fixture(scope='module')
def cell_model():
    return build_model(SceneConfig(seed=0, objects=()))


@pytest.fixture(scope='module')
def robot():
    return RobotModel.from_urdf(robot_description())


@pytest.fixture(scope='module')
def place(cell_model):
    """Puts the simulated robot into joint positions and returns the simulator's state."""
    data = mujoco.MjData(cell_model)
    address = [cell_model.joint(name).qposadr[0] for name in JOINTS]

    def put(q):
        data.qpos[address] = q
        mujoco.mj_kinematics(cell_model, data)
        mujoco.mj_camlight(cell_model, data)
        mujoco.mj_collision(cell_model, data)
        return data

    return put


def random_positions(count, seed):
    limits = robot_limits()
    return np.random.default_rng(seed).uniform(limits.lower, limits.upper, (count, 23))


def test_joint_ranges_agree(cell_model):
    limits = robot_limits()
    ranges = np.array([cell_model.joint(name).range for name in JOINTS])
    np.testing.assert_allclose(ranges, np.stack([limits.lower, limits.upper], axis=1))


def test_every_link_is_where_pinocchio_has_it(robot, place):
    for q in random_positions(1000, seed=0):
        data = place(q)
        poses = np.stack([robot.frame_pose(q, link) for link in LINKS])
        positions = [data.body(link).xpos for link in LINKS]
        rotations = [data.body(link).xmat.reshape(3, 3) for link in LINKS]
        assert np.abs(poses[:, :3, 3] - positions).max() < 1e-5
        assert np.abs(poses[:, :3, :3] - rotations).max() < 1e-5
        wrist = robot.frame_pose(q, 'allegro_wrist')[:3, 3]
        assert np.abs(data.site(WRIST_SITE).xpos - wrist).max() < 1e-5


def test_camera_is_where_the_description_has_it(robot, place):
    q = random_positions(1, seed=1)[0]
    camera = place(q).cam(HEAD_CAMERA)
    pose = robot.frame_pose(q, CAMERA_FRAME)
    np.testing.assert_allclose(camera.xpos, pose[:3, 3], atol=1e-9)
    # MuJoCo's cameras look along -z with y up.
    axes = camera.xmat.reshape(3, 3) * [1.0, -1.0, -1.0]
    np.testing.assert_allclose(axes, pose[:3, :3], atol=1e-9)


def test_collision_check_agrees_with_the_simulators_contacts(cell_model, place):
    """What penetrates deeply in one is a contact in the other."""
    boxes = load_cell_config().boxes
    checker = CollisionChecker.from_urdf(robot_description(), boxes)
    box_names = [box.name for box in boxes]
    order = [*LINKS, *box_names]
    hand = set(LINKS) - set(ARM_LINKS)
    geom_bodies = [
        geom.name if geom.name in box_names else cell_model.body(geom.bodyid[0]).name
        for geom in map(cell_model.geom, range(cell_model.ngeom))
    ]

    def is_compared(first, second):
        return (
            {first, second} <= set(order)
            and not {first, second} <= hand
            and (first, second) not in IGNORED_ARM_PAIRS | SIMULATOR_IGNORES
            and not (first in ARM_LINKS[:2] and second in box_names)
        )

    def deepest(contacts):
        """Distance for each compared pair out of (body, body, distance)."""
        distances = {}
        for first, second, distance in contacts:
            if is_compared(first, second):
                pair = first.removesuffix('_tip'), second.removesuffix('_tip')
                distances[pair] = min(distance, distances.get(pair, 0.0))
        return distances

    def simulated_contacts(q):
        for contact in place(q).contact:
            pair = [geom_bodies[geom] for geom in contact.geom]
            if set(pair) <= set(order):
                yield *sorted(pair, key=order.index), contact.dist

    compared = 0
    for q in random_positions(300, seed=2):
        checked = deepest((c.first, c.second, c.distance) for c in checker.check(q))
        simulated = deepest(simulated_contacts(q))
        for found, other in ((checked, simulated), (simulated, checked)):
            deep = {pair for pair, distance in found.items() if distance < -DEEP}
            assert deep <= set(other), {pair: found[pair] for pair in deep - set(other)}
            compared += len(deep)
    assert compared > 200
