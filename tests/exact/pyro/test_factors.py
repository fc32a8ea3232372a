"""Parts of Pyro programs that are no plain sites: soft constraints, reparameterised statements, flat and masked priors.

Posteriors against closed forms within 5 Monte Carlo standard errors from independent clouds (see
`clouds.agrees`); seeds are fixed. What cannot be inferred is refused at import, with its line.
"""

import random

import pyro
import pyro.distributions as dist
import pytest
import torch
from clouds import agrees, imported_posterior
from pyro.infer.reparam import LocScaleReparam, TransformReparam

from aif_dcpc.inference import DCPC, GraphicalModel, ModelError

Y = torch.tensor([0.5, -0.3, 2.0])


def posterior(program, *arguments, names, **options):
    return imported_posterior(GraphicalModel.from_pyro(program, *arguments), names=names, **options)


def test_an_observation_that_is_computed_from_a_latent_is_a_factor():
    def program():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("c", dist.Normal(0.0, 0.1), obs=z - 1)

    z = posterior(program, names=["z"])["z"]
    assert agrees(z, 1 / 1.01, floor=0.002)
    assert agrees((z - 1 / 1.01).square(), 0.01 / 1.01, floor=1e-4)


def test_residuals_in_a_plate():
    def program(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 3):
            pyro.sample("residual", dist.Normal(0.0, 1.0), obs=y - z)

    z = posterior(program, Y, names=["z"])["z"]
    mean = Y.sum().double() / 4
    assert agrees(z, mean) and agrees((z - mean).square(), 0.25, floor=0.02)


def test_observations_of_data_and_constants_stay_data():
    def program(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        scaled = torch.log1p(y - y.min())
        pyro.sample("y", dist.Normal(z, 1.0).expand([3]).to_event(1), obs=scaled)

    _, data = GraphicalModel.from_pyro(program, Y)
    assert torch.equal(data["y"], torch.log1p(Y - Y.min())[None])


def centred(y):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 3):
        z = pyro.sample("z", dist.Normal(m, 2.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def logs(y):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 3):
        z = pyro.sample("z", dist.TransformedDistribution(dist.Normal(m, 2.0), []))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


@pytest.mark.parametrize(
    "program, handler", [(centred, LocScaleReparam(0.0)), (logs, TransformReparam())]
)
def test_reparameterised_statements_follow_the_closed_form(program, handler):
    """z_i = m + 2 e_i, y_i = z_i + noise: E m = sum y / 5 / (1 + 3 / 5)."""
    changed = pyro.poutine.reparam(program, config={"z": handler})
    model, data = GraphicalModel.from_pyro(changed, Y)
    assert model.sites["z"].kind == "deterministic" and "z" not in data
    found = imported_posterior((model, data), names=["m", "z"])
    mean = Y.sum().double() / 5 / (1 + 3 / 5)
    assert agrees(found["m"], mean, floor=0.01)
    assert agrees(found["z"], mean + 0.8 * (Y.double() - mean), floor=0.01)


def test_deterministic_statements_are_recorded():
    def program(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.deterministic("twice", 2 * z)
        pyro.deterministic("constant", torch.tensor(3.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y[0])

    found = posterior(program, Y, names=["z", "twice"], sweeps=5)
    assert torch.equal(found["twice"], 2 * found["z"])


def test_flat_priors_of_any_support():
    """A flat rate of 3 exponential waiting times is Gamma(4, their sum) afterwards, a flat mean Normal."""
    waits = torch.tensor([0.5, 1.5, 1.0])

    def program():
        rate = pyro.sample("rate", dist.ImproperUniform(dist.constraints.positive, (), ()))
        mean = pyro.sample("mean", dist.ImproperUniform(dist.constraints.real, (), (2,)))
        with pyro.plate("data", 3):
            pyro.sample("wait", dist.Exponential(rate), obs=waits)
            pyro.sample("y", dist.Normal(mean.sum() + 50, 1.0), obs=Y)
        pyro.sample("difference", dist.Normal(mean[0] - mean[1], 1.0), obs=torch.tensor(2.0))

    found = posterior(program, names=["rate", "mean"], sweeps=300)
    assert agrees(found["rate"], 4 / 3, floor=0.01)
    assert agrees(found["rate"].square(), 4 * 5 / 9, floor=0.03)
    total = Y.double().mean() - 50
    assert agrees(found["mean"], torch.stack([total / 2 + 1, total / 2 - 1]), floor=0.01)


def test_a_masked_prior_that_is_read_counts_nothing():
    def program(y):
        with pyro.plate("data", 3), pyro.poutine.mask(mask=torch.tensor([True, False, False])):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0).to_event(1), obs=y)

    z = posterior(program, Y, names=["z"])["z"]
    assert agrees(z, torch.tensor([Y[0] / 2, Y[1], Y[2]]).double(), floor=0.01)


def test_keyword_arguments_reach_the_program():
    def program(y, *, scale=1.0):
        z = pyro.sample("z", dist.Normal(0.0, scale))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    model, _ = GraphicalModel.from_pyro(program, Y[0], scale=3.0)
    found = model.sites["z"].kernel().log_prob(torch.ones(1, 1))
    assert torch.allclose(found, dist.Normal(0.0, 3.0).log_prob(torch.tensor(1.0)))


def test_a_number_may_be_squeezed():
    table = torch.tensor([[0.2, 0.6], [0.7, 0.1]])

    def program(y):
        x = pyro.sample("x", dist.Categorical(torch.tensor([0.3, 0.7])))
        with pyro.plate("tones", 2):
            pyro.sample("y", dist.Bernoulli(table[x.squeeze(-1)]), obs=y)

    y = torch.tensor([1.0, 0.0])
    x = posterior(program, y, names=["x"])["x"]
    weights = torch.tensor([0.3 * 0.2 * 0.4, 0.7 * 0.7 * 0.9])
    assert agrees(x, weights[1] / weights.sum())


# -- refusals --------------------------------------------------------------------------------------

DROPOUT = torch.nn.Dropout(0.5)


def observe(z):
    pyro.sample("y", dist.Normal(z, 1.0), obs=Y[0])


def noise():
    z = pyro.sample("z", dist.Normal(0.0, 1.0)) + torch.randn(())
    observe(z)


def dropout():
    z = DROPOUT(pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1)))
    observe(z[0])


