"""The FR3 with a right Allegro hand as part of a MuJoCo model.

Bodies and joints carry the names of the project's URDF, whatever the MJCF files call them.
"""

from __future__ import annotations

import math
from pathlib import Path

import mujoco

from dexwm.robot.joints import HAND_JOINTS
from dexwm_franka_bringup.cell_config import MountConfig
from dexwm_sim.assets import allegro_mjcf, fr3_mjcf
from dexwm_sim.meshes import decimated_mesh

BASE = 'base'
"""Root body of the robot."""

PALM = 'palm_link'
"""Root body of the hand; its wrist is a site."""

WRIST_SITE = 'allegro_wrist'
"""Site at the palm's wrist face."""

FINGERTIPS: tuple[str, ...] = ('link_3.0_tip', 'link_7.0_tip', 'link_11.0_tip', 'link_15.0_tip')
"""Bodies at the fingertips: index, middle, ring, thumb."""

ARM_LINKS: tuple[str, ...] = tuple(f'fr3_link{i}' for i in range(8))

# The hand's MJCF names fingers ff, mf, rf, th and their bodies base ... distal, tip.
_FINGERS = ('ff', 'mf', 'rf', 'th')
_PHALANGES = ('base', 'proximal', 'medial', 'distal')
# Fingertip frames of Wonik's URDF in the distal links; the MJCF leaves them at the joint.
_TIP_OFFSET = {'ff': 0.0267, 'mf': 0.0267, 'rf': 0.0267, 'th': 0.0423}

# Both files name materials, meshes and defaults alike, so everything attached gets a prefix;
# bodies, joints, servos and sites lose it again.
_ARM_PREFIX = 'arm/'
_HAND_PREFIX = 'hand/'
# The flange in the last link's frame (Franka), the palm's frame over its wrist face (Wonik), m.
_FLANGE_Z = 0.107
_PALM_DEPTH = 0.095
_KEEP_ARM_FACES = 0.2
_KEEP_HAND_FACES = 0.35
# Wonik's palm, which the packaged MJCF has commented out.
_PALM_MASS = 0.4154
_PALM_COM_Z = -0.0475
_PALM_INERTIA = (1e-3, 8e-4, 8e-4)
# The hand's servos: a soft position loop and the motors' peak torque (N m/rad, N m s/rad, N m).
_HAND_KP = 3.0
_HAND_KV = 0.15
_HAND_TORQUE = 0.7
_HAND_JOINT = {'armature': 0.001, 'damping': 0.05, 'frictionloss': 0.01}
_ADAPTER_RADIUS = 0.032
_ADAPTER_MASS = 0.08


def add_robot(
    spec: mujoco.MjSpec, mount: MountConfig, *, arm_servos: bool, hand_servos: bool = True
) -> None:
    """Adds the robot to a model, its base at the world's origin.

    Gravity is compensated on every link, as Franka's controller and a gravity-compensated hand
    do.

    Args:
        spec: Model to add to; its options win over those of the robot's files.
        mount: How the hand sits on the flange.
        arm_servos: Whether the arm gets position servos. Without them, whoever steps the model
            applies joint torques (``qfrc_applied``).
        hand_servos: Whether the hand's motors get position servos, or take torques (N m).
    """
    arm = _arm(arm_servos)
    hand = _hand(hand_servos)
    for part in (arm, hand):
        for option in ('cone', 'impratio', 'integrator', 'timestep'):
            setattr(part.option, option, getattr(spec.option, option))
    flange = arm.body('fr3_link7')
    flange.add_geom(
        name='adapter',
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        size=[_ADAPTER_RADIUS, mount.thickness / 2, 0],
        pos=[0, 0, _FLANGE_Z + mount.thickness / 2],
        rgba=[0.15, 0.15, 0.16, 1],
        mass=_ADAPTER_MASS,
        contype=0,
        conaffinity=0,
        group=2,
    )
    palm_frame = flange.add_frame(
        pos=[0, 0, _FLANGE_Z + mount.thickness + _PALM_DEPTH],
        quat=[math.cos(mount.yaw / 2), 0, 0, math.sin(mount.yaw / 2)],
    )
    arm.attach(hand, prefix=_HAND_PREFIX, frame=palm_frame)
    spec.attach(arm, prefix=_ARM_PREFIX, frame=spec.worldbody.add_frame())
    for element in (*spec.bodies, *spec.joints, *spec.actuators, *spec.sites):
        element.name = _without_prefix(element.name)
    for actuator in spec.actuators:
        actuator.target = _without_prefix(actuator.target)
    for body in spec.bodies:
        if body.name != 'world':
            body.gravcomp = 1.0
    _add_excludes(spec)


