"""A plan as markers for RViz: ghosts of the robot, the hand's predicted keypoints, their path."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pinocchio
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from dexwm.robot.model import RobotModel

BASE_FRAME = 'base'
NAMESPACES = ('ghost', 'keypoints', 'path')

_GHOST = (0.25, 0.55, 1.0)
_KEYPOINTS = (0.0, 1.0, 0.0)
_GHOST_ALPHA = 0.35
# A ghost of an earlier waypoint is this much fainter than the one of the last.
_EARLIER = 0.35
_KEYPOINT_DIAMETER = 0.012
_PATH_WIDTH = 0.003


class DescriptionError(ValueError):
    """A robot description without visible links."""


@dataclass(frozen=True)
class Visual:
    """What is seen of a link.

    Attributes:
        link: name of the link.
        mesh: URL of its mesh.
        T_link_from_mesh: pose (4, 4) of the mesh in the link, m.
        scale: of the mesh along its axes (3,).
    """

    link: str
    mesh: str
    T_link_from_mesh: NDArray[np.float64]
    scale: tuple[float, float, float]


def read_visuals(urdf: str) -> tuple[Visual, ...]:
    """The meshes of a URDF, in the order of its links.

    Raises:
        DescriptionError: if it is no URDF, or has no meshes.
    """
    try:
        root = ElementTree.fromstring(urdf)
    except ElementTree.ParseError as error:
        raise DescriptionError(f'the robot description is not XML: {error}') from error
    visuals = []
    for link in root.iter('link'):
        for visual in link.iter('visual'):
            mesh = visual.find('geometry/mesh')
            if mesh is None:
                continue
            pose = np.eye(4)
            origin = visual.find('origin')
            if origin is not None:
                angles = [float(value) for value in origin.get('rpy', '0 0 0').split()]
                pose[:3, :3] = pinocchio.rpy.rpyToMatrix(*angles)
                pose[:3, 3] = [float(value) for value in origin.get('xyz', '0 0 0').split()]
            x, y, z = (float(value) for value in mesh.get('scale', '1 1 1').split())
            visuals.append(Visual(link.get('name', ''), mesh.get('filename', ''), pose, (x, y, z)))
    if not visuals:
        raise DescriptionError('the robot description has no link with a mesh')
    return tuple(visuals)


def plan_markers(
    robot: RobotModel,
    visuals: Sequence[Visual],
    start: NDArray[np.float64],
    waypoints: NDArray[np.float64],
    header: Header,
) -> MarkerArray:
    """Markers of a plan, after one that removes those of the plan before.

    Args:
        robot: kinematics.
        visuals: what is seen of it.
        start: where the plan starts (23,), rad; NaN or empty where unknown.
        waypoints: where it goes (n, 23), rad, n at least 1.
        header: stamp and frame of the markers; the frame is the robot's base.
    """
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for number, q in enumerate(waypoints):
        is_last = number == len(waypoints) - 1
        alpha = _GHOST_ALPHA * (1.0 if is_last else _EARLIER)
        for visual in visuals:
            pose = robot.frame_pose(q, visual.link) @ visual.T_link_from_mesh
            x, y, z = visual.scale
            markers.append(
                Marker(
                    header=header,
                    ns='ghost',
                    id=len(markers),
                    type=Marker.MESH_RESOURCE,
                    mesh_resource=visual.mesh,
                    pose=_pose(pose),
                    scale=Vector3(x=x, y=y, z=z),
                    color=_colour(_GHOST, alpha),
                )
            )
    spheres = Marker(
        header=header,
        ns='keypoints',
        type=Marker.SPHERE_LIST,
        points=[_point(point) for point in robot.keypoints(waypoints[-1])],
        scale=Vector3(x=_KEYPOINT_DIAMETER, y=_KEYPOINT_DIAMETER, z=_KEYPOINT_DIAMETER),
        color=_colour(_KEYPOINTS, 1.0),
    )
    known = start.shape == waypoints[-1].shape and bool(np.isfinite(start).all())
    course = [start, *waypoints] if known else list(waypoints)
    # The wrist's way.
    line = Marker(
        header=header,
        ns='path',
        type=Marker.LINE_STRIP,
        points=[_point(robot.keypoints(q)[0]) for q in course],
        scale=Vector3(x=_PATH_WIDTH),
        color=_colour(_KEYPOINTS, 1.0),
    )
    for marker in (spheres, line):
        marker.pose.orientation.w = 1.0
    # RViz refuses a line of one point.
    return MarkerArray(markers=[*markers, spheres, *([line] if len(course) > 1 else [])])


def _pose(matrix: NDArray[np.float64]) -> Pose:
    x, y, z, w = pinocchio.Quaternion(matrix[:3, :3]).coeffs().tolist()
    return Pose(position=_point(matrix[:3, 3]), orientation=Quaternion(x=x, y=y, z=z, w=w))


def _point(position: NDArray[np.float64]) -> Point:
    x, y, z = position.tolist()
    return Point(x=x, y=y, z=z)


def _colour(rgb: tuple[float, float, float], alpha: float) -> ColorRGBA:
    r, g, b = rgb
    return ColorRGBA(r=r, g=g, b=b, a=alpha)
