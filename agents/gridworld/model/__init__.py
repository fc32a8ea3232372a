"""Generative models of worlds, written with the engine's `GraphicalModel`."""
