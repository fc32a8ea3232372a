"""The evidence of learners, against integrals over grids and against sums written out."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_t
from torch.distributions import HalfNormal, Normal

from aif_dcpc.agents.behaviour import POPULATION, Learner, behaviour_model, simulate
from aif_dcpc.agents.behaviour_evidence import (
    Proposal,
    compare,
    compare_groups,
    flattened,
    integrate,
)
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.inference.errors import ConvergenceWarning

TWO = Learner(free=("learning_rate", "precision"), fixed={"habit": 0.3})
ONE = Learner(free=("precision",), fixed={"learning_rate": 0.4})


def behaviour(learner, subjects=2, trials=60, seed=0):
    """Choices of subjects drawn from the population."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, subjects, trials, 2)
    wins, losses = (torch.rand(shape, generator=generator) < torch.tensor([0.7, 0.3])).float()
    free = {
        name: mean + sd * torch.randn(subjects, generator=generator)
        for name, (mean, sd) in POPULATION.items()
    }
    return simulate(learner, free, wins, losses)


def log_likelihoods(learner, data, *points):
    """Of `(N,)` values of each free parameter, `(N, B)` nats in double precision."""
    site = behaviour_model(learner, group=False).sites["choices"]
    law = site.kernel(*(x[:, None] for x in points), data.wins, data.losses)
    return law.log_prob(data.choices[None].expand(len(points[0]), -1, -1)).double()


def test_evidence_is_that_of_the_grid():
    """Its standard error is .01 nats or so with 4,096 draws; .05 is five of them."""
    data = behaviour(TWO)
    axes = [torch.linspace(m - 5 * s, m + 5 * s, 121) for m, s in map(POPULATION.get, TWO.free)]
    rate, precision = (x.flatten() for x in torch.meshgrid(*axes, indexing="ij"))
    log = log_likelihoods(TWO, data, rate, precision)
    for name, x in zip(TWO.free, (rate, precision), strict=True):
        log = log + Normal(*POPULATION[name]).log_prob(x.double())[:, None]
    cell = sum(math.log(axis[1] - axis[0]) for axis in axes)
    expected = log.logsumexp(0) + cell
    found = compare([TWO], data, num_samples=4096)[0]
    assert found.double().numpy() == pytest.approx(expected.numpy(), abs=0.05)


def test_another_population_has_another_evidence():
    data = behaviour(ONE)
    axis = torch.linspace(-3, 6, 801)
    prior = Normal(2.0, 0.3).log_prob(axis.double())[:, None]
    exact = (log_likelihoods(ONE, data, axis) + prior).logsumexp(0) + math.log(axis[1] - axis[0])
    found = compare([ONE], data, population={"precision": (2.0, 0.3)})[0]
    assert found.double().numpy() == pytest.approx(exact.numpy(), abs=0.05)


def test_a_learner_without_free_parameters_is_its_likelihood():
    data = behaviour(ONE)
    nothing = Learner(free=(), fixed={"learning_rate": 0.4, "precision": math.exp(0.7)})
    likelihood = log_likelihoods(ONE, data, torch.tensor([0.7]))[0]
    found = compare([nothing], data)[0].double()
    assert found.numpy() == pytest.approx(likelihood.numpy(), abs=1e-3)
    with pytest.raises(AgentError, match="no free parameter"):
        compare_groups([nothing], data)


def test_evidence_of_a_group_is_that_of_the_grid():
    """Five subjects with one parameter: inside and outside by quadrature."""
    data = behaviour(ONE, subjects=5)
    mean, sd = POPULATION["precision"]
    axis = torch.linspace(-3, 6, 401).double()
    inside = log_likelihoods(ONE, data, axis.float())  # (N, B)
    means = torch.linspace(mean - 5 * sd, mean + 5 * sd, 81).double()
    spreads = torch.linspace(0.02, 5 * sd, 81).double()
    law = Normal(means[:, None, None], spreads[None, :, None])
    given = law.log_prob(axis)  # (M, S, N)
    each = torch.stack([(given + subject).logsumexp(-1) for subject in inside.T]) + math.log(
        axis[1] - axis[0]
    )
    outer = Normal(mean, sd).log_prob(means)[:, None] + HalfNormal(sd).log_prob(spreads)
    cells = math.log(means[1] - means[0]) + math.log(spreads[1] - spreads[0])
    exact = float((each.sum(0) + outer).logsumexp((0, 1))) + cells
    found = float(compare_groups([ONE], data, num_samples=1024)[0])
    assert found == pytest.approx(exact, abs=0.15)


@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_a_proposal_travels_to_where_the_mass_is(shift):
    """A Gaussian 30 prior deviations away has the evidence of its own constant."""
    law = Normal(torch.tensor([shift, -1.0]).double(), torch.tensor([0.1, 2.0]).double())
    start = Proposal(torch.zeros(3, 2).double(), torch.eye(2).double().expand(3, -1, -1))
    generator = torch.Generator().manual_seed(0)
    cloud = integrate(
        lambda x: law.log_prob(x).sum(-1) + 5, start, number=4096, generator=generator
    )
    assert cloud.log_evidence.numpy() == pytest.approx(np.full(3, 5.0), abs=0.05)
    assert (cloud.standard_error < 0.02).all()


def test_proposals_have_the_density_of_a_student_t():
    generator = torch.Generator().manual_seed(1)
    root = torch.tensor([[2.0, 0.0], [0.5, 1.0]]).double()[None]
    points, found = Proposal(torch.ones(1, 2).double(), root).draw(50, generator)
    law = multivariate_t([1, 1], (root[0] @ root[0].T).numpy(), df=5)
    assert found[:, 0].numpy() == pytest.approx(law.logpdf(points[:, 0].numpy()))


def test_weights_are_flattened_until_enough_count():
    log_weights = torch.stack([torch.linspace(0, 300, 100), torch.zeros(100)], 1).double()
    found = flattened(log_weights, 0.1)
    counts = 1 / found.softmax(0).square().sum(0)
    assert counts.tolist() == pytest.approx([10, 100], rel=1e-3)


def test_too_few_draws_are_said():
    with pytest.warns(ConvergenceWarning, match="raise num_samples"):
        compare([Learner()], behaviour(Learner()), num_samples=40)
