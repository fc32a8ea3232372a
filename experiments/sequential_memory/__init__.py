"""Sequences of images memorised and recalled from a cue."""
