"""What the engine is compared with, on the same graphs.

Nothing in the engine imports this package.
"""
