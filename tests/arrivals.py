"""What tests of the arrival share: normal numbers, a verdict with nothing against it, a small sampler."""

import torch
from models import gaussian_pair

from aif_dcpc.inference import DCPC
from aif_dcpc.inference.arrival.build import build_sampler
from aif_dcpc.inference.arrival.judge import Verdict

GOOD = Verdict(1.0, "z", 0.0, 0.0, 0.8, torch.zeros(0))


def normals(*shape, seed=0):
    """Independent standard normal numbers in double precision."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gaussian_sampler(chains=4):
    """Chains of z ~ Normal(0, 1) at its start, given x ~ Normal(z, 1) is 0."""
    return build_sampler(DCPC(gaussian_pair(1.0)), {"x": torch.zeros(1)}, chains, seed=0)
