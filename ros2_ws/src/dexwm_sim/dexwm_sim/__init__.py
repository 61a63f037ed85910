"""Simulated cell of DexWM: FR3 arm, Allegro hand and kitchen counter in MuJoCo."""

import os

# MuJoCo and Mesa read these once, when they are first loaded: whatever module comes first.
os.environ.setdefault('MUJOCO_GL', 'egl')
# More threads hardly make a picture faster, and take the cores from the physics.
os.environ.setdefault('LP_NUM_THREADS', '1')
