"""Models that the engine was not built on, against NUTS."""
