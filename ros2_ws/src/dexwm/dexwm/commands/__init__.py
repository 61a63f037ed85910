"""Commands of the program `dexwm`, one a module."""
