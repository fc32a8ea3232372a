"""How fast an agent learns MiniGrid, and what sweeps are worth there."""
