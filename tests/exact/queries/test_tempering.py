"""Posteriors with far modes: tempered weights against the exact ones, and a warning without tempering.

The prior is symmetric, the likelihood a mixture of two Gaussians: the modes lie 10 sd apart with
    weights .7 and .3.
"""

import pytest
import torch
from models import shared_mean, shared_mean_posterior

from aif_dcpc.experiments.exactness.far_modes import two_modes
from aif_dcpc.inference import DCPC, ModelError
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.queries.diagnostics import diagnose
from aif_dcpc.inference.smc import tempering

COPIES = 12


@pytest.mark.filterwarnings("ignore::aif_dcpc.inference.errors.ConvergenceWarning")
@pytest.mark.parametrize("size", [8, 32])
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
    with pytest.warns(ConvergenceWarning, match="parts of the cloud disagree"):
        DCPC(model, num_particles=100).temper(data, num_temperatures=1, seed=0)
