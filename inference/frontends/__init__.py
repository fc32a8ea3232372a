"""Models declared elsewhere: Pyro programs and sequential networks."""
