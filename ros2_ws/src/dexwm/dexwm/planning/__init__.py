"""Planning through the world model: goals, costs, optimisers, and the loop around them."""
