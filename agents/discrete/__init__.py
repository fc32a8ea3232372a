"""Discrete worlds: models in arrays A to E, and an agent that learns worlds whose state is seen."""
