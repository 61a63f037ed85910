"""RViz beside a graph, with the package's configuration."""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)

from dexwm_planner.graph.graph import Argument, GraphError, NodeSpec, OnExit

RVIZ = Argument(
    'rviz',
    bool,
    False,
    'Whether to show robot, camera and plan in RViz, with a panel to choose goals and plan.',
)

_PACKAGE = 'dexwm_rviz'


def rviz_node(remappings: tuple[tuple[str, str], ...]) -> NodeSpec:
    """RViz; the run goes on without it.

    Args:
        remappings: of the camera's topics.

    Raises:
        GraphError: if RViz or its configuration is not installed.
    """
    for package in ('rviz2', _PACKAGE):
        try:
            get_package_prefix(package)
        except PackageNotFoundError:
            raise GraphError(
                f'rviz:=true needs the package {package}, which is not installed: install '
                'ros-jazzy-rviz2 and build the workspace, or leave rviz out.'
            ) from None
    config = Path(get_package_share_directory(_PACKAGE)) / 'config' / 'dexwm.rviz'
    return NodeSpec(
        'rviz2',
        'rviz2',
        'rviz2',
        remappings=remappings,
        on_exit=OnExit.REPORT,
        arguments=('-d', str(config)),
    )