def dice():
    observe(pyro.sample("z", dist.Normal(0.0, 1.0)) + random.random())


def wishart():
    law = dist.Wishart(torch.tensor(4.0), covariance_matrix=torch.eye(2))
    observe(pyro.sample("s", law)[0, 0])


def multinomial():
    observe(pyro.sample("n", dist.Multinomial(10, torch.tensor([0.3, 0.7])))[0])


def epidemic():
    n = pyro.sample("n", dist.Poisson(20.0))
    observe(pyro.sample("m", dist.Binomial(n, 0.5)))


def points():
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Delta(z), obs=z * 1)


def broken():
    z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    observe((z @ torch.ones(2)).sum())


@pytest.mark.parametrize(
    ("program", "sentences"),
    [
        (noise, ["outside of a sample statement", "+ torch.randn(())", "pyro.sample(name"]),
        (dropout, ["outside of a sample statement", "z = DROPOUT(", "module.eval()"]),
        (dice, ["'y': its density changes from run to run", "before the program"]),
        (wishart, ["'s': a latent Wishart", "LKJCholesky"]),
        (multinomial, ["'n': no move updates a latent Multinomial", "Categorical(probs)"]),
        (epidemic, ["'m': its support depends", "Poisson"]),
        (points, ["'y' observes a Delta of latents", "dist.Normal(value, small scale)"]),
        (broken, ["it fails by itself", "observe((z @ torch.ones(2)).sum())"]),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_what_cannot_be_inferred_is_refused_at_import(program, sentences):
    with pytest.raises(ModelError) as refusal:
        GraphicalModel.from_pyro(program)
    for sentence in sentences:
        assert sentence in str(refusal.value)


def test_parameters_of_an_observation_are_learnable():
    def program(y):
        bias = pyro.param("bias", torch.tensor(0.5))
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y - bias)

    with pyro.get_param_store().scope():
        model, data = GraphicalModel.from_pyro(program, torch.tensor(1.5))
    (parameter,) = model.parameters()
    z = torch.zeros(1, 1)
    log_prob = model.sites["y"].kernel(z).log_prob(data["y"])
    (gradient,) = torch.autograd.grad(log_prob.sum(), [parameter])
    assert torch.allclose(gradient, torch.tensor(1.0))  # d/db of -(1.5 - b)^2 / 2 at b = .5


def test_factors_are_clamped_to_nothing():
    def program():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("f", -z.square())

    model, data = GraphicalModel.from_pyro(program)
    assert data["f"].shape == (1, 0)
    state, _ = DCPC(model, num_particles=400, warmup=50).run(DCPC(model).init(data, seed=0), 2)
    assert state.particles["z"].isfinite().all()
