"""Log evidence and weights of modes against exact answers, seed by seed."""
