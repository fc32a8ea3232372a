"""The commands `aif-train` and `aif-rollout`: thin, they join a configuration to the loop that does the work."""
