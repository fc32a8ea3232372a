"""Diagnostics on ranks against ArviZ, which authors of the paper wrote, and against closed forms.

R-hat agrees (ArviZ leaves out the middle draw of an odd number before it ranks). ArviZ's effective sample sizes divide lagged covariances by the number of draws
where the paper's equation 10 has one fewer, and add half of the last pair: up to 4 % at these lengths.
"""

import math

import numpy as np
import pytest
import torch
from arrivals import normals

from aif_dcpc.inference.queries.ranks import (
    normal_scores,
    rank_diagnostics,
)


def autoregression(rho, length=200, chains=8, seed=0):
    shocks = normals(length, chains, seed=seed) * math.sqrt(1 - rho**2)
    values = [normals(chains, seed=seed + 1)]
    for shock in shocks[1:]:
        values.append(rho * values[-1] + shock)
    return torch.stack(values)


def arrays():
    """Draws `(S, K)` of many kinds."""
    x = normals(200, 8)
    return {
        "independent": x,
        "one chain": normals(400, 1),
        "many short chains": normals(20, 128),
        "slow": autoregression(0.95),
        "slow and even": autoregression(-0.6),
        "odd length": x[:199],
        "skewed": x.exp().pow(3),
        "heavy tails": x / normals(200, 8, seed=5),
        "a chain apart": x + 3 * (torch.arange(8) == 2),
        "a wide chain": x * torch.where(torch.arange(8) == 2, 4.0, 1.0),
        "drifting": x + torch.linspace(0, 2, 200)[:, None],
        "two modes": x + 20 * (torch.arange(8) % 2),
        "counts": torch.poisson(x.exp() * 2, generator=torch.Generator().manual_seed(0)),
        "coins": (x > 1).double(),
        "rare": (x > 2.6).double(),
        "a chain that stands still": torch.where(torch.arange(8) == 2, 0.3, x),
    }


CASES = arrays()
CASE = pytest.mark.parametrize("draws", CASES.values(), ids=CASES)


def by_arviz(name, draws, **options):
    """ArviZ's number of one array; its axes are chains and draws."""
    arviz = pytest.importorskip("arviz")
    return float(getattr(arviz, name)(draws.T.numpy(), **options))


@CASE
def test_r_hat_is_that_of_arviz(draws):
    if draws.shape[1] == 1:
        pytest.skip("ArviZ asks for two chains")
    expected = by_arviz("rhat", draws, method="rank")
    assert float(rank_diagnostics(draws).r_hat) == pytest.approx(expected, rel=1e-5)


@CASE
def test_bulk_ess_is_that_of_arviz(draws):
    expected = by_arviz("ess", draws, method="bulk")
    assert float(rank_diagnostics(draws).bulk_ess) == pytest.approx(expected, rel=0.05)


@CASE
def test_tail_ess_is_that_of_arviz(draws):
    expected = by_arviz("ess", draws, method="tail")
    assert float(rank_diagnostics(draws).tail_ess) == pytest.approx(expected, rel=0.05)


def test_all_coordinates_are_judged_at_once_and_each_on_its_own():
    whole = torch.stack([CASES["independent"], CASES["counts"], CASES["slow"]], -1)
    found = rank_diagnostics(whole.reshape(200, 8, 3, 1))
    for place, name in enumerate(("independent", "counts", "slow")):
        alone = rank_diagnostics(CASES[name])
        for all_of_them, one in zip(found, alone, strict=True):
            assert all_of_them.shape == (3, 1)
            assert float(all_of_them[place, 0]) == pytest.approx(float(one))


def test_a_constant_column_agrees_with_itself():
    draws = torch.stack([CASES["independent"], torch.full((200, 8), 3.0).double()], -1)
    found = rank_diagnostics(draws)
    assert found.r_hat[1] == 1
    assert found.bulk_ess[1] == found.tail_ess[1] == 1600
    assert found.bulk_ess[0] == rank_diagnostics(CASES["independent"]).bulk_ess


def test_normal_scores_are_quantiles_of_mean_ranks():
    """Blom's: (rank - 3/8) / (N + 1/4); ties share the mean of their ranks."""
    draws = torch.tensor([[3.0, 1.0], [1.0, 2.0], [5.0, 1.0]])
    ranks = torch.tensor([[5, 2], [2, 4], [6, 2]]).double()
    expected = torch.special.ndtri((ranks - 0.375) / 6.25)
    assert torch.allclose(normal_scores(draws), expected)


def test_ranks_are_blind_to_monotone_maps():
    draws = CASES["slow"]
    assert torch.equal(normal_scores(draws), normal_scores(draws.exp()))
    assert torch.allclose(rank_diagnostics(draws).bulk_ess, rank_diagnostics(draws.exp()).bulk_ess)


def test_single_precision_is_judged_like_double():
    draws = CASES["slow"].float()
    for one, other in zip(rank_diagnostics(draws), rank_diagnostics(draws.double()), strict=True):
        assert torch.allclose(one.double(), other.double(), rtol=1e-6)


def test_an_infinite_draw_is_the_largest():
    """As with positive values that overflow: ranks do not mind."""
    draws = CASES["independent"].clone()
    draws[3, 4] = draws.max() + 1
    further = draws.clone()
    further[3, 4] = np.inf
    for one, other in zip(rank_diagnostics(draws), rank_diagnostics(further), strict=True):
        assert torch.allclose(one, other, rtol=1e-6)
