"""Nodes of DexWM: camera, planner and trajectory, and the launch files that start them."""
