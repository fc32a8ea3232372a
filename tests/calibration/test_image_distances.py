"""Distances between sets of images by their features: intervals that cover the known value."""

import pytest
import torch

from aif_dcpc.image_runs.distances import (
    frechet_distance,
    frechet_estimate,
    kernel_estimate,
)

DRAWS = 60


def normal(number, seed, shift=0.0, size=3):
    return shift + torch.randn(number, size, generator=torch.Generator().manual_seed(seed)).double()


def test_kernel_intervals_cover_the_distance_of_equal_laws():
    """The true distance is 0; t = value / error has about 9 degrees of freedom and errors on the safe side.

    |t| > 4.8 has probability 1e-3 for one of 60 pairs: more than 3 of them happen once in 5e5 runs.
    """
    found = [
        kernel_estimate(normal(200, 2 * i), normal(200, 2 * i + 1), seed=i) for i in range(DRAWS)
    ]
    assert sum(abs(e.value) > 4.8 * e.error for e in found) <= 3
    values = torch.tensor([e.value for e in found])
    assert abs(values.mean()) < 5 * values.std() / DRAWS**0.5  # unbiased: fails once in 1e5
    # the error is no smaller by far
    assert values.std() < 2 * torch.tensor([e.error for e in found]).mean()
    apart = kernel_estimate(normal(200, 0), normal(200, 1, 1.0))
    assert apart.value > 5 * apart.error  # and a shift by one standard deviation is seen


def test_frechet_errors_are_the_spread_of_the_distance():
    """Shift by 2 in 3 dimensions: the distance is 12 and its spread over independent sets is what the error says."""
    found = [
        frechet_estimate(normal(300, 2 * i), normal(300, 2 * i + 1, 2.0), seed=i)
        for i in range(DRAWS)
    ]
    values, errors = (
        torch.tensor([getattr(e, name) for e in found]) for name in ("value", "error")
    )
    # the sd of 60 values is known to 9 %, the mean error to 2 %: 5 standard errors
    assert errors.mean() / values.std() == pytest.approx(1, abs=0.46)
    assert abs(values.mean() - 12) < 5 * values.std() / DRAWS**0.5 + 0.05  # a bias of order D / N
    assert found[0].value == frechet_distance(normal(300, 0), normal(300, 1, 2.0))
