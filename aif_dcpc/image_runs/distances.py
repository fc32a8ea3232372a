"""Distances between two sets of images by the features of a network: Frechet (FID) and kernel (KID).

The features are those of a classifier trained on the data set itself, or, where its weights can be
had, of the Inception network of the published distances. Numbers in one kind of features say
nothing about numbers in the other.

Both distances are estimated from samples, so both come with a standard error (`frechet_estimate`,
`kernel_estimate`). The kernel distance is unbiased; the Frechet distance errs upwards, the more so
the fewer the samples: compare at equal numbers.

References: Heusel et al. 2017 (arXiv 1706.08500), equation 6; Binkowski et al. 2018 (arXiv
    1801.01401), section 3.1.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import linalg
from torch import Tensor

from aif_dcpc.errors import ConfigError

Features = Callable[[Tensor], Tensor]  # images (N, C, H, W) in [0, 1] -> features (N, D), float64


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error."""

    value: float
    error: float


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Frechet distance of Gaussians fitted to features `(N, D)` and `(M, D)`.

    >>> x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).double()
    >>> round(frechet_distance(x, x + 2.0), 6)  # a shift by 2 in 3 dimensions
    12.0
    """
    difference = (a.mean(0) - b.mean(0)).numpy()
    left, right = (np.atleast_2d(torch.cov(x.mT).numpy()) for x in (a, b))
    # eigenvalues of left @ right are real and not negative; their roots sum to the trace of the
    # root
    values = linalg.eigvals(left @ right).real.clip(min=0)
    return float(
        difference @ difference + np.trace(left) + np.trace(right) - 2 * np.sqrt(values).sum()
    )


def kernel_distance(
    a: Tensor, b: Tensor, *, subsets: int = 20, size: int = 500, seed: int = 0
) -> float:
    """Unbiased squared MMD with the kernel (x'y / D + 1)^3, averaged over subsets; below zero by chance if equal."""
    generator = torch.Generator().manual_seed(seed)
    size = min(size, len(a), len(b))
    found = []
    for _ in range(subsets):
        x, y = (s[torch.randperm(len(s), generator=generator)[:size]] for s in (a, b))
        found.append(_unbiased(x, y))
    return float(np.mean(found))


def frechet_estimate(a: Tensor, b: Tensor, *, resamples: int = 100, seed: int = 0) -> Estimate:
    """`frechet_distance` of all samples; error: its standard deviation when both sets are drawn anew with replacement."""
    generator = torch.Generator().manual_seed(seed)
    found = [
        frechet_distance(_redrawn(a, generator), _redrawn(b, generator)) for _ in range(resamples)
    ]
    return Estimate(frechet_distance(a, b), float(np.std(found, ddof=1)))


def _redrawn(x: Tensor, generator: torch.Generator) -> Tensor:
    return x[torch.randint(len(x), (len(x),), generator=generator)]


def kernel_estimate(a: Tensor, b: Tensor, *, blocks: int = 10, seed: int = 0) -> Estimate:
    """The unbiased squared MMD of all samples, as `kernel_distance`.

    Error: that of the mean of the distances of `blocks` disjoint, hence independent, parts of both
    sets (fewer where a part would hold less than two; nan for one part). The distance of all
    samples averages over more pairs than that mean does, so the error is on the safe side.
    """
    generator = torch.Generator().manual_seed(seed)
    blocks = max(1, min(blocks, len(a) // 2, len(b) // 2))
    left, right = (
        x[torch.randperm(len(x), generator=generator)].tensor_split(blocks) for x in (a, b)
    )
    parts = [_unbiased(x, y) for x, y in zip(left, right, strict=True)]
    return Estimate(_unbiased(a, b), float(np.std(parts, ddof=1) / blocks**0.5))


def _unbiased(x: Tensor, y: Tensor) -> float:
    return float(_within(x) + _within(y) - 2 * _kernel(x, y).mean())


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.mT / x.shape[1] + 1) ** 3


def _within(x: Tensor) -> Tensor:
    kernel = _kernel(x, x)
    return (kernel.sum() - kernel.diagonal().sum()) / (len(x) * (len(x) - 1))


# -- Inception -------------------------------------------------------------------------------------

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"


def inception_features(device: str = "cpu") -> Features:
    """The 2048 pooled features of the Inception network of FID, as torchmetrics takes them (Heusel et al. 2017).

    Grey images become three equal channels. About .1 s of one CPU core an image.

    Raises:
        ConfigError: torch-fidelity is not installed, or the weights are neither there nor to be
            downloaded.
    """
    network = _inception().to(device)

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        batches = (images.clamp(0, 1) * 255).round().to(torch.uint8).split(50)
        found = [network(batch.expand(-1, 3, -1, -1).to(device)).cpu() for batch in batches]
        return torch.cat(found).double()

    return features


def _inception() -> Any:
    where = os.path.join(torch.hub.get_dir(), "checkpoints", WEIGHTS)
    try:
        from torchmetrics.image.fid import NoTrainInceptionV3

        return NoTrainInceptionV3(name="inception-v3-compat", features_list=["2048"])
    except ImportError:
        raise ConfigError(
            "features=inception needs an extra: pip install 'aif_dcpc[images]'."
        ) from None
    except Exception as error:  # whatever the network, or a damaged file, does
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"features=inception: its weights are not in {where} and cannot be downloaded here ({reason}); load "
            f"{WEIGHTS} from https://github.com/toshas/torch-fidelity/releases/tag/v0.2.0 on another machine and copy it "
            "there, or use features=classifier."
        ) from None
