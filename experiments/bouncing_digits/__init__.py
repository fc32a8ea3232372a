"""Films of bouncing MNIST digits: appearance learned, paths found from the prior, frames predicted."""
