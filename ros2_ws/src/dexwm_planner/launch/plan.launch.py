"""Starts cell and planner, for goals to come: `ros2 launch dexwm_planner plan.launch.py`."""

from launch import LaunchDescription

from dexwm_planner.graph.graphs import PLAN
from dexwm_planner.graph.launch_actions import graph_launch_description


def generate_launch_description() -> LaunchDescription:
    return graph_launch_description(PLAN)
