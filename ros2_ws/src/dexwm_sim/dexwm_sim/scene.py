"""The MuJoCo model of the cell: robot, counter, objects, camera, light.

World, robot base and URDF root coincide: origin at the base of the arm, z up, SI units.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np

from dexwm_franka_bringup.cell_config import CameraConfig, CellConfig, load_cell_config
from dexwm_sim.assets import texture
from dexwm_sim.objects import VISUAL_GROUP, object_kind
from dexwm_sim.robot_spec import add_robot
from dexwm_sim.scene_config import COUNTERS, FLOORS, WALLS, SceneConfig
from dexwm_sim.textures import add_textured_material

HEAD_CAMERA = 'head'
"""The camera over the robot's shoulder, whose pose and intrinsics are configuration."""

SIDE_CAMERA = 'side'
"""A second view, for people."""

TIMESTEP = 0.002
"""Default simulation step (s)."""

_SURFACE_OF_BOX = {'counter': 'counter', 'cabinet': 'cabinet'}
_SIDE_WALL_Y = -1.6
_VIEW_CENTRE = (0.6, 0.1, 0.22)
_FLOOR_Z = -0.68
_TEXTURES_PER_METRE = {'counter': 1.5, 'wall': 1.0, 'floor': 2.0, 'cabinet': 1.0}
_CABINET = 'gray-woodgrain'
# Shadow map size and samples per pixel.
_RENDERING = {'fast': (0, 0), 'standard': (1024, 0), 'fine': (2048, 4)}
_BOX = mujoco.mjtGeom.mjGEOM_BOX


def build_model(
    config: SceneConfig,
    *,
    cell: CellConfig | None = None,
    timestep: float = TIMESTEP,
    arm_servos: bool = True,
    hand_servos: bool = True,
) -> mujoco.MjModel:
    """Compiles the cell.

    Only the kinds of objects, the timestep and the servos shape the model; positions, colours,
    surfaces and light are values in its arrays, see ``apply_look``.

    Args:
        config: The scene.
        cell: Camera, mount of the hand and boxes; None: the project's configuration file.
        timestep: Simulation step (s).
        arm_servos: Whether the arm has position servos, or is driven by joint torques.
        hand_servos: Whether the hand has position servos, or motors that take torques.

    Raises:
        MissingAssetError: If a package with meshes or textures is not installed.
    """
    cell = cell or load_cell_config()
    spec = mujoco.MjSpec()
    spec.modelname = 'dexwm_cell'
    spec.compiler.degree = False
    spec.option.timestep = timestep
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10
    _set_visuals(spec)
    _add_surroundings(spec, cell)
    add_robot(spec, cell.mount, arm_servos=arm_servos, hand_servos=hand_servos)
    _add_head_camera(spec, cell.camera)
    _add_side_camera(spec)
    for placement in config.objects:
        body = spec.worldbody.add_body(name=placement.kind)
        body.add_freejoint(name=placement.kind)
        object_kind(placement.kind).add(spec, body, placement.kind)
    model = spec.compile()
    apply_look(model, config)
    return model


def apply_look(model: mujoco.MjModel, config: SceneConfig) -> None:
    """Sets colours, surfaces, light and picture quality of a model with the same objects.

    A renderer of the model shows the change, except for the quality, which it takes when it is
    made.
    """
    look = config.surroundings
    for geoms, name in (
        (('counter',), f'counter/{look.counter}'),
        (('back_wall', 'side_wall'), f'wall/{look.wall}'),
        (('floor',), f'floor/{look.floor}'),
    ):
        for geom in geoms:
            model.geom(geom).matid = model.material(name).id
    model.geom('counter').rgba[:3] = 0.88
    model.geom('backsplash').rgba[:3] = look.panel
    for placement in config.objects:
        body = model.body(placement.kind).id
        shown = (model.body_rootid[model.geom_bodyid] == body) & (model.geom_group == VISUAL_GROUP)
        model.geom_rgba[shown] = placement.rgba
    horizontal = math.cos(look.light_elevation)
    from_light = np.array(
        [
            horizontal * math.cos(look.light_azimuth),
            horizontal * math.sin(look.light_azimuth),
            math.sin(look.light_elevation),
        ]
    )
    tint = np.array([1.0 + 0.06 * look.warmth, 1.0, 1.0 - 0.08 * look.warmth])
    light = model.light('key')
    light.dir = -from_light
    light.pos = np.array(_VIEW_CENTRE) + 1.8 * from_light
    light.diffuse = look.light * tint
    model.vis.headlight.ambient = look.ambient * tint
    shadow, samples = _RENDERING[config.quality]
    light.castshadow = shadow > 0
    model.vis.quality.shadowsize = shadow
    model.vis.quality.offsamples = samples


