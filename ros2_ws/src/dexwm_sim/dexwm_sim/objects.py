"""The kinds of movable objects: shape, weight, look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import mujoco

from dexwm_sim.assets import object_mesh, scanned_object_mjcf, texture
from dexwm_sim.textures import add_textured_material

# Sliding, torsional and rolling friction; the last, and condim 6, let round things come to rest.
_FRICTION = (1.0, 0.02, 0.002)
_SOLREF = (0.01, 1.0)
_CONDIM = 6
VISUAL_GROUP = 0
COLLISION_GROUP = 3


class UnknownObjectError(ValueError):
    """An object kind that does not exist."""


@dataclass(frozen=True)
class ObjectKind:
    """What an object of this kind is.

    Attributes:
        name: Name of the kind, and of the body in the model: a scene has one of a kind.
        radius: Radius of the circle on the counter that the object stays within (m).
        coloured: Whether its colour is drawn freely; otherwise its texture is only tinted.
        add: Adds the shape to a body. Arguments: the spec, the body, the kind's name.
    """

    name: str
    radius: float
    coloured: bool
    add: Callable[[mujoco.MjSpec, mujoco.MjsBody, str], None]


def object_kind(name: str) -> ObjectKind:
    """Returns the kind of that name.

    Raises:
        UnknownObjectError: If there is none; the message lists those there are.
    """
    try:
        return OBJECT_KINDS[name]
    except KeyError:
        raise UnknownObjectError(
            f'unknown object {name!r}; there are {", ".join(OBJECT_KINDS)}'
        ) from None


def _contact(geom: mujoco.MjsGeom, mass: float) -> None:
    geom.mass = mass
    geom.condim = _CONDIM
    geom.friction = _FRICTION
    geom.solref = _SOLREF


def _add_primitive(
    spec: mujoco.MjSpec,
    body: mujoco.MjsBody,
    name: str,
    *,
    shape: mujoco.mjtGeom,
    size: tuple[float, float, float],
    mass: float,
) -> None:
    _contact(body.add_geom(name=name, type=shape, size=size, group=VISUAL_GROUP), mass)


def _add_mesh(
    spec: mujoco.MjSpec,
    body: mujoco.MjsBody,
    name: str,
    *,
    picture: str,
    scale: float,
    mass: float,
) -> None:
    spec.add_mesh(name=name, file=str(object_mesh(name)), scale=[scale] * 3)
    add_textured_material(spec, name, texture(picture))
    geom = body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_MESH,
        meshname=name,
        material=name,
        group=VISUAL_GROUP,
    )
    _contact(geom, mass)


def _add_scan(
    spec: mujoco.MjSpec, body: mujoco.MjsBody, name: str, *, group: str, mass: float
) -> None:
    scan = mujoco.MjSpec.from_file(str(scanned_object_mjcf(group, name)))
    for option in ('cone', 'impratio', 'integrator', 'timestep'):
        setattr(scan.option, option, getattr(spec.option, option))
    scan.visual.map.znear = spec.visual.map.znear
    root = scan.body(name)
    root.pos = [0, 0, 0]
    root.explicitinertial = False
    for joint in list(root.joints):
        scan.delete(joint)
    solid = [geom for geom in root.geoms if geom.contype]
    for geom in root.geoms:
        geom.mass = 0
        geom.group = COLLISION_GROUP if geom.contype else VISUAL_GROUP
    for geom in solid:
        _contact(geom, mass / len(solid))
    spec.attach(scan, prefix=f'{name}/', frame=body.add_frame())


_BOX = mujoco.mjtGeom.mjGEOM_BOX
_CYLINDER = mujoco.mjtGeom.mjGEOM_CYLINDER
_SPHERE = mujoco.mjtGeom.mjGEOM_SPHERE

OBJECT_KINDS: dict[str, ObjectKind] = {
    kind.name: kind
    for kind in (
        ObjectKind(
            'box', 0.036, True,
            partial(_add_primitive, shape=_BOX, size=(0.025, 0.025, 0.03), mass=0.05),
        ),
        ObjectKind(
            'cylinder', 0.028, True,
            partial(_add_primitive, shape=_CYLINDER, size=(0.028, 0.045, 0), mass=0.07),
        ),
        ObjectKind(
            'sphere', 0.03, True,
            partial(_add_primitive, shape=_SPHERE, size=(0.03, 0, 0), mass=0.035),
        ),
        ObjectKind('can', 0.026, False, partial(_add_mesh, picture='soda', scale=1.0, mass=0.03)),
        ObjectKind(
            'milk', 0.03, False, partial(_add_mesh, picture='ceramic', scale=0.9, mass=0.04)
        ),
        ObjectKind(
            'cereal', 0.043, False, partial(_add_mesh, picture='cereal', scale=0.8, mass=0.04)
        ),
        ObjectKind(
            'bread', 0.032, False, partial(_add_mesh, picture='bread', scale=0.8, mass=0.03)
        ),
        ObjectKind('apple', 0.042, False, partial(_add_scan, group='food', mass=0.1)),
        ObjectKind('lemon', 0.035, False, partial(_add_scan, group='food', mass=0.06)),
        ObjectKind('mug', 0.07, False, partial(_add_scan, group='kitchen', mass=0.118)),
        ObjectKind('bowl', 0.085, False, partial(_add_scan, group='kitchen', mass=0.12)),
    )
}  # fmt: skip
"""Every kind by its name. Weights are those of empty packages and light toys."""
