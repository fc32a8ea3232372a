"""MNIST with the published deep latent Gaussian model: one run, and a comparison of methods."""
