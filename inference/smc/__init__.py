"""Sequential Monte Carlo: one more slice, and paths of temperatures."""
