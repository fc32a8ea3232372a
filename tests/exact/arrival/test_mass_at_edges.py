"""Laws with much of their mass closer to an edge of the support than a number can tell."""

import math

import pytest
import torch
from clouds import chains_agree
from torch.distributions import (
    Beta,
    Dirichlet,
    Gamma,
    Independent,
    Normal,
    SigmoidTransform,
    TransformedDistribution,
    biject_to,
)

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.model.bijections import PositiveTransform, bijection_to
from aif_dcpc.inference.model.supports import support_of
from aif_dcpc.inference.model.unrounded import is_unrounded, log_prob_at
from aif_dcpc.inference.queries.edges import cut_off, mass_beyond


def of(numbers, dtype=torch.float32):
    return torch.tensor(numbers, dtype=dtype)


LAWS = {
    "beta": (lambda kind: Beta(of(0.05, kind), of(0.3, kind)), [-30.0, -3.0, 4.0, 22.0]),
    "gamma": (lambda kind: Gamma(of(0.1, kind), of(2.0, kind)), [-30.0, -2.0, 0.0, 2.0]),
    "dirichlet": (
        lambda kind: Dirichlet(of([0.1, 2.0, 0.5], kind)),
        [[-25.0, 1.0], [0.0, 25.0], [3.0, -2.0], [0.5, 0.0]],
    ),
    "several": (
        lambda kind: Independent(Beta(of([0.1, 3.0], kind), of([0.2, 1.0], kind)), 1),
        [[-30.0, 1.0], [22.0, 4.0], [0.0, -9.0]],
    ),
}


@pytest.mark.parametrize("law, places", LAWS.values(), ids=LAWS)
def test_densities_at_coordinates_keep_the_digits_that_values_lose(law, places):
    """Single precision at a coordinate against double precision at the value there."""
    exact = law(torch.float64)
    bijection = bijection_to(support_of(exact))
    value = bijection(of(places, torch.float64))
    single = bijection(of(places))
    assert is_unrounded(exact, bijection)
    found = log_prob_at(law(torch.float32), bijection, single, of(places))
    assert torch.allclose(found.double(), exact.log_prob(value), rtol=1e-5, atol=1e-4)


def test_what_has_other_coordinates_keeps_its_own_density():
    law = Gamma(of(2.0), of(1.0))
    shifted = biject_to(torch.distributions.constraints.real)
    assert not is_unrounded(law, shifted)
    assert log_prob_at(law, shifted, of(1.5), of(9.0)) == law.log_prob(of(1.5))


@pytest.mark.parametrize(
    "a, b", [(0.05, 0.05), (0.2, 0.2), (0.3, 0.02)], ids=["even", "wide", "skewed"]
)
def test_a_beta_law_of_which_much_lies_at_the_edges(a, b):
    """In single precision, where 1 - 1e-8 is 1; its mean is a / (a + b)."""
    model = GraphicalModel()
    model.add_site("z", lambda: Beta(of(a), of(b)))
    draws = DCPC(model).sample(batch_size=1, seed=0)
    mean = a / (a + b)
    assert chains_agree(draws["z"], of([mean]), of([mean * (1 - mean) / (a + b + 1)]))


def test_a_dirichlet_law_of_which_nearly_all_lies_in_the_corners():
    model = GraphicalModel()
    model.add_site("z", lambda: Dirichlet(of([0.02, 0.05, 0.1])))
    draws = DCPC(model).sample(batch_size=1, seed=0)
    mean = of([0.02, 0.05, 0.1]) / 0.17
    assert chains_agree(draws["z"], mean, mean * (1 - mean) / 1.17)


