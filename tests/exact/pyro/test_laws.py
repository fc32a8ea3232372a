"""Laws of Pyro that need care: ordered categories, angles, and those that have no density to record.

Against the definition in double precision and quadrature; posteriors within 5 Monte Carlo standard
errors from independent clouds (see `clouds.agrees`); seeds are fixed.
"""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from clouds import agrees, imported_posterior
from pyro.infer.reparam import LatentStableReparam

from aif_dcpc.inference import DCPC, GraphicalModel, ModelError
from aif_dcpc.inference.frontends.pyro_statements import ordered_logits

ANGLES = torch.tensor([-1.3, -0.9, -1.1, 0.8, 1.2, 1.5, 1.0, -0.7, 0.9, 1.3])
ANSWERS = torch.tensor([0, 1, 2, 1, 0])


def test_chances_of_ordered_categories_far_from_all_cuts():
    """Differences of logistic functions, of which single precision keeps nothing beyond 17."""
    predictor = torch.tensor([-40.0, -3.0, 0.2, 8.0, 30.0], requires_grad=True)
    cuts = torch.tensor([-1.0, 0.5, 2.0])
    found = ordered_logits(predictor, cuts)
    edges = cuts.double() - predictor.detach().double()[:, None]
    below = torch.nn.functional.logsigmoid(edges)
    above = torch.nn.functional.logsigmoid(-edges)
    inner = below[:, 1:] + torch.log(-torch.expm1(below[:, :-1] - below[:, 1:]))
    other = above[:, :-1] + torch.log(-torch.expm1(above[:, 1:] - above[:, :-1]))
    expected = torch.cat(
        [below[:, :1], torch.where(edges[:, 1:] < 0, inner, other), above[:, -1:]], 1
    )
    assert torch.allclose(found.double(), expected, rtol=1e-5)
    assert torch.allclose(found.exp().sum(-1), torch.ones(5))
    (slope,) = torch.autograd.grad(found[:, 0].sum(), predictor)
    assert torch.allclose(slope[-1], torch.tensor(-1.0))  # of log s(c - x), c far below x


def test_ordered_answers_have_pyros_density():
    def program(answers):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        cuts = torch.tensor([-0.5, 1.0])
        with pyro.plate("data", len(answers)):
            law = dist.OrderedLogistic(slope * torch.arange(5.0), cuts)
            pyro.sample("answers", law, obs=answers)

    model, data = GraphicalModel.from_pyro(program, ANSWERS)
    slope = torch.linspace(-1, 1, 7)[:, None]
    found = model.sites["answers"].kernel(slope).log_prob(data["answers"][None])
    law = dist.OrderedLogistic(
        slope.double() * torch.arange(5.0), torch.tensor([-0.5, 1.0]).double()
    )
    assert torch.allclose(found[:, 0].double(), law.log_prob(ANSWERS), atol=1e-5)


def angles(y):
    mean = pyro.sample("mean", dist.VonMises(0.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.VonMises(mean, 1.2), obs=y)


def angles_in_a_loop(y):
    for i in range(len(y)):
        mean = pyro.sample(f"mean_{i}", dist.VonMises(0.0, 1.0))
        pyro.sample(f"y_{i}", dist.VonMises(mean, 1.2), obs=y[i])


@pytest.mark.parametrize("program", [angles, angles_in_a_loop])
def test_imported_angles_stay_on_their_circle(program):
    grid = torch.linspace(-math.pi, math.pi, 4001).double()[:-1]
    prior = dist.VonMises(0.0, 1.0).log_prob(grid)
    each = dist.VonMises(grid, 1.2).log_prob(ANGLES.double()[:, None])
    heights = prior + (each.sum(0) if program is angles else each)
    weights = torch.softmax(heights, -1)
    name = "mean" if program is angles else "mean_*"
    imported = GraphicalModel.from_pyro(program, ANGLES)
    found = imported_posterior(imported, names=[name], sweeps=60, warmup=30)[name]
    assert float(found.abs().max()) <= math.pi + 1e-5
    assert agrees(found.cos(), (weights * grid.cos()).sum(-1), floor=0.005)
    assert agrees(found.sin(), (weights * grid.sin()).sum(-1), floor=0.005)


def linear(y):
    noise = dist.StudentT(3.0, torch.zeros(1), 1.0).to_event(1)
    law = dist.LinearHMM(noise, torch.eye(1), noise, torch.eye(1), noise, duration=len(y))
    pyro.sample("y", law, obs=y[:, None])


def stable(y):
    z = pyro.sample("z", dist.Stable(1.5, 0.0, 1.0, 0.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def checked(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(z, 1.0, validate_args=True), obs=y)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (linear, "site 'y': the density of LinearHMM cannot be computed.*loop of sites"),
        (stable, "site 'z': the density of Stable looks at its numbers.*StableReparam"),
        (checked, "leave out validate_args=True"),
    ],
)
def test_laws_without_a_density_to_record_are_refused_in_a_sentence(program, words):
    with pytest.raises(ModelError, match=words):
        GraphicalModel.from_pyro(program, ANGLES)


def test_the_remedy_for_stable_laws_is_read():
    program = pyro.poutine.reparam(stable, config={"z": LatentStableReparam()})
    model, data = GraphicalModel.from_pyro(program, ANGLES)
    state, _ = DCPC(model).run(DCPC(model).init(data, seed=0), 5)
    assert torch.isfinite(state.value("z")).all()


def test_a_law_that_is_shifted_by_a_latent_has_no_density_below_it():
    """x = .5 is an exponential time after z: z lies below .5, with the mean .061 of a cut normal.

    Five standard errors, about one false alarm in a million.
    """

    def program():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        later = dist.TransformedDistribution(
            dist.Exponential(2.0), [dist.transforms.AffineTransform(z, 1.0)]
        )
        pyro.sample("x", later, obs=torch.tensor(0.5))

    model, data = GraphicalModel.from_pyro(program)
    draws = DCPC(model, num_particles=64).sample(data, seed=0)
    found = draws["z"].double().flatten()
    grid = torch.linspace(-8, 0.5, 100_001, dtype=torch.float64)
    weight = torch.exp(2 * grid - grid.square() / 2)
    exact = float((grid * weight).sum() / weight.sum())
    spread = float(found.std())
    assert float(found.max()) < 0.5
    assert abs(float(found.mean()) - exact) < 5 * spread / float(draws.bulk_ess["z"]) ** 0.5
