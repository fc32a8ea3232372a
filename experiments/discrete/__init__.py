"""How soon the discrete agent learns worlds whose state is seen."""
