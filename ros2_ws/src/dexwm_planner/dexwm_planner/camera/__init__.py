"""Cameras, their nodes and their calibration."""
