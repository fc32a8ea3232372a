"""Posteriors of the engine against closed forms: Gaussians by their precision matrix, discrete models by enumeration.

Each check allows 5 Monte Carlo standard errors, estimated from clouds that are independent of each
other (the batch axis holds copies of the same datum), which a right engine fails at most twice in
100,000 times; seeds are fixed.
"""

import math

import pytest
import torch
from clouds import agrees
from models import (
    by_table,
    every_path,
    gaussian_pair,
    gaussian_pair_posterior,
    hidden_markov,
    linear_gaussian,
    linear_gaussian_evidence,
    linear_gaussian_smoother,
)
from torch.distributions import Bernoulli, Beta, Binomial, ExpTransform, Gamma, Normal, Poisson

from aif_dcpc.inference import DCPC, ClampError, GraphicalModel, ModelError, MoveError, every
from aif_dcpc.inference.moves.adaptation import SiteAdaptation
from aif_dcpc.inference.moves.independence import MixtureProposal

COPIES = 32


def traced(engine, data, names, *, warmup=60, sweeps=150, **options):
    state = engine.init(data, seed=0, **options)
    state, _ = engine.run(state, warmup)
    _, info = engine.run(state, sweeps, record=names)
    return info.trace


def test_chain_of_correlation_99():
    model = GraphicalModel()
    model.add_site("z1", lambda: Normal(0.0, 1.0))
    model.add_site("z2", lambda z: Normal(z, 0.1), parents=["z1"])
    model.add_site("x", lambda z: Normal(z, 1.0), parents=["z2"])
    trace = traced(
        DCPC(model, num_particles=32), {"x": torch.ones(COPIES)}, ["z1", "z2"], sweeps=800
    )
    total = 1 + 0.01 + 1
    assert agrees(trace["z1"], 1 / total, floor=0.02)
    assert agrees(trace["z2"], 1.01 / total, floor=0.02)
    covariance = (trace["z1"] * trace["z2"]).double()
    assert agrees(covariance, 1 - 1.01 / total + 1.01 / total**2, floor=0.03)


def test_collider_with_branching_parents():
    model = GraphicalModel()
    model.add_site("a", lambda: Normal(0.0, 1.0))
    model.add_site("b", lambda: Normal(0.0, 2.0))
    model.add_site("c", lambda a, b: Normal(a + b, 0.5), parents=["a", "b"])
    model.add_site("x", lambda c: Normal(c, 0.5), parents=["c"])
    model.add_site("y", lambda a: Normal(a, 1.0), parents=["a"])
    x = 2.0
    y = -1.0
    precision = torch.tensor([[1 + 4 + 1, 4, -4.0], [4, 0.25 + 4, -4], [-4, -4, 4 + 4]]).double()
    covariance = precision.inverse()
    mean = covariance @ torch.tensor([y, 0.0, 4 * x]).double()
    data = {"x": torch.full((COPIES,), x), "y": torch.full((COPIES,), y)}
    trace = traced(DCPC(model, num_particles=32), data, ["a", "b", "c"], sweeps=600)
    for i, name in enumerate("abc"):
        assert agrees(trace[name], mean[i], floor=0.01)
        for j, other in enumerate("abc"):
            expected = covariance[i, j] + mean[i] * mean[j]
            assert agrees(trace[name] * trace[other], expected, floor=0.02)


@pytest.mark.parametrize("window", [1, 4, 16])
def test_state_space_model_against_the_smoother(window):
    model, rotation, data = linear_gaussian(2, 12)
    mean, covariance = linear_gaussian_smoother(rotation, data)
    engine = DCPC(model, num_particles=16, window=window)
    trace = traced(engine, {"o": data.expand(COPIES, -1, -1)}, ["s"], sweeps=400)["s"]
    flat = trace.flatten(3).double()
    draws = flat.flatten(0, 2)
    deviation = covariance.diagonal().sqrt()
    assert agrees(flat, mean, floor=0.01 * deviation)
    scaled = (torch.cov(draws.T) - covariance) / deviation / deviation[:, None]
    assert scaled.abs().max() < 0.06


