"""How well a model predicts: open loop, its baselines, and pictures of what it expects."""
