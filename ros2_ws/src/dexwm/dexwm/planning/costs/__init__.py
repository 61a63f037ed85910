"""Terms of the planning cost, one a file."""
