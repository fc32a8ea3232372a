"""Posteriors and evidence against closed forms, with other samplers beside them."""
