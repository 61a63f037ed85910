"""A graph as launch actions, for `ros2 launch`; needs the ROS packages launch and launch_ros."""

import os
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.events.process import ProcessExited
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node

from dexwm_planner.graph.graph import Graph, NodeSpec, OnExit
from dexwm_planner.graph.parameter_files import write_parameter_file
from dexwm_planner.graph.run_directory import prepare_run

_DISCOVERY_RANGE = 'ROS_AUTOMATIC_DISCOVERY_RANGE'


class NodeEndedError(RuntimeError):
    """A node ended and the run with it; raised so that `ros2 launch` exits with status 1."""


def graph_launch_description(graph: Graph) -> LaunchDescription:
    """Declares the graph's arguments and starts its nodes.

    The ROS domain is the environment's. DDS stays on this machine unless the environment says
    otherwise (ROS_AUTOMATIC_DISCOVERY_RANGE).
    """
    return LaunchDescription(
        [
            SetEnvironmentVariable(
                _DISCOVERY_RANGE, EnvironmentVariable(_DISCOVERY_RANGE, default_value='LOCALHOST')
            ),
            *(
                DeclareLaunchArgument(
                    argument.name,
                    default_value=argument.default_text,
                    description=argument.description,
                    choices=list(argument.choices) or None,
                )
                for argument in graph.arguments
            ),
            OpaqueFunction(function=_start, args=[graph]),
        ]
    )


def _start(context: LaunchContext, graph: Graph) -> list[LogInfo | Node]:
    texts = {
        argument.name: LaunchConfiguration(argument.name).perform(context)
        for argument in graph.arguments
    }
    values = graph.values(texts)
    domain_id = int(os.environ.get('ROS_DOMAIN_ID') or 0)
    prepared = prepare_run(graph, values, domain_id)
    log = LogInfo(msg=f'{graph.name} in {prepared.directory}')
    return [log, *(_node(spec, prepared.directory) for spec in prepared.specs)]


def _node(spec: NodeSpec, directory: Path) -> Node:
    def on_exit(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
        if context.is_shutdown or spec.on_exit is OnExit.REPORT:
            return None
        reason = f'{spec.name} ended with exit code {event.returncode}'
        if spec.on_exit is OnExit.FINISH and event.returncode == 0:
            return Shutdown(reason=reason)
        raise NodeEndedError(reason)

    return Node(
        package=spec.package,
        executable=spec.executable,
        name=spec.name,
        parameters=[str(write_parameter_file(directory, spec.name, spec.parameters))],
        remappings=list(spec.remappings),
        arguments=list(spec.arguments),
        ros_arguments=['--log-level', f'{spec.name}:={spec.log_level}'],
        output='screen',
        on_exit=on_exit,
    )