def test_a_forgotten_jacobian_is_noticed(monkeypatch):
    model = GraphicalModel()
    model.add_site("z", lambda: Gamma(2.0, 1.0))
    trace = traced(DCPC(model, num_particles=32), {}, ["z"], batch_size=COPIES, sweeps=300)
    assert agrees(trace["z"], 2.0, floor=0.02)
    monkeypatch.setattr(
        ExpTransform, "log_abs_det_jacobian", lambda self, x, y: torch.zeros_like(x)
    )
    trace = traced(DCPC(model, num_particles=32), {}, ["z"], batch_size=COPIES, sweeps=300)
    assert not agrees(trace["z"], 2.0, floor=0.02)


def test_conjugate_models_with_constrained_sites():
    model = GraphicalModel()
    model.add_site("p", lambda: Beta(2.0, 3.0))
    model.add_site("x", lambda p: Bernoulli(p.unsqueeze(-1).expand(*p.shape, 6)), parents=["p"])
    x = torch.tensor([1.0, 1, 0, 1, 1, 0]).expand(COPIES, -1)
    trace = traced(DCPC(model, num_particles=32), {"x": x}, ["p"], sweeps=400)["p"]
    assert agrees(trace, 6 / 11)
    assert agrees(trace.square(), 6 * 7 / (11 * 12))
    model = GraphicalModel()
    model.add_site("rate", lambda: Gamma(2.0, 1.0))
    model.add_site("n", lambda r: Poisson(r), parents=["rate"])
    trace = traced(
        DCPC(model, num_particles=32), {"n": torch.full((COPIES,), 4.0)}, ["rate"], sweeps=400
    )["rate"]
    assert agrees(trace, 6 / 2, floor=0.01)


def test_hidden_markov_model_against_enumeration():
    start = torch.tensor([0.6, 0.4])
    move = torch.tensor([[0.8, 0.2], [0.3, 0.7]])
    emit = torch.tensor([[0.9, 0.1], [0.25, 0.75]])
    data = torch.tensor([0, 1, 1, 0])
    model = hidden_markov(start, move, by_table(emit))
    paths, joint = every_path(start, move, emit[:, data])
    posterior = joint / joint.sum()
    trace = traced(
        DCPC(model, num_particles=32), {"o": data.expand(COPIES, -1)}, ["s"], sweeps=300
    )["s"]
    for path, probability in zip(paths, posterior, strict=True):
        assert agrees((trace == path).all(-1), probability, floor=0.003)


def test_slow_episode_and_global_sites():
    model = GraphicalModel()
    model.add_site("g", lambda: Normal(0.0, 1.0), scope="global")
    model.add_site("c", lambda g: Normal(g, 1.0), parents=["g"])
    model.add_site("z", lambda c: Normal(c, 1.0), parents=["c"], scope=every(2))
    model.add_site("o", lambda z: Normal(z, 1.0), parents=["z"], scope="slice")
    data = torch.tensor([[1.0, 2.0, -1.0]])
    precision = torch.tensor(
        [[2.0, -1, 0, 0], [-1, 3, -1, -1], [0, -1, 3, 0], [0, -1, 0, 2]]
    ).double()
    expected = precision.inverse() @ torch.tensor([0.0, 0.0, 3.0, -1.0]).double()
    means = []
    for seed in range(8):
        engine = DCPC(model, num_particles=64, seed=seed)
        state, _ = engine.run(engine.init({"o": data}), 60)
        _, info = engine.run(state, 300, record=["g", "c", "z"])
        trace = info.trace
        means.append(
            torch.stack(
                [trace["g"].mean(), trace["c"].mean(), *trace["z"].mean((0, 1, 2))]
            ).double()
        )
    found = torch.stack(means)
    assert ((found.mean(0) - expected).abs() < 5 * found.std(0) / math.sqrt(8) + 0.01).all()


