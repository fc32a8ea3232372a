"""Choosing actions by expected free energy."""
