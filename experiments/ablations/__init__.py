"""What each part of an agent is worth: the same life with one part taken away."""
