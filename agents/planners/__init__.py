"""Planners: what to do next, by the expected free energy of candidate policies."""

from aif_dcpc.agents.planners.protocol import Plan, Planner, Preference, Situation

__all__ = ["Plan", "Planner", "Preference", "Situation"]
