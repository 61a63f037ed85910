"""Collisions of the robot with itself and with boxes around it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import coal
import numpy as np
import pinocchio
from numpy.typing import ArrayLike, NDArray

from dexwm.robot.box import Box
from dexwm.robot.joints import JOINTS
from dexwm.robot.model import RobotModel, RobotModelError

ARM_LINKS: tuple[str, ...] = tuple(f'fr3_link{i}' for i in range(8))
"""The arm's links that have a body, from base to wrist."""

IGNORED_ARM_PAIRS: frozenset[tuple[str, str]] = frozenset(
    {
        *itertools.pairwise(ARM_LINKS),
        ('fr3_link5', 'fr3_link7'),
    }
)
"""Pairs of arm links that are not checked.

Neighbours touch at their joint. Between links 5 and 7 there is only joint 6, whose limits keep
them apart (Franka's own configuration ignores the pair too); their convex hulls overlap at its
end.
"""

BOLTED_TO_LAST_LINK: frozenset[str] = frozenset({'allegro_wrist', 'palm_link'})
"""Links of the hand that touch the arm's last link because they are bolted to it."""

LEAVING_TOLERANCE = 1e-3
"""How much closer than before two bodies in contact may come while they part, m."""


class CollisionModelError(ValueError):
    """The robot description or the boxes cannot be checked for collisions."""


@dataclass(frozen=True)
class Contact:
    """Two bodies that touch, or come closer than the clearance.

    Attributes:
        first: Link of the robot.
        second: Link of the robot, or name of a box.
        distance: Distance between them, m; negative for the depth of penetration.
    """

    first: str
    second: str
    distance: float

    def __str__(self) -> str:
        if self.distance < 0.0:
            return f'{self.first} and {self.second} overlap by {-self.distance * 1e3:.1f} mm'
        return f'{self.first} is {self.distance * 1e3:.1f} mm from {self.second}'


@dataclass(frozen=True)
class PathCollision:
    """The first collision on a path.

    Attributes:
        segment: Index of the path point before the collision.
        fraction: Where in the segment, in [0, 1].
        q: Joint positions (23,) there, rad.
        contacts: What touches.
    """

    segment: int
    fraction: float
    q: NDArray[np.float64]
    contacts: tuple[Contact, ...]

    def __str__(self) -> str:
        where = f'{self.fraction:.0%} of the way from point {self.segment} to {self.segment + 1}'
        return f'{where}: ' + '; '.join(map(str, self.contacts))


