"""Which nodes run, with which parameters, and how they are started."""
