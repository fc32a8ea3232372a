"""Posteriors with far modes: tempered weights against the exact ones, and a warning without tempering.

The prior is symmetric, the likelihood a mixture of two Gaussians: the modes lie 10 sd apart with
    weights .7 and .3.
"""

import math

import pytest
import torch
from models import shared_mean, shared_mean_posterior
from torch.distributions import Pareto, Uniform

from aif_dcpc.experiments.evidence.models import modes
from aif_dcpc.experiments.exactness.far_modes import two_modes
from aif_dcpc.inference import DCPC, GraphicalModel, ModelError
from aif_dcpc.inference.errors import ConvergenceWarning, InferenceError
from aif_dcpc.inference.queries.diagnostics import diagnose
from aif_dcpc.inference.smc import tempering
from aif_dcpc.inference.smc.paths import correlation, next_power
from aif_dcpc.inference.smc.tempering import grouped_error, share_of

COPIES = 12


@pytest.mark.filterwarnings("ignore::aif_dcpc.inference.errors.ConvergenceWarning")
@pytest.mark.parametrize("size", [8])
def test_weights_of_far_modes(size):
    """Means over 12 independent clouds within 5 of their standard errors: a false alarm in 2,500 (Student's t)."""
    model, evidence = two_modes(size)
    data = {"x": torch.zeros(COPIES, size)}
    engine = DCPC(model, num_particles=600)
    state, info = engine.temper(data, seed=0)
    left = (state.particles["z"].sum(-1) < 0).double().mean(0)
    assert abs(left.mean() - 0.7) < 5 * left.std() / COPIES**0.5
    # so that 5 standard errors tell .7 from the .5 of untempered clouds
    assert left.std() / COPIES**0.5 < 0.04
    assert (
        abs(state.log_evidence.mean() - evidence)
        < 5 * state.log_evidence.std() / COPIES**0.5 + 0.05
    )
    temperatures = len(info.trace["inverse_temperature"])
    assert info.trace["ess_fraction"].shape == (temperatures, COPIES)
    state, _ = engine.run(state, 5)
    # local moves never hop
    assert torch.equal((state.particles["z"].sum(-1) < 0).double().mean(0), left)


@pytest.mark.parametrize("size", [8, 32])
def test_a_warning_without_tempering(size):
    model = two_modes(size)[0]
    data = {"x": torch.zeros(1, size)}
    engine = DCPC(model, num_particles=32)
    state, _ = engine.run(engine.init(data, seed=0), 100)
    state, info = engine.run(state, 100, record=["z"])
    found = diagnose(info, state)
    assert found.multimodal == ("z",)
    assert any("engine.temper" in sentence for sentence in found.warnings)
    with pytest.warns(ConvergenceWarning, match="multimodal"):
        diagnose(info, warn=True)


def test_dropping_the_resampling_is_noticed(monkeypatch):
    model = two_modes(8)[0]
    data = {"x": torch.zeros(1, 8)}
    monkeypatch.setattr(tempering, "_resample", lambda state, weights, _: (state, weights * 0))
    state, _ = DCPC(model, num_particles=2500).temper(data, num_temperatures=30, seed=0)
    assert abs((state.particles["z"].sum(-1) < 0).double().mean() - 0.7) > 0.03


def test_global_latents_are_resampled_as_one_lineage():
    data = torch.tensor([1.0, 2.0, -0.5])
    mean, variance = shared_mean_posterior(data)
    state, _ = DCPC(shared_mean(), num_particles=2000).temper({"x": data}, seed=0)
    assert (state.ancestors == state.ancestors[:, :1]).all()
    assert len(state.ancestors[:, 0].unique()) < 2000  # they were resampled
    error = (variance / 500) ** 0.5  # the effective sample size is at least a quarter of 2000
    assert abs(state.particles["g"].mean() - mean) < 5 * error


