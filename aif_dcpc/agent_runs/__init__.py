"""Training: the agents' loop, and what surrounds it."""
