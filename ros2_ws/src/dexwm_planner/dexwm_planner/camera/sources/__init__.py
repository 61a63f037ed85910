"""Where the camera node's pictures come from."""