def test_intervention_cuts_the_site_from_its_parents():
    model = GraphicalModel()
    model.add_site("a", lambda: Normal(0.0, 1.0))
    model.add_site("b", lambda a: Normal(a, 0.1), parents=["a"])
    model.add_site("c", lambda b: Normal(b, 1.0), parents=["b"])
    trace = traced(
        DCPC(model, num_particles=32), {}, ["a", "c"], do={"b": torch.full((COPIES,), 3.0)}
    )
    assert agrees(trace["a"], 0.0, floor=0.01)
    assert agrees(trace["c"], 3.0, floor=0.01)


def test_missing_slices_are_predicted():
    model, rotation, data = linear_gaussian(2, 4)
    shown = torch.tensor([True, True, False, False]).expand(COPIES, -1)
    broken = torch.where(shown[0, :, None], data, torch.full_like(data, float("nan")))
    engine = DCPC(model, num_particles=32)
    trace = traced(
        engine, {"o": broken.expand(COPIES, -1, -1)}, ["s"], masks={"o": shown}, sweeps=300
    )["s"]
    mean, _ = linear_gaussian_smoother(rotation, data[:2])
    forecast = rotation @ rotation @ mean[2:]
    assert agrees(trace[..., 3, 0], forecast[0], floor=0.01)
    assert agrees(trace[..., 3, 1], forecast[1], floor=0.01)


def test_appending_slices_gives_evidence_and_smoothed_means():
    model, rotation, data = linear_gaussian(2, 8)
    engine = DCPC(model, num_particles=64, warmup=200)
    state = engine.init({"o": data[:1].expand(COPIES, -1, -1)}, seed=0)
    state, _ = engine.run(state, 50)
    for t in range(1, 8):
        state = engine.append(state, {"o": data[t].expand(COPIES, -1)})
        state, _ = engine.run(state, 3)
    mean, covariance = linear_gaussian_smoother(rotation, data)
    found = (state.weights()[..., None, None] * state.particles["s"]).sum(0).flatten(1).double()
    bias = (found.mean(0) - mean) / covariance.diagonal().sqrt()
    assert bias.square().mean().sqrt() < 0.1
    # what was appended is a ratio of evidences; its estimate is unbiased before the logarithm
    exact = linear_gaussian_evidence(rotation, data)
    exact = exact - linear_gaussian_evidence(rotation, data[:1])
    ratio = (state.log_evidence.double() - exact).exp()
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / math.sqrt(COPIES)
    assert ratio.std() < 1


def test_same_seed_same_bits():
    model, _, data = linear_gaussian(2, 5)
    runs = []
    for _ in range(2):
        engine = DCPC(model, num_particles=4)
        state, _ = engine.run(engine.init({"o": data[None]}, seed=3), 5)
        runs.append(state.particles["s"])
    assert torch.equal(*runs)


def test_errors_say_what_to_do():
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1.0))
    with pytest.raises(ModelError, match="declared twice"):
        model.add_site("z", lambda: Normal(0.0, 1.0))
    with pytest.raises(ModelError, match="Did you mean 'z'"):
        model.add_site("x", lambda z: Normal(z, 1.0), parents=["zz"])
    with pytest.raises(ClampError, match="unknown site"):
        DCPC(model).init({"y": torch.zeros(1)})
    with pytest.raises(MoveError, match="needs a site with finite"):
        DCPC(model, moves={"z": "gibbs"})


