"""Pyro programs on the engine and on Pyro's own sampler."""
