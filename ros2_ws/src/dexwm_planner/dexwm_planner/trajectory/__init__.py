"""The trajectory node, what it commands, and who may let it."""
