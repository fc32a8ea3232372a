"""Distributions that models need and torch and Pyro lack, or draw wrongly."""

from aif_dcpc.inference.distributions.discretized_normal import DiscretizedNormal
from aif_dcpc.inference.distributions.lkj_cholesky import LKJCholesky

__all__ = ["DiscretizedNormal", "LKJCholesky"]
