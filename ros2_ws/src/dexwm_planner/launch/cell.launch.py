"""Starts the robot cell: `ros2 launch dexwm_planner cell.launch.py [name:=value ...]`."""

from launch import LaunchDescription

from dexwm_planner.graph.graphs import CELL
from dexwm_planner.graph.launch_actions import graph_launch_description


def generate_launch_description() -> LaunchDescription:
    return graph_launch_description(CELL)
