"""Training: recipes, the loop, and the objectives."""
