"""Exact planning on finite worlds: how fast, beside pymdp, and whether both find the same."""