def test_too_few_temperatures():
    model = two_modes(8)[0]
    data = {"x": torch.zeros(1, 8)}
    with pytest.raises(ModelError, match="at least 1"):
        DCPC(model).temper(data, num_temperatures=0)
    with pytest.raises(ModelError, match="at least 2"):
        DCPC(model).temper(data, num_pilot=1)
    with pytest.warns(ConvergenceWarning, match="parts of the cloud disagree"):
        DCPC(model, num_particles=100).temper(data, num_temperatures=1, seed=0)


@pytest.mark.parametrize("size", [1, 5])
def test_many_modes_within_their_stated_errors(size):
    """Each coordinate's share within 4.5 of its standard errors, which are small: a false alarm in 2,000 (t, 15)."""
    known, weight = modes(size)
    state, info = DCPC(known.model, num_particles=2000).temper(known.data, seed=3)
    for coordinate in range(size):
        share, error = share_of(state, info, state.particles["x"][..., coordinate] > 0)
        assert error < 0.03
        assert abs(float(share) - weight) < 4.5 * float(error)
    assert state.ancestors.max() < 2000 and info.trace["island"].shape == (2000, 1)
    error = float(info.trace["log_evidence_error"])
    assert error < 0.1
    assert abs(float(state.log_evidence) - known.log_evidence) < 5 * error


def test_a_cloud_of_few_particles_knows_that_it_says_little():
    known, _ = modes(1)
    state, info = DCPC(known.model, num_particles=16).temper(known.data, seed=0)
    _, error = share_of(state, info, state.particles["x"][..., 0] > 0)
    assert error > 0.06  # sqrt(w (1 - w) / 16) is .12


def test_standard_errors_of_dependent_groups():
    """Groups of n equal values: the variance of a mean of K / n of them, as if there were no copies."""
    one = torch.randn(50, 3, 2, generator=torch.Generator().manual_seed(0)).double()
    groups = torch.arange(50)[:, None].expand(50, 3)
    expected = one.std(0) / 50**0.5
    assert torch.allclose(grouped_error(one, groups), expected)
    copies = one.repeat_interleave(4, 0)
    assert torch.allclose(grouped_error(copies, groups.repeat_interleave(4, 0)), expected)
    assert torch.isinf(grouped_error(one, torch.zeros_like(groups))).all()


def test_the_next_temperature_keeps_its_share():
    """Log likelihoods of variance v: the effective share of a step d is exp(-d^2 v), to 2 % of d."""
    log_likelihood = 30 * torch.randn(100_000, 1, generator=torch.Generator().manual_seed(0))
    expected = math.sqrt(-math.log(0.9)) / 30
    assert next_power(log_likelihood, 0.5, 0.9) - 0.5 == pytest.approx(expected, rel=0.015)
    assert next_power(1e12 * log_likelihood, 0.0, 0.9) == pytest.approx(1e-12 * expected, rel=0.015)
    assert next_power(torch.zeros(8, 1), 0.3, 0.9) == 1.0


def test_a_temperature_rises_past_impossible_particles():
    impossible = torch.full((10, 1), -torch.inf)
    impossible[:3] = 0.0
    assert 0 < next_power(impossible, 0.0, 0.9) < 1e-20
    assert next_power(impossible, 0.5, 0.9) > 0.5


def test_correlations_over_particles():
    x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    y = x + torch.randn(1000, 2, generator=torch.Generator().manual_seed(1))
    expected = [float(torch.corrcoef(torch.stack([x[:, b], y[:, b]]))[0, 1]) for b in range(2)]
    assert torch.allclose(correlation(x, y), torch.tensor(expected).double(), atol=1e-5)
    assert correlation(x, torch.zeros_like(x)).tolist() == [0, 0]


def test_impossible_data_are_refused():
    model = GraphicalModel()
    model.add_site("n", lambda: Pareto(1.0, 1.0))
    model.add_site("x", lambda n: Uniform(torch.zeros_like(n), n), ["n"])
    with pytest.raises(InferenceError, match="support"):
        DCPC(model).temper({"x": torch.tensor([1e9])}, num_pilot=16, seed=0)
