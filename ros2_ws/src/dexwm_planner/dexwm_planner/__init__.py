"""Camera and trajectory nodes of DexWM, and the launch files that start them."""
