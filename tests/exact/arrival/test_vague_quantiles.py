"""How well quantiles are known: by the density there, of laws whose quantiles are known."""

import math

import pytest
import torch
from torch.distributions import Exponential, Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.arrival import sample as sampling
from aif_dcpc.inference.arrival import vague_quantiles
from aif_dcpc.inference.arrival.judge import Verdict
from aif_dcpc.inference.arrival.vague_quantiles import (
    MOST_ERROR,
    VagueQuantile,
    errors_of_quantiles,
    vaguest_quantile,
)
from aif_dcpc.inference.errors import ConvergenceWarning

LEVELS = (0.05, 0.95)


def evenly(law, number=20_000):
    """Draws `(S, 4, 1)` at evenly spaced quantiles of a law; their order does not matter."""
    shares = (torch.arange(number, dtype=torch.float64) + 0.5) / number
    return law.icdf(shares).reshape(-1, 4, 1)


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def densities(law):
    quantiles = law.icdf(number(LEVELS))
    width = float(quantiles[1] - quantiles[0]) / 3.2897
    return [width * float(x) for x in law.log_prob(quantiles).exp()]


@pytest.mark.parametrize("law", [Normal(number(3.0), 2.0), Exponential(number(0.1))])
@pytest.mark.parametrize("size", [1000.0, 4000.0])
def test_a_quantile_is_known_to_the_error_of_its_share_over_the_density(law, size):
    """sqrt(p (1 - p) / size) / density, in units of the width; of first order in that error, hence 5 %."""
    found = errors_of_quantiles(evenly(law), number([size]))
    for level, density in zip(LEVELS, densities(law), strict=True):
        expected = math.sqrt(level * (1 - level) / size) / density
        assert float(found[level]) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_what_never_moves_or_is_no_number_has_no_error(value):
    found = errors_of_quantiles(torch.full((50, 4, 2), value), number([1.0, 100.0]))
    assert all(torch.equal(error, torch.zeros_like(error)) for error in found.values())


def test_the_least_known_quantile_is_named():
    """An exponential law is thin at its upper end alone; `b` has a hundredth of the draws of `a`."""
    law = Exponential(number(1.0))
    draws = {"a": evenly(law), "b": torch.cat([evenly(law), -evenly(law)], -1)}
    sizes = {"a": number([100_000.0]), "b": number([2000.0, 1000.0])}
    found = vaguest_quantile(draws, sizes, ["a", "b"])
    assert (found.site, found.level) == ("b", 0.05)
    assert vaguest_quantile(draws, sizes, ["a"]).level == 0.95
    assert vaguest_quantile(draws, sizes, ()).warning() == ""


def verdict(**faults):
    parts = {"r_hat": 1.0, "site": "z", "stuck": 0.0, "astray": 0.0, "lowest": 0.8} | faults
    vague = VagueQuantile("z", 0.95, MOST_ERROR + 0.05)
    return Verdict(sources=torch.arange(4)[:, None], vague=vague, **parts)


def test_it_is_told_with_its_remedy_unless_another_fault_explains_it():
    (said,) = verdict().warnings()
    assert said.startswith("site 'z': its chains enter a tail seldom")
    assert "the 95 % quantile is known to 0.15 standard deviations" in said
    assert "max_seconds" in said
    assert VagueQuantile("z", 0.95, MOST_ERROR).warning() == ""
    for fault in ({"stuck": 0.1}, {"astray": 0.1}, {"r_hat": 1.2}, {"heavy": "z"}):
        (said,) = verdict(**fault).warnings()
        assert "a tail seldom" not in said


def test_sample_looks_for_it_where_chains_are_slow(monkeypatch):
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1.0))
    monkeypatch.setattr(vague_quantiles, "MOST_ERROR", 0.0)
    assert DCPC(model).sample(batch_size=1, seed=0).warnings == ()
    monkeypatch.setattr(sampling, "LEAST_SHARE", math.inf)
    with pytest.warns(ConvergenceWarning, match="site 'z': its chains enter a tail seldom"):
        DCPC(model).sample(batch_size=1, seed=0)
