import mujoco
import numpy as np
import pytest

from dexwm.robot.joints import ARM, HAND, HOME, robot_limits
from dexwm_sim.cell import Cell, CellError
from dexwm_sim.objects import OBJECT_KINDS
from dexwm_sim.scene_config import ObjectPlacement, SceneConfig


@pytest.fixture(scope='module')
def cell():
    return Cell(SceneConfig.sample(0, ('box', 'can', 'mug'), quality='fast'))


@pytest.fixture(autouse=True)
def fresh(cell):
    cell.reset()


def test_starts_at_rest_in_the_resting_posture(cell):
    np.testing.assert_array_equal(cell.joint_positions(), HOME)
    np.testing.assert_array_equal(cell.joint_velocities(), np.zeros(23))
    assert cell.data.time == 0
    cell.command(HOME)
    cell.step(500)
    assert np.abs(cell.joint_positions() - HOME).max() < 1e-3


def test_objects_stand_still_on_the_counter():
    items = [
        ObjectPlacement(kind, 0.35 + 0.18 * (i % 4), 0.3 + 0.2 * (i // 4), float(i), (1, 1, 1, 1))
        for i, kind in enumerate(OBJECT_KINDS)
    ]
    cell = Cell(SceneConfig(0, items))
    start = {item.kind: cell.object_pose(item.kind)[:3] for item in items}
    cell.command(HOME)
    # Round things roll a little before they lie still.
    cell.step(1500)
    for item in items:
        np.testing.assert_allclose(start[item.kind][:2], [item.x, item.y], atol=0.01)
        assert start[item.kind][2] > 0.22
        end = cell.object_pose(item.kind)[:3]
        np.testing.assert_allclose(end, start[item.kind], atol=0.01, err_msg=item.kind)
        assert np.abs(cell.data.joint(item.kind).qvel[:3]).max() < 0.01, item.kind


def test_same_commands_same_state_bit_for_bit(cell):
    def run():
        cell.reset()
        rng = np.random.default_rng(0)
        for _ in range(20):
            cell.command(HOME + rng.normal(0, 0.1, 23))
            cell.step(20)
        return cell.data.qpos.tobytes() + cell.data.qvel.tobytes()

    other = Cell(cell.config)
    first = run()
    assert run() == first
    cell_before, cell = cell, other
    assert run() == first
    assert cell is not cell_before


def test_follows_a_moving_target(cell):
    target = np.clip(HOME + 0.4, robot_limits().lower + 0.1, robot_limits().upper - 0.1)
    duration, steps = 2.0, 1000
    largest = 0.0
    for k in range(steps):
        # Minimum-jerk profile and its derivative.
        s = (k + 1) / steps
        position = HOME + (target - HOME) * (10 * s**3 - 15 * s**4 + 6 * s**5)
        velocity = (target - HOME) * (30 * s**2 - 60 * s**3 + 30 * s**4) / duration
        cell.command(position, velocity)
        cell.step()
        error = np.abs(cell.joint_positions() - position)
        largest = max(largest, error[ARM].max())
        assert error[HAND].max() < 0.1
    assert largest < 0.01


def test_loading_a_scene_of_the_same_kinds_equals_a_new_cell(cell):
    other = SceneConfig.sample(7, ('box', 'can', 'mug'))
    model = cell.model
    before = cell.config
    cell.load(other)
    assert cell.model is model
    fresh = Cell(other)
    np.testing.assert_array_equal(cell.data.qpos, fresh.data.qpos)
    cell.load(SceneConfig.sample(7, ('apple',)))
    assert cell.object_names == ('apple',)
    cell.load(before)


def test_object_pose_is_xyzw(cell):
    item = cell.config.objects[0]
    pose = cell.object_pose(item.kind)
    assert pose.shape == (7,)
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, pose[[6, 3, 4, 5]])
    yaw = np.arctan2(matrix[3], matrix[0])
    assert abs(np.angle(np.exp(1j * (yaw - item.yaw)))) < 0.02


def test_touch_needs_the_hand(cell):
    assert cell.objects_touched() == frozenset()
    palm = cell.data.body('palm_link').xpos
    cell.data.joint('can').qpos[:3] = palm + [0, 0, -0.02]
    mujoco.mj_forward(cell.model, cell.data)
    assert cell.objects_touched() == {'can'}
    cell.data.joint('can').qpos[:3] = cell.data.body('fr3_link4').xpos
    mujoco.mj_forward(cell.model, cell.data)
    assert cell.objects_touched() == frozenset()


def test_objects_begin_where_they_are_put(cell):
    pose = [0.5, 0.1, 0.9, 0.0, 0.6, 0.0, 0.8]
    cell.reset(object_poses={'can': pose})
    # It falls for as long as the others settle.
    x, y, z = cell.object_pose('can')[:3]
    assert abs(x - 0.5) < 1e-3 and abs(y - 0.1) < 1e-3 and 0.3 < 0.9 - z < 0.5
    np.testing.assert_allclose(cell.object_pose('can')[3:], pose[3:], atol=1e-6)
    with pytest.raises(CellError, match=r'cup.*box'):
        cell.reset(object_poses={'cup': pose})


def test_what_hides_an_object(cell):
    def look(name, offset):
        return cell.visible_share(name, cell.object_pose(name)[:3] + offset)

    for name in cell.object_names:
        assert look(name, [0.0, 0.0, 0.5]) > 0.9, name
        assert look(name, [0.0, 0.0, -0.5]) == 0, name
    # A box over one side of the can.
    can = cell.data.joint('can').qpos
    cell.data.joint('box').qpos[:] = [*can[:3] + [0.03, 0.0, 0.15], 1.0, 0.0, 0.0, 0.0]
    mujoco.mj_forward(cell.model, cell.data)
    assert 0.2 < look('can', [0.0, 0.0, 0.5]) < 0.8
    with pytest.raises(CellError, match='no object'):
        cell.visible_share('piano', [0.0, 0.0, 1.0])


def test_hand_points(cell):
    points = cell.hand_points()
    assert points.shape == (5, 3)
    # The wrist face is 0.107 m + plate from the last link's frame, along its z axis.
    link = cell.data.body('fr3_link7')
    z = link.xmat.reshape(3, 3)[:, 2]
    np.testing.assert_allclose(points[0], link.xpos + 0.119 * z, atol=1e-9)
    assert len({tuple(point) for point in points.round(6)}) == 5


def test_bad_commands_are_refused(cell):
    with pytest.raises(CellError, match='23'):
        cell.command(np.zeros(22))
    with pytest.raises(CellError, match='finite'):
        cell.command(np.full(23, np.nan))
    with pytest.raises(CellError, match=r'cup.*box'):
        cell.object_pose('cup')
    without = Cell(SceneConfig.sample(0, ('box',)), arm_servos=False)
    with pytest.raises(CellError, match='servos'):
        without.command(HOME)
    without.command_hand(HOME[HAND])
    without.step(10)
