"""Driver of the Allegro hand V4: CAN protocol, bus, control process, ROS node."""
