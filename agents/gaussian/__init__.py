"""Worlds of continuous values: dynamics that are linear in features, learned in closed form."""
