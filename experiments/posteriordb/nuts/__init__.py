"""The same posteriors in NumPyro, and how fast its NUTS samples them; neither PyTorch nor the engine is needed."""
