"""Episodes, windows of them, and the cache of encoded frames."""
