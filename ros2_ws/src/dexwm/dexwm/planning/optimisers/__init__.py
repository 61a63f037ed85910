"""Optimisers of joint waypoints, one a file."""
