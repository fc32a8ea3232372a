"""What the engine is compared with, on the same graphs; nothing in the engine imports this package."""