def _set_visuals(spec: mujoco.MjSpec) -> None:
    spec.visual.headlight.diffuse = [0.22] * 3
    spec.visual.headlight.specular = [0.05] * 3
    spec.visual.map.znear = 0.02
    spec.visual.map.zfar = 30
    # A shadow map that covers the counter and no more has enough detail at 1024 pixels.
    spec.visual.map.shadowclip = 0.9
    spec.visual.map.shadowscale = 0.8
    spec.stat.extent = 1.3
    spec.stat.center = [0.5, 0.15, 0.4]


def _add_surroundings(spec: mujoco.MjSpec, cell: CellConfig) -> None:
    materials = {}
    for surface, names in (
        ('counter', COUNTERS),
        ('wall', WALLS),
        ('floor', FLOORS),
        ('cabinet', (_CABINET,)),
    ):
        for name in names:
            add_textured_material(
                spec, f'{surface}/{name}', texture(name), per_metre=_TEXTURES_PER_METRE[surface]
            )
        materials[surface] = f'{surface}/{names[0]}'
    world = spec.worldbody
    for box in cell.boxes:
        surface = _SURFACE_OF_BOX.get(box.name)
        world.add_geom(
            name=box.name,
            type=_BOX,
            size=box.size / 2,
            pos=box.position,
            material=materials[surface] if surface else '',
            friction=[1, 0.02, 0.001],
            condim=4,
            solref=[0.01, 1],
        )
    world.add_geom(
        name='floor',
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[4, 4, 0.1],
        pos=[0, 0, _FLOOR_Z],
        material=materials['floor'],
    )
    world.add_geom(
        name='pedestal',
        type=_BOX,
        size=[0.14, 0.14, -_FLOOR_Z / 2],
        pos=[-0.04, 0, _FLOOR_Z / 2],
        rgba=[0.3, 0.3, 0.32, 1],
        contype=0,
        conaffinity=0,
    )
    wall = cell.box('wall')
    # Pictures lie along the x and y axes of a shape, so an upright surface is a turned plane.
    for name, position, z_axis in (
        ('back_wall', [wall.position[0] - wall.size[0] / 2 - 1e-3, 0, 0.72], [-1, 0, 0]),
        ('side_wall', [0, _SIDE_WALL_Y, 0.72], [0, 1, 0]),
    ):
        world.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_PLANE,
            size=[2.5, 2.5, 0.1],
            pos=position,
            zaxis=z_axis,
            material=materials['wall'],
            contype=0,
            conaffinity=0,
        )
    world.add_light(
        name='key',
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        specular=[0.2] * 3,
        ambient=[0.0] * 3,
    )


def _add_head_camera(spec: mujoco.MjSpec, camera: CameraConfig) -> None:
    intrinsics = camera.intrinsics
    # Optical frames look along +z with y down; MuJoCo's cameras along -z with y up.
    R_base_from_camera = camera.T_base_from_camera[:3, :3] @ np.diag([1.0, -1.0, -1.0])
    quat_wxyz = np.zeros(4)
    mujoco.mju_mat2Quat(quat_wxyz, R_base_from_camera.ravel())
    spec.worldbody.add_camera(
        name=HEAD_CAMERA,
        pos=camera.T_base_from_camera[:3, 3],
        quat=quat_wxyz,
        resolution=[intrinsics.width, intrinsics.height],
        # The principal point is an offset from the picture's middle, which lies half a pixel
        # from the middle pixel's centre. Any sensor size will do: the rest is in pixels.
        sensor_size=[1e-5 * intrinsics.width, 1e-5 * intrinsics.height],
        focal_pixel=[intrinsics.fx, intrinsics.fy],
        principal_pixel=[
            (intrinsics.width - 1) / 2 - intrinsics.cx,
            (intrinsics.height - 1) / 2 - intrinsics.cy,
        ],
    )


def _add_side_camera(spec: mujoco.MjSpec) -> None:
    position, target = np.array([1.0, 1.2, 0.92]), np.array([0.35, 0.0, 0.42])
    backward = (position - target) / np.linalg.norm(position - target)
    right = np.cross([0.0, 0.0, 1.0], backward)
    right /= np.linalg.norm(right)
    quat_wxyz = np.zeros(4)
    axes = np.stack([right, np.cross(backward, right), backward], axis=1)
    mujoco.mju_mat2Quat(quat_wxyz, axes.ravel())
    spec.worldbody.add_camera(name=SIDE_CAMERA, pos=position, quat=quat_wxyz, fovy=50)
