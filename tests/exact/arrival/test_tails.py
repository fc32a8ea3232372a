"""Tails that chains explore, and tails that they do not, of laws whose index is known."""

import math

import pytest
import torch
from torch.distributions import Cauchy, HalfCauchy, LogNormal, Normal, StudentT

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.arrival.cloud import arrived
from aif_dcpc.inference.arrival.tails import OUTER, has_unexplored_tails, tail_index
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.model.state import POSTERIOR

WARNED = "site 'z': its tails are too heavy .* scale mixture"


def of(number):
    return torch.tensor(number)


def sampled(law, seed=0):
    model = GraphicalModel()
    model.add_site("z", law)
    return DCPC(model).sample(batch_size=1, seed=seed)


@pytest.mark.parametrize("index", [1.0, 2.0, 5.0])
def test_the_index_of_an_exact_power_law_is_found(index):
    """P(X > x) = x^-index: Hill's estimate from 1,000 has a standard error of index / sqrt(1000)."""
    uniform = torch.rand(50_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = float(tail_index(uniform ** (-1 / index)))
    assert abs(found - index) < 5 * index / 1000**0.5


def test_the_index_is_that_of_hill_by_its_definition():
    """One over the mean logarithm of the outermost distances, each over the least of them, which is left out."""
    top = [3.0, 40.0, 5.0, 8.0]
    number = round(len(top) / OUTER)
    distances = torch.tensor([*top, *[1.0] * (number - len(top))]).double()
    expected = 3 / sum(math.log(x / 3.0) for x in (40.0, 5.0, 8.0))
    assert float(tail_index(distances)) == pytest.approx(expected)


def test_independent_draws_explore_any_tail():
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(2, 100, 32, 1, 1, generator=generator, dtype=torch.float64)
    cauchy = normal[0] / normal[1]
    assert not has_unexplored_tails(cauchy).any()
    lazy = cauchy[::10].repeat_interleave(10, 0)
    assert has_unexplored_tails(lazy).all()
    assert not has_unexplored_tails(normal[0, ::10].repeat_interleave(10, 0)).any()


@pytest.mark.parametrize("index, expected", [(2.0, True), (3.0, False)])
def test_only_tails_without_a_variance_are_too_heavy_for_lazy_chains(index, expected):
    """Hill's estimate from 512 independent distances: standard errors of .09 and .13 around 2 and 3."""
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(200, 128, 1, 1, generator=generator, dtype=torch.float64)
    sign = torch.randint(3, uniform.shape, generator=generator) - 1  # the median is 0
    lazy = (sign * uniform ** (-1 / index)).repeat_interleave(10, 0)
    assert bool(has_unexplored_tails(lazy)) is expected
    assert not bool(has_unexplored_tails(lazy[:15]))  # too few to tell


LAWS = {
    "cauchy": lambda: Cauchy(of(0.0), of(1.0)),
    "student": lambda: StudentT(of(1.5), of(0.0), of(1.0)),
}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_laws_without_a_variance_are_reported_with_their_remedy(law):
    with pytest.warns(ConvergenceWarning, match=WARNED) as said:
        draws = sampled(law)
    assert draws.warnings == (str(said[0].message),)


CALM = {
    "normal": lambda: Normal(of(0.0), of(1.0)),
    "student of 5": lambda: StudentT(of(5.0), of(0.0), of(1.0)),
}
EXPLORED = {
    "half-cauchy": lambda: HalfCauchy(of(1.0)),
    "log-normal": lambda: LogNormal(of(0.0), of(2.0)),
}


@pytest.mark.parametrize("law", CALM.values(), ids=CALM)
def test_other_laws_are_not(law):
    assert sampled(law).warnings == ()


def only_its_deviation(draws):
    """Whether nothing is said but that few draws make a standard deviation."""
    (said,) = draws.warnings
    return "by a few draws far out in a heavy tail" in said


@pytest.mark.parametrize("law", EXPLORED.values(), ids=EXPLORED)
def test_of_heavy_tails_that_are_explored_the_standard_deviation_alone_is_doubted(law):
    """Both are light in their logarithm, in which they move; kurtosis none, and e^16."""
    with pytest.warns(ConvergenceWarning):
        assert only_its_deviation(sampled(law))


@pytest.mark.parametrize("law", EXPLORED.values(), ids=EXPLORED)
def test_particles_that_a_run_starts_from_are_not_doubted_for_it(law):
    model = GraphicalModel()
    model.add_site("z", law)
    model.add_site("x", lambda z: Normal(0 * z, 1.0), ["z"])
    engine = DCPC(model, num_particles=16)
    found = arrived(engine, engine.init({"x": torch.zeros(1)}, seed=0), torch.Generator())
    assert found.warnings == () and found.state.origin == POSTERIOR


def test_the_remedy_is_one():
    """A Cauchy law as a scale mixture: its outermost hundredth has its mass, within 5 standard errors."""
    model = GraphicalModel()
    model.add_site("scale", lambda: HalfCauchy(of(1.0)))
    model.add_site("z", lambda scale: Normal(torch.zeros_like(scale), scale), ["scale"])
    with pytest.warns(ConvergenceWarning):
        draws = DCPC(model).sample(batch_size=1, seed=0)
    assert only_its_deviation(draws)
    product = draws["z"] / draws["scale"]
    chains = product.double().square().mean(0)
    assert abs(float(chains.mean()) - 1) < 5 * float(chains.std()) / len(chains) ** 0.5
    beyond = (draws["scale"] > 63.657).double().mean(0)  # tan(.495 pi)
    error = float(beyond.std()) / len(beyond) ** 0.5
    assert abs(float(beyond.mean()) - 0.01) < 5 * error