def _without_prefix(name: str) -> str:
    return name.removeprefix(_ARM_PREFIX).removeprefix(_HAND_PREFIX)


def _arm(servos: bool) -> mujoco.MjSpec:
    arm = mujoco.MjSpec.from_file(str(fr3_mjcf()))
    for key in list(arm.keys):
        arm.delete(key)
    for element in (*arm.lights, *arm.excludes):
        arm.delete(element)
    _decimate(arm, '.obj', _KEEP_ARM_FACES)
    for actuator in list(arm.actuators):
        if servos:
            joint = arm.joint(actuator.target)
            actuator.forcelimited = True
            actuator.forcerange = joint.actfrcrange
        else:
            arm.delete(actuator)
    return arm


def _decimate(spec: mujoco.MjSpec, suffix: str, keep: float) -> None:
    """Makes the visual meshes light; the arm's collision meshes, which are STL, stay."""
    folder = Path(spec.modelfiledir) / spec.meshdir
    for mesh in spec.meshes:
        if mesh.file.endswith(suffix):
            vertices, faces = decimated_mesh(folder / mesh.file, keep)
            mesh.name = mesh.name or Path(mesh.file).stem
            mesh.file = ''
            mesh.uservert = vertices.ravel()
            mesh.userface = faces.ravel()


def _hand(servos: bool) -> mujoco.MjSpec:
    hand = mujoco.MjSpec.from_file(str(allegro_mjcf()))
    _decimate(hand, '.stl', _KEEP_HAND_FACES)
    palm = hand.body('palm')
    for joint in list(palm.joints):
        hand.delete(joint)
    palm.quat = [1, 0, 0, 0]
    palm.mass = _PALM_MASS
    palm.ipos = [0, 0, _PALM_COM_Z]
    palm.inertia = _PALM_INERTIA
    palm.explicitinertial = True
    palm.add_site(name=WRIST_SITE, pos=[0, 0, -_PALM_DEPTH], size=[0.004] * 3, group=4)
    for joint in hand.joints:
        joint.armature = _HAND_JOINT['armature']
        joint.damping[0] = _HAND_JOINT['damping']
        joint.frictionloss = _HAND_JOINT['frictionloss']
    for actuator in hand.actuators:
        if servos:
            actuator.set_to_position(kp=_HAND_KP, kv=_HAND_KV)
        else:
            actuator.set_to_motor()
            actuator.ctrllimited = False
        actuator.forcelimited = True
        actuator.forcerange = [-_HAND_TORQUE, _HAND_TORQUE]
    for geom in hand.geoms:
        if geom.contype:
            tip = geom.parent.name.endswith('_tip')
            geom.condim = 4
            geom.friction = [1.5, 0.03, 0.001] if tip else [1.2, 0.02, 0.001]
            if tip:
                geom.priority = 1
                geom.solref = [0.01, 1]
    for exclude in list(hand.excludes):
        hand.delete(exclude)
    # As a camera sees it: black as in the file swallows all shape.
    hand.material('black').rgba = [0.27, 0.27, 0.29, 1]
    _move_tips(hand)
    _rename(hand)
    return hand


def _move_tips(hand: mujoco.MjSpec) -> None:
    for finger, offset in _TIP_OFFSET.items():
        tip = hand.body(f'{finger}_tip')
        tip.pos = [0, 0, offset]
        for geom in tip.geoms:
            geom.pos = [0, 0, geom.pos[2] - offset]


def _rename(hand: mujoco.MjSpec) -> None:
    hand.body('palm').name = PALM
    for index, joint in enumerate(HAND_JOINTS):
        finger, k = _FINGERS[index // 4], index % 4
        hand.joint(f'{finger}j{k}').name = joint
        hand.body(f'{finger}_{_PHALANGES[k]}').name = f'link_{index}.0'
        actuator = hand.actuator(f'{finger}a{k}')
        actuator.name = actuator.target = joint
        if k == 3:
            hand.body(f'{finger}_tip').name = f'link_{index}.0_tip'


def _add_excludes(spec: mujoco.MjSpec) -> None:
    """Leaves out pairs that touch in every posture: neighbours whose boxes overlap by design."""
    pairs = [
        ('fr3_link0', 'fr3_link1'),
        ('fr3_link5', PALM),
        ('fr3_link6', PALM),
        ('world', 'fr3_link0'),
        ('world', 'fr3_link1'),
    ]
    # Wonik's boxes of the palm and of the first two links of each finger graze each other.
    pairs += [
        (PALM, f'link_{index}.0') for finger in range(4) for index in (4 * finger, 4 * finger + 1)
    ]
    for first, second in pairs:
        spec.add_exclude(bodyname1=first, bodyname2=second)