@pytest.mark.parametrize("scale", [8.0, 16.0])
def test_mass_beyond_an_edge_is_foretold_by_what_lies_before_it(scale):
    """Exponential coordinates beyond 0, of which those beyond the edge are lost.

    Some 3,000 in a strip tell its ratio to the next one within 2.5 %, and the series within a third.
    """
    uniform = torch.rand(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coordinate = (-scale * uniform.log()).float()[:, None]
    edge = 14.942  # -log(eps) - 1
    lost = math.exp(-edge / scale)
    found = float(mass_beyond(SigmoidTransform(), coordinate[coordinate < edge][:, None]))
    assert 0.6 < found / (lost / (1 - lost)) < 1.5


def test_nothing_is_foretold_beyond_an_edge_that_nothing_comes_near():
    normal = 2 * torch.randn(100_000, 1, generator=torch.Generator().manual_seed(0))
    assert float(mass_beyond(SigmoidTransform(), normal)) == 0


def test_both_edges_count_alike():
    """A law and its mirror image; and one that is half of each, of which half as much is lost at each side."""
    uniform = torch.rand(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    upper = (-12 * uniform.log()).float()
    upper = upper[upper < 14.9][:, None]
    between = bijection_to(torch.distributions.constraints.interval(-1.0, 2.0))
    above = mass_beyond(between, upper)
    assert 0.2 < float(above) < 0.6
    assert torch.equal(mass_beyond(between, -upper), above)
    sign = torch.ones(len(upper), 1)
    sign[::2] = -1
    both = mass_beyond(between, sign * upper)
    assert float(both) == pytest.approx(float(above), rel=0.05)


def test_a_strip_with_next_to_nothing_foretells_nothing():
    """4 in 1,000 in the last strip, as many in the one before: mass that does not fall, but hardly any."""
    coordinate = torch.zeros(1000, 2)
    coordinate[:4] = 13.0
    coordinate[4:8] = 10.0
    coordinate[8:10, 1] = 13.0
    coordinate[10:12, 1] = 10.0
    found = mass_beyond(SigmoidTransform(), coordinate)
    assert found.tolist() == pytest.approx([0.0, 0.006 * 0.99 / 0.01])
    assert mass_beyond(SigmoidTransform(), coordinate[:999]).tolist() == [0.0, 0.0]


def test_what_lies_beyond_an_edge_is_counted():
    """Probabilities near 0 are told to 1e-38, near 1 to 1e-7; positive numbers to 1e38."""
    few = torch.tensor([-90.0, -80.0, 0.0, 40.0])[:, None]
    assert float(mass_beyond(SigmoidTransform(), few)) == 0.5
    far = torch.full((2000, 1), 14.9)
    assert float(mass_beyond(PositiveTransform(), far)) == 0.0
    assert float(mass_beyond(SigmoidTransform(), far)) == 1.0


def test_a_cut_is_said_only_of_sites_whose_value_is_read():
    """Beta(.05, .05) moves in its logit, in which nothing is cut; seen through its value, it is."""
    model = GraphicalModel()
    model.add_site("z", lambda: Beta(of(0.05), of(0.05)))
    model.add_site("x", lambda z: Normal(z, 1.0), ["z"])
    alone = DCPC(model).init({"x": of([0.5])}, do={}, seed=0)
    coordinate = torch.full((100, 1), 40.0)
    (sentence,) = cut_off(alone, {"z": coordinate})
    assert sentence.startswith("site 'z': 100% of its mass") and "torch.float32" in sentence
    coordinate[6:] = 0.0
    assert len(cut_off(alone, {"z": coordinate})) == 1
    coordinate[5] = 0.0
    assert cut_off(alone, {"z": coordinate}) == ()
    assert cut_off(alone, {}) == ()
    unread = GraphicalModel()
    unread.add_site("z", lambda: Beta(of(0.05), of(0.05)))
    assert cut_off(DCPC(unread).init(batch_size=1), {"z": torch.full((100, 1), 40.0)}) == ()


def logit_normal(scale):
    model = GraphicalModel()
    law = TransformedDistribution(Normal(of(0.0), of(scale)), SigmoidTransform())
    model.add_site("z", lambda: law)
    return DCPC(model)


def test_a_law_that_is_cut_off_at_an_edge_is_reported():
    with pytest.warns(ConvergenceWarning, match=r"'z'.*closer to the edge of its support.*float64"):
        logit_normal(20.0).sample(batch_size=1, seed=0)


def test_a_law_that_ends_before_the_edge_is_not():
    assert logit_normal(3.0).sample(batch_size=1, seed=0).warnings == ()
