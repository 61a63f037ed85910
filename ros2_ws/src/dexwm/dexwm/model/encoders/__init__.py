"""Frozen picture encoders, by name."""
