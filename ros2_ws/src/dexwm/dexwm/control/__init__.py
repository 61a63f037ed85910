"""From waypoints to motion: trajectories, timing, checks, streaming."""
