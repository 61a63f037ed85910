"""Plans from a goal picture: `ros2 launch dexwm_planner push.launch.py goal:=goal.png`."""

from launch import LaunchDescription

from dexwm_planner.graph.graphs import PUSH
from dexwm_planner.graph.launch_actions import graph_launch_description


def generate_launch_description() -> LaunchDescription:
    return graph_launch_description(PUSH)
