"""A convolutional generator on a subset of CIFAR-10, learned by five methods within the same processor time."""
