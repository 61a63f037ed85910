"""The planner node and what it shows."""
