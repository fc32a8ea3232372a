"""Draws in ArviZ: the same numbers under names, and a leave-one-out score that agrees with the closed form."""

import builtins
import math
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal

from aif_dcpc.inference import DCPC, GraphicalModel, InferenceError, lag
from aif_dcpc.inference.queries.arviz_export import inference_data

az = pytest.importorskip("arviz")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kept(state, values):
    """Draws `(S, K, ...)` beside a cloud, as `sample` returns them."""
    shape = next(iter(values.values())).shape[:2]
    return SimpleNamespace(
        values=values,
        log_joint=normal(*shape, state.batch_size),
        acceptance=torch.full((shape[1], state.batch_size), 0.7),
        state=state,
    )


def regression():
    """Slopes shared by all data, one observation a data point."""
    model = GraphicalModel()
    model.add_input("row", scope="episode")
    model.add_site("slope", lambda: Independent(Normal(torch.zeros(2), 1.0), 1), scope="global")
    model.add_deterministic("mean", lambda row, slope: (row * slope).sum(-1), ["row", "slope"])
    model.add_site("y", lambda mean: Normal(mean, 0.5), ["mean"])
    return model


def exact_regression(rows, y):
    """Mean and covariance of the slopes given observations of standard deviation .5."""
    precision = torch.eye(2, dtype=torch.float64) + rows.mT @ rows / 0.25
    covariance = torch.linalg.inv(precision)
    return covariance @ rows.mT @ y / 0.25, covariance


def left_out(rows, y):
    """Sum of log p(y_i | all others), each from the posterior without i."""
    total = 0.0
    for i in range(len(y)):
        others = torch.arange(len(y)) != i
        mean, covariance = exact_regression(rows[others], y[others])
        sd = (rows[i] @ covariance @ rows[i] + 0.25).sqrt()
        total += float(Normal(rows[i] @ mean, sd).log_prob(y[i]))
    return total


def test_leave_one_out_agrees_with_its_closed_form():
    """4,000 independent exact draws; smoothed weights of 30 points: .2 nats are over 5 standard errors."""
    rows = normal(30, 2, seed=1)
    y = rows @ torch.tensor([1.0, -0.5]) + 0.5 * normal(30, seed=2)
    mean, covariance = exact_regression(rows.double(), y.double())
    torch.manual_seed(0)
    slope = MultivariateNormal(mean, covariance).sample((1000, 4)).float().unsqueeze(2)
    state = DCPC(regression(), num_particles=4).init({"row": rows, "y": y}, seed=0)
    found = inference_data(kept(state, {"slope": slope}))
    assert found.log_likelihood["y"].dims == ("chain", "draw", "data")
    assert abs(float(az.loo(found).elpd_loo) - left_out(rows.double(), y.double())) < 0.2
    means = torch.as_tensor(found.posterior["mean"].values)
    assert torch.allclose(means[3, 7], rows @ slope[7, 3, 0], atol=1e-5)
    expected = Normal(means, 0.5).log_prob(y)
    assert torch.allclose(torch.as_tensor(found.log_likelihood["y"].values), expected, atol=1e-4)
    drawn = torch.as_tensor(found.posterior_predictive["y"].values)
    # 120,000 residuals of variance .25: 5 standard errors
    assert abs(float((drawn - means).var()) / 0.25 - 1) < 5 * math.sqrt(2 / drawn.numel())
    assert torch.equal(torch.as_tensor(found.constant_data["row"].values), rows)
    assert found.sample_stats["acceptance_rate"].shape == (4, 1000, 30)


def test_summary_equals_that_of_the_draws():
    rows = normal(12, 2, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        draws = DCPC(regression()).sample({"row": rows, "y": normal(12)}, seed=0, max_seconds=5)
    table = az.summary(inference_data(draws), var_names=["slope"], round_to="none")
    for row, (_, numbers) in zip(table.itertuples(), draws.summary(), strict=True):
        assert (row.mean, row.sd) == pytest.approx(numbers[:2], rel=1e-3, abs=1e-6)
        assert row.r_hat == pytest.approx(numbers[5], abs=0.01)
        assert row.ess_bulk == pytest.approx(numbers[6], rel=0.1)
    assert draws.to_arviz().posterior["slope"].dims == ("chain", "draw", "slope_axis_0")


def series():
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Normal(0.9 * s, 0.5),
        [lag("s")],
        initial=lambda: Normal(0.0, 1.0),
        scope="slice",
    )
    model.add_site(
        "o",
        lambda s: Independent(Normal(s[..., None].expand(*s.shape, 2), 1.0), 1),
        ["s"],
        scope="slice",
    )
    return model


def test_a_series_with_gaps_has_a_point_for_each_number_that_was_seen():
    data = normal(3, 5, 2)
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1, 2:4] = False
    state = DCPC(series(), num_particles=4).init({"o": data}, masks={"o": mask}, seed=0)
    values = normal(6, 4, 3, 5)
    found = inference_data(kept(state, {"s": values}))
    assert found.posterior["s"].dims == ("chain", "draw", "data", "time")
    assert found.posterior_predictive["o"].dims == ("chain", "draw", "data", "time", "o_axis_0")
    assert found.log_likelihood["o"].sizes == {"chain": 4, "draw": 6, "o_observed": 26}
    expected = Normal(values[2, 1][..., None], 1.0).log_prob(data)[mask].flatten()
    assert torch.allclose(
        torch.as_tensor(found.log_likelihood["o"].values[1, 2]), expected, atol=1e-5
    )
    seen = torch.as_tensor(found.observed_data["o"].values)
    assert torch.equal(seen.isnan().any(-1), ~mask) and torch.equal(seen[mask], data[mask])


def test_an_observed_part_of_a_latent_series_is_scored_by_both_its_kernels():
    data = normal(1, 4)
    mask = torch.tensor([[True, False, True, True]])
    state = DCPC(series(), num_particles=2).init({"s": data}, masks={"s": mask}, seed=0)
    values = torch.where(mask, data, normal(5, 2, 1, 4))
    scores = inference_data(kept(state, {"s": values})).log_likelihood["s"]
    first = Normal(0.0, 1.0).log_prob(data[0, 0])
    third = Normal(0.9 * values[3, 1, 0, 1], 0.5).log_prob(data[0, 2])
    assert scores.sizes["s_observed"] == 3
    assert scores.values[1, 3, :2] == pytest.approx([float(first), float(third)], rel=1e-4)


def test_a_vector_that_is_scored_as_a_whole_is_one_point():
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1.0))
    model.add_site(
        "x", lambda z: MultivariateNormal(z[..., None].expand(*z.shape, 3), torch.eye(3)), ["z"]
    )
    state = DCPC(model, num_particles=2).init({"x": torch.zeros(4, 3)}, seed=0)
    found = inference_data(kept(state, {"z": normal(5, 2, 4)}))
    assert found.log_likelihood["x"].dims == ("chain", "draw", "data")
    assert found.observed_data["x"].dims == ("data", "x_axis_0")


def test_without_arviz_one_sentence_tells_what_to_install(monkeypatch):
    plain = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "arviz":
            raise ImportError(name)
        return plain(name, *args, **kwargs)

    state = DCPC(series(), num_particles=2).init({"o": torch.zeros(1, 4, 2)}, seed=0)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InferenceError, match=r"pip install 'aif_dcpc\[diagnostics\]'"):
        inference_data(kept(state, {"s": normal(3, 2, 1, 4)}))
