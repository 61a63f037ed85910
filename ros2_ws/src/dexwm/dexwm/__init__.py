"""DexWM library: robot model, control, world model and planning; knows no ROS."""
