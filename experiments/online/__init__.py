"""One observation per step: how well the whole history is re-inferred, and what it costs."""
