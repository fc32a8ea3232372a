"""Distributions that models need and torch and Pyro lack."""

from aif_dcpc.inference.distributions.discretized_normal import DiscretizedNormal

__all__ = ["DiscretizedNormal"]
