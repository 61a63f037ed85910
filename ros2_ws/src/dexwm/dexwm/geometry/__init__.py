"""Cameras and pictures: the pinhole model and the one preprocessing."""
