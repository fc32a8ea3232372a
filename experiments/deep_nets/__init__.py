"""Deep networks learned layer by layer, without backpropagation through them."""
