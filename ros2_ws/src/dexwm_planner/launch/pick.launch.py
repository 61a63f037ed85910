"""Runs a scripted grasp: `ros2 launch dexwm_planner pick.launch.py [name:=value ...]`."""

from launch import LaunchDescription

from dexwm_planner.graph.graphs import PICK
from dexwm_planner.graph.launch_actions import graph_launch_description


def generate_launch_description() -> LaunchDescription:
    return graph_launch_description(PICK)
