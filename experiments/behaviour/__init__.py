"""Parameters of subjects, recovered from simulated behaviour."""