def test_barker_and_mala_are_exact_and_the_published_update_is_not():
    model = GraphicalModel()
    model.add_site("z1", lambda: Normal(0.0, 1.0))
    model.add_site("z2", lambda z: Normal(z, 0.5), parents=["z1"])
    model.add_site("x", lambda z: Normal(z, 0.5), parents=["z2"])
    data = {"x": torch.ones(COPIES)}
    covariance = torch.tensor([[1 + 4, -4], [-4, 4 + 4.0]]).inverse()
    for kind in ("mala", "barker"):
        trace = traced(
            DCPC(model, num_particles=32, moves={"z1": kind, "z2": kind}),
            data,
            ["z1", "z2"],
            sweeps=400,
        )
        assert agrees(trace["z1"], 4 * covariance[0, 1], floor=0.01)
        assert agrees(
            trace["z1"].square(), covariance[0, 0] + (4 * covariance[0, 1]) ** 2, floor=0.01
        )
    trace = traced(DCPC(model, num_particles=32, update="paper"), data, ["z1", "z2"], sweeps=100)
    first, second = (trace[n] - trace[n].mean(1, keepdim=True) for n in ("z1", "z2"))
    found = (first * second).mean() / (first.square().mean() * second.square().mean()).sqrt()
    exact = covariance[0, 1] / (covariance[0, 0] * covariance[1, 1]).sqrt()
    # resampling one site at a time pairs it with another particle's neighbours
    assert found < 0.5 * exact


def counts_model():
    model = GraphicalModel()
    model.add_site("n", lambda: Poisson(4.0))
    model.add_site("x", lambda n: Binomial(40, (n / 40).clamp(0.01, 0.99)), parents=["n"])
    support = torch.arange(60.0)
    log_joint = Poisson(4.0).log_prob(support) + Binomial(
        40, (support / 40).clamp(0.01, 0.99)
    ).log_prob(torch.tensor(9.0))
    return model, support, torch.softmax(log_joint.double(), 0)


@pytest.mark.parametrize("kind", [None, "prior"])
def test_counts_without_a_finite_support(kind):
    model, support, posterior = counts_model()
    engine = DCPC(model, num_particles=32, moves={"n": kind} if kind else None)
    trace = traced(engine, {"x": torch.full((COPIES,), 9.0)}, ["n"], sweeps=400)["n"]
    mean = (posterior * support).sum()
    assert agrees(trace, mean)
    assert agrees(trace.square(), (posterior * support.square()).sum())
    assert agrees(trace == 3, posterior[3])


def test_discrete_langevin_on_an_ordered_chain():
    move = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]])
    emit = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.1, 0.3, 0.6]])
    data = torch.tensor([0, 2, 1])
    model = hidden_markov(move[1], move, by_table(emit))
    paths, joint = every_path(move[1], move, emit[:, data])
    posterior = joint / joint.sum()
    for kind in ("discrete_langevin", "prior"):
        engine = DCPC(model, num_particles=32, moves={"s": kind})
        trace = traced(engine, {"o": data.expand(COPIES, -1)}, ["s"], sweeps=120)["s"]
        for path, probability in zip(paths, posterior, strict=True):
            assert agrees((trace == path).all(-1), probability, floor=0.003)


def test_a_block_draws_a_whole_linear_gaussian_series_at_once():
    model, rotation, data = linear_gaussian(2, 40)
    mean, covariance = linear_gaussian_smoother(rotation, data)
    engine = DCPC(model, num_particles=64, moves={"s": "block"}, warmup=40)
    state, _ = engine.run(engine.init({"o": data.expand(4, -1, -1)}, seed=0), 40)
    state, info = engine.run(state, 40, record=["s"])
    assert info.acceptance["s"] > 0.4
    first = info.trace["s"][:-1].flatten(3)
    second = info.trace["s"][1:].flatten(3)
    deviation = covariance.diagonal().sqrt()
    error = (first.double().mean((0, 1)).mean(0) - mean) / deviation
    assert error.square().mean().sqrt() < 0.03
    assert (
        (first - mean) * (second - mean) / deviation**2
    ).mean() < 0.7  # successive draws are nearly independent


