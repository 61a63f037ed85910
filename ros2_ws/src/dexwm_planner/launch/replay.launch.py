"""Plays a recording to a planner: `ros2 launch dexwm_planner replay.launch.py bag:=PATH`."""

from launch import LaunchDescription

from dexwm_planner.graph.graphs import REPLAY
from dexwm_planner.graph.launch_actions import graph_launch_description


def generate_launch_description() -> LaunchDescription:
    return graph_launch_description(REPLAY)