class CollisionChecker:
    """Tells which bodies of the robot touch one another or a box.

    The arm's links are the convex hulls of their collision meshes, the hand's links the boxes and
    spheres of the robot description. Checked are arm against arm (but for
    :data:`IGNORED_ARM_PAIRS`), hand against arm (but for the wrist and palm, which are bolted to
    the last link), and everything that moves against every box. Fingers are not checked against
    one another nor against the palm: they touch whenever the hand closes, and their motors are
    too weak to do harm.

    An object holds scratch memory: use one per thread.
    """

    def __init__(self, model: RobotModel, geometry: Any, clearance: float) -> None:
        """Take a model and its geometry with the pairs to check; see :meth:`from_urdf`."""
        self._model = model
        self._geometry = geometry
        self._data = model.pinocchio_model.createData()
        self._geometry_data = geometry.createData()
        for request in self._geometry_data.collisionRequests:
            request.security_margin = clearance
            request.enable_contact = True
        self._broad_phase = pinocchio.BroadPhaseManager_DynamicAABBTreeCollisionManager(
            model.pinocchio_model, geometry, self._geometry_data
        )
        self._bodies = [_body_name(model, body) for body in geometry.geometryObjects]

    @classmethod
    def from_urdf(
        cls, urdf_xml: str, boxes: Sequence[Box] = (), *, clearance: float = 0.0
    ) -> CollisionChecker:
        """Build a checker.

        Args:
            urdf_xml: The robot description, with meshes.
            boxes: Boxes in ``base``.
            clearance: Distance that already counts as a contact, m.

        Raises:
            CollisionModelError: A link of the arm has no body, a mesh cannot be read, two bodies
                share a name, or the clearance is negative.
            RobotModelError: The description is not one of this robot.
        """
        if not clearance >= 0.0:
            raise CollisionModelError(f'clearance must not be negative, got {clearance}')
        model = RobotModel.from_urdf(urdf_xml)
        try:
            geometry = pinocchio.buildGeomFromUrdfString(
                model.pinocchio_model, urdf_xml, pinocchio.GeometryType.COLLISION
            )
        except (RuntimeError, ValueError) as error:
            raise CollisionModelError(f'cannot read the collision bodies: {error}') from error
        for body in geometry.geometryObjects:
            if isinstance(body.geometry, coal.BVHModelBase):
                body.geometry.buildConvexHull(True, 'Qt')
                body.geometry = body.geometry.convex
        bodies = {_body_name(model, body) for body in geometry.geometryObjects}
        if missing := [link for link in ARM_LINKS if link not in bodies]:
            raise CollisionModelError(
                f'the robot description has no collision body for {missing}: make it with meshes'
            )
        for box in boxes:
            if box.name in model.frame_ids:
                raise CollisionModelError(f'a box may not have the name of a link: {box.name}')
            if geometry.existGeometryName(box.name):
                raise CollisionModelError(f'two boxes are called {box.name}')
            placement = pinocchio.SE3(np.eye(3), box.position)
            geometry.addGeometryObject(
                pinocchio.GeometryObject(box.name, 0, 0, placement, coal.Box(*box.size))
            )
        _add_pairs(model, geometry)

        return cls(model, geometry, clearance)

    def check(self, q: ArrayLike) -> list[Contact]:
        """Return all contacts at joint positions ``q`` (23,), the deepest first.

        Raises:
            RobotModelError: ``q`` has the wrong shape or is not finite.
        """
        positions = self._model.to_pinocchio(q)
        model = self._model.pinocchio_model
        # The broad phase only tells whether there is any contact, ten times as fast.
        if not pinocchio.computeCollisions(model, self._data, self._broad_phase, positions, True):
            return []
        pinocchio.computeCollisions(
            model, self._data, self._geometry, self._geometry_data, positions, False
        )
        distances: dict[tuple[str, str], float] = {}
        for pair, result in zip(
            self._geometry.collisionPairs, self._geometry_data.collisionResults, strict=True
        ):
            if result.isCollision():
                key = (self._bodies[pair.first], self._bodies[pair.second])
                depth = min(contact.penetration_depth for contact in result.getContacts())
                distances[key] = min(depth, distances.get(key, np.inf))
        contacts = [Contact(*key, distance) for key, distance in distances.items()]
        return sorted(contacts, key=lambda contact: contact.distance)

    def check_path(self, q_path: ArrayLike, step: float = 0.02) -> PathCollision | None:
        """Return the first collision on the straight joint-space path through points, or None.

        Bodies that already touch at the first point may part: such a pair counts only once it
        comes closer than it has been since, or touches anew.

        Args:
            q_path: Points (T, 23), T >= 1, rad.
            step: Largest change of any joint between two checks, rad.

        Raises:
            RobotModelError: The path has another shape or is not finite.
            ValueError: The step is not positive.
        """
        path = np.asarray(q_path, dtype=np.float64)
        if path.ndim != 2 or path.shape[0] < 1 or path.shape[1] != len(JOINTS):
            raise RobotModelError(f'expected a path (T, {len(JOINTS)}), got shape {path.shape}')
        if not np.isfinite(path).all():
            raise RobotModelError('a path must be finite')
        if not step > 0.0:
            raise ValueError(f'step must be positive, got {step}')

        parting = {_pair(contact): contact.distance for contact in self.check(path[0])}
        for segment, (start, end) in enumerate(itertools.pairwise(path)):
            count = max(1, math.ceil(np.abs(end - start).max() / step))
            for i in range(1, count + 1):
                q = start + (end - start) * (i / count)
                contacts = self.check(q)
                new = [
                    contact
                    for contact in contacts
                    if contact.distance < parting.get(_pair(contact), np.inf) - LEAVING_TOLERANCE
                ]
                if new:
                    return PathCollision(segment, i / count, q, tuple(new))
                parting = {
                    _pair(contact): max(contact.distance, parting[_pair(contact)])
                    for contact in contacts
                }
        return None


def _pair(contact: Contact) -> tuple[str, str]:
    return contact.first, contact.second


def _body_name(model: RobotModel, body: Any) -> str:
    """Return the name of a body's link, or of the box that it is."""
    if body.parentJoint == 0 and body.parentFrame == 0:
        return str(body.name)
    return str(model.pinocchio_model.frames[body.parentFrame].name)


def _add_pairs(model: RobotModel, geometry: Any) -> None:
    bodies = [_body_name(model, body) for body in geometry.geometryObjects]
    for i, first in enumerate(bodies):
        for j, second in enumerate(bodies):
            if i < j and _is_checked(first, second, model):
                geometry.addCollisionPair(pinocchio.CollisionPair(i, j))


def _is_checked(first: str, second: str, model: RobotModel) -> bool:
    """Whether to check two bodies, the earlier in the kinematic tree first, boxes last."""
    if first not in model.frame_ids:
        return False  # two boxes
    if second not in model.frame_ids:
        return first != ARM_LINKS[0]  # the first link stands still
    if first not in ARM_LINKS:
        return False  # both in the hand
    if second in ARM_LINKS:
        return (first, second) not in IGNORED_ARM_PAIRS
    return not (first == ARM_LINKS[-1] and second in BOLTED_TO_LAST_LINK)
