"""Posteriors of posteriordb as Pyro programs and as graphical models, with reference statistics."""
