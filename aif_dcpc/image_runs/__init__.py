"""Learning generative models of images, and what becomes of them."""
