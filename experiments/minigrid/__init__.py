"""Measurements on MiniGrid."""
