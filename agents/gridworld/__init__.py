"""The grid agent: pose, map and tables of an egocentric symbolic view."""
