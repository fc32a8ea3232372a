"""Diagnostics on traces whose truth is known: independent draws, autoregressions, separate modes, drifting chains."""

import math
import sys

import pytest
import torch
from models import gaussian_pair

from aif_dcpc.inference import DCPC, InferenceError
from aif_dcpc.inference.model.state import Info
from aif_dcpc.inference.queries.diagnostics import diagnose, is_clustered, to_arviz
from aif_dcpc.inference.queries.mixing import (
    autocovariance,
    effective_sample_size,
    split_r_hat,
)

SWEEPS = 2000
K = 16
B = 3


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def autoregression(rho):
    """A stationary first-order autoregression, `(SWEEPS, K, B)`, marginally standard normal."""
    shocks = noise(SWEEPS, K, B) * math.sqrt(1 - rho**2)
    values = [noise(K, B, seed=1)]
    for shock in shocks[1:]:
        values.append(rho * values[-1] + shock)
    return torch.stack(values)


@pytest.mark.parametrize("rho", [-0.4, 0.0, 0.5, 0.9])
def test_effective_sample_size_of_autoregressions(rho):
    """Exactly S K (1 - rho) / (1 + rho); the estimator's relative error is a few times sqrt(time / S K)."""
    exact = SWEEPS * K * (1 - rho) / (1 + rho)
    assert (effective_sample_size(autoregression(rho)) / exact - 1).abs().max() < 0.25


def test_autocovariance_matches_its_definition():
    x = noise(7, 2)
    centred = x - x.mean(0)
    expected = torch.stack([(centred[: 7 - lag] * centred[lag:]).sum(0) / 7 for lag in range(7)])
    assert torch.allclose(autocovariance(x), expected.mean(1))


def test_r_hat_of_known_mixtures():
    """Chains of unit variance whose means have variance v give R-hat sqrt(1 + v)."""
    x = noise(SWEEPS, K, B)
    assert (split_r_hat(x) - 1).abs().max() < 0.01
    means = noise(K, B, seed=2)
    spread = torch.cat([means, means]).var(0)
    assert torch.allclose(split_r_hat(x + means), (1 + spread).sqrt(), atol=0.05)
    assert (split_r_hat(torch.ones(20, 4, 1)) == 1).all()
    drift = torch.linspace(0, 3, SWEEPS)[:, None, None]
    assert (split_r_hat(x + drift) > 1.2).all()  # the halves differ by 1.5


def test_clusters_are_told_from_slow_chains():
    means = torch.where(torch.arange(K) % 3 == 0, 4.0, -4.0)[:, None].expand(K, B)
    assert is_clustered(noise(SWEEPS, K, B) + means)
    assert not is_clustered(noise(SWEEPS, K, 1) + noise(K, 1, seed=3))
    assert not is_clustered(noise(SWEEPS, 4, 1) + means[:4, :1])


def test_diagnosis_names_site_and_remedy():
    good = noise(200, K, B)
    acceptance = {"z": torch.tensor(0.6)}
    assert diagnose(Info(acceptance, torch.zeros(K, B), {"z": good})).warnings == ()
    slow = diagnose(
        Info(
            {"z": torch.tensor(0.01)}, torch.zeros(K, B), {"z": 0.01 * good.cumsum(0) + noise(K, B)}
        )
    )
    assert any("not converged" in w and "'z'" in w for w in slow.warnings)
    assert any("acceptance" in w for w in slow.warnings)
    assert "R-hat" in str(slow)
    with pytest.raises(InferenceError, match="record="):
        diagnose(Info(acceptance, torch.zeros(K, B)))


def test_a_tail_that_is_entered_seldom_and_left_late_is_reported():
    """Eight chains of independent draws above -1.5; two of them spend 1,600 of 8,000 sweeps in a row below.

    These are the lowest 5 % of all draws, known by two visits; the middle is known by hundreds, and chains agree.
    """
    trace = noise(8000, 8, 2).clamp_min(-1.5)
    for chain, begin in ((1, 1000), (5, 5000)):
        trace[begin : begin + 1600, chain, 1] = -1.7 + 0.05 * noise(1600, seed=chain)
    found = diagnose(Info({}, torch.zeros(8, 2), {"z": trace}))
    assert float(found.r_hat["z"].max()) < 1.05
    assert float(found.ess["z"].min()) > 200
    assert float(found.tail_ess["z"][1]) < 100 < float(found.tail_ess["z"][0])
    assert len(found.warnings) == 1
    assert "of its tails" in found.warnings[0]


def test_chains_of_different_widths_are_told_by_folded_ranks():
    """Their means agree; plain R-hat is 1 however many sweeps there are."""
    width = torch.where(torch.arange(K) < K // 2, 1.0, 2.0)[:, None]
    found = diagnose(Info({}, torch.zeros(K, B), {"z": noise(SWEEPS, K, B) * width}))
    assert float(split_r_hat(noise(SWEEPS, K, B) * width).max()) < 1.01
    assert float(found.r_hat["z"].min()) > 1.05
    assert "particles disagree" in found.warnings[0]


def test_independent_draws_of_the_engine():
    """A Gaussian conditional is drawn afresh at every sweep: close to one effective sample per particle and sweep."""
    engine = DCPC(gaussian_pair(noise=1.0), num_particles=16)
    state, _ = engine.run(engine.init({"x": torch.ones(1)}, seed=0), 60)
    state, info = engine.run(state, 300, record=["z"])
    found = diagnose(info, state)
    assert found.warnings == ()
    assert float(found.ess_per_sweep["z"]) > 0.5
    assert found.unique_ancestors is not None and int(found.unique_ancestors) == 16


@pytest.mark.filterwarnings("ignore")
def test_export_to_arviz():
    pytest.importorskip("arviz")
    trace = noise(20, 4, 2, 3)
    posterior = to_arviz(Info({}, torch.zeros(4, 2), {"z": trace}), datum=1).posterior["z"]
    assert posterior.shape == (4, 20, 3)
    assert torch.equal(torch.as_tensor(posterior.values[2, 5]), trace[5, 2, 1])


def test_without_arviz_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(InferenceError, match="pip install"):
        to_arviz(Info({}, torch.zeros(4, 2), {"z": noise(20, 4, 2)}))
