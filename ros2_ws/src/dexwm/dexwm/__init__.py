"""DexWM library: robot model, camera geometry and motion control; knows no ROS."""
