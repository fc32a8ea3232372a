"""Distances between two sets of images by the features of a network: Frechet (FID) and kernel (KID).

References: Heusel et al. 2017 (arXiv 1706.08500), equation 6; Binkowski et al. 2018 (arXiv 1801.01401), section 3.1.
"""

import numpy as np
import torch
from scipy import linalg
from torch import Tensor


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Frechet distance of Gaussians fitted to features `(N, D)` and `(M, D)`.

    >>> x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).double()
    >>> round(frechet_distance(x, x + 2.0), 6)  # a shift by 2 in 3 dimensions
    12.0
    """
    difference = (a.mean(0) - b.mean(0)).numpy()
    left, right = (np.atleast_2d(torch.cov(x.mT).numpy()) for x in (a, b))
    # eigenvalues of left @ right are real and not negative; their roots sum to the trace of the root
    values = linalg.eigvals(left @ right).real.clip(min=0)
    return float(difference @ difference + np.trace(left) + np.trace(right) - 2 * np.sqrt(values).sum())


def kernel_distance(a: Tensor, b: Tensor, *, subsets: int = 20, size: int = 500, seed: int = 0) -> float:
    """Unbiased squared MMD with the kernel (x'y / D + 1)^3, averaged over subsets; below zero by chance if equal."""
    generator = torch.Generator().manual_seed(seed)
    size = min(size, len(a), len(b))
    found = []
    for _ in range(subsets):
        x, y = (s[torch.randperm(len(s), generator=generator)[:size]] for s in (a, b))
        found.append(_within(x) + _within(y) - 2 * _kernel(x, y).mean())
    return float(torch.stack(found).mean())


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.mT / x.shape[1] + 1) ** 3


def _within(x: Tensor) -> Tensor:
    kernel = _kernel(x, x)
    return (kernel.sum() - kernel.diagonal().sum()) / (len(x) * (len(x) - 1))
