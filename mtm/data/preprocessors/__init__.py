"""From a task's tokens to the pieces that an objective trains on; pure NumPy."""
