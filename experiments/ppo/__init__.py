"""Proximal policy optimisation by torchrl: the baseline beside every agent of the package."""
