"""Simulated cell of DexWM: FR3 arm, Allegro hand and kitchen counter in MuJoCo."""
