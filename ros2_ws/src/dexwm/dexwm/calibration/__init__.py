"""Where the camera stands: calibration of a fixed camera against the arm's base."""
