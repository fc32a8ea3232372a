"""MNIST with few labels, classified by joint inference."""
