"""Agents that are a declared model and preferences: whether they do what expected free energy says they should."""