def test_proposals_from_prior_and_bank_are_exact():
    model = gaussian_pair(noise=1.0)
    mean, variance = gaussian_pair_posterior(1.0, noise=1.0)
    trace = traced(
        DCPC(model, num_particles=32, moves={"z": "prior"}), {"x": torch.ones(COPIES)}, ["z"]
    )["z"]
    assert agrees(trace, mean)
    assert agrees(trace.square(), variance + mean**2)
    engine = DCPC(model, num_particles=32)
    state = engine.init({"x": torch.ones(COPIES)}, seed=0)
    move = MixtureProposal("z", torch.tensor([-1.0, 0.0, 0.5, 2.0]))
    kept = []
    for _ in range(200):
        state, _ = move(state, engine.generator, adapt=False)
        kept.append(state.particles["z"])
    assert agrees(torch.stack(kept)[50:], mean)
    assert agrees(torch.stack(kept)[50:].square(), variance + mean**2)


def test_sweeping_recent_slices_leaves_the_past_and_draws_the_rest_given_it():
    model, rotation, data = linear_gaussian(2, 10)
    engine = DCPC(model, num_particles=64, warmup=60)
    state, _ = engine.run(engine.init({"o": data.expand(COPIES, -1, -1)}, seed=0), 60)
    before = state.particles["s"]
    state, info = engine.run(state, 300, recent=3, record=["s"])
    assert torch.equal(state.particles["s"][:, :, :7], before[:, :, :7])
    assert state.length == 10
    assert state.particles["s"].shape == before.shape
    # given the slice before, the three last ones follow this law:
    _, covariance = linear_gaussian_smoother(rotation, data[7:])
    eye = torch.eye(2).double()
    turn = rotation
    precision = covariance.inverse()
    # the first slice follows its predecessor instead of the initial density
    precision[:2, :2] += eye / 0.09 - eye
    shift = precision.inverse()[:, :2] @ (turn @ before[:, :, 6].double().unsqueeze(-1) / 0.09)
    base = precision.inverse() @ (data[7:].double().flatten() / 0.25)
    expected = base + shift.squeeze(-1)
    found = info.trace["s"][:, :, :, 1:].flatten(3).double()
    error = (found.mean(0) - expected).mean(0)
    assert (error.mean(0).abs() < 5 * error.std(0) / math.sqrt(COPIES) + 0.003).all()


@pytest.mark.parametrize("size", [1.0, 3.0])
def test_particles_that_start_far_out_come_back(size):
    """A scale: the prior puts particles where the data exclude them, with scores of 1e6 before any curvature is known."""
    model = GraphicalModel()
    model.add_site("scale", lambda: Gamma(1.0, 1.0))
    model.add_site(
        "x", lambda s: Normal(0.0, s.unsqueeze(-1).expand(*s.shape, 50)), parents=["scale"]
    )
    x = size * torch.randn(50, generator=torch.Generator().manual_seed(0)).expand(COPIES, -1)
    trace = traced(DCPC(model, num_particles=16, warmup=200), {"x": x}, ["scale"], warmup=200)[
        "scale"
    ]
    assert (trace.std(0) > 0).all()
    grid = torch.linspace(0.3, 40, 20001).double()
    weights = torch.softmax(
        -grid - 50 * grid.log() - x[0].double().square().sum() / (2 * grid.square()), 0
    )
    assert agrees(trace / size, (weights * grid).sum() / size, floor=0.002)


def test_a_curvature_is_learned_from_changes_alone():
    """Where every change overflows, nothing is learned, and the first change that does not counts in full."""
    wild = torch.full((4, 1), 1e30)
    mild = torch.ones(4, 1)
    learned = SiteAdaptation().learned("x", wild, -wild, True, 0)
    assert learned.secants["x"].curvature().item() == 1
    for scores in (-3 * mild, wild * torch.inf):
        learned = learned.learned("x", mild, scores, True, 5)
        assert learned.secants["x"].curvature().item() == pytest.approx(3.0, rel=1e-4)
