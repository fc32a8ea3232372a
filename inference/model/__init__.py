"""Declaring a graph, factoring it, and holding a cloud of particles of it."""
