"""How many steps worlds of continuous values take to learn, and what a step costs."""
