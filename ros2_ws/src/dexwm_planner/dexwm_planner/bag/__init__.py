"""Recording of runs, and their replay."""
