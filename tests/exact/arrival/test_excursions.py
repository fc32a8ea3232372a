"""A standard deviation that one chain, or few draws, have made is told, by closed forms of how much chains differ."""

import math
import warnings
from dataclasses import replace

import pytest
import torch
from torch.distributions import Bernoulli, LogNormal, Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.arrival import excursions
from aif_dcpc.inference.arrival import sample as sampling
from aif_dcpc.inference.arrival.excursions import (
    MOST_ERROR,
    Excursion,
    draws_of_the_widest,
    errors_of_sd,
    worst_excursion,
)
from aif_dcpc.inference.errors import ConvergenceWarning


def model():
    """A Gaussian latent, its exponential by name, and a switch with a function of its own."""
    found = GraphicalModel()
    found.add_site("z", lambda: Normal(torch.zeros(3), 1.0))
    found.add_site("s", lambda: Bernoulli(torch.full((1,), 0.5)))
    found.add_deterministic("a", torch.exp, ["z"])
    found.add_deterministic("rare", lambda s, z: s * z, ["s", "z"])
    found.add_site("x", lambda a, s: Normal(0 * a.sum(-1, keepdim=True) + s, 1e3), ["a", "s"])
    return found


@pytest.fixture(scope="module")
def draws():
    engine = DCPC(model())
    return engine.sample({"x": torch.zeros(1, 1)}, num_particles=32, seed=0)


def with_chain(draws, change):
    """The draws with the first chain's first number of z changed."""
    z = draws.values["z"].clone()
    z[:, 0, :, 0] = change(z[:, 0, :, 0])
    return replace(draws, values={**draws.values, "z": z})


def test_one_chain_with_a_larger_variance_gives_its_closed_form():
    """16 chains of +1 and -1, one of +3 and -3: of 15 + 9 it makes 9, and 8 / 2 / 24 is the error."""
    signs = torch.tensor([1.0, -1.0]).repeat(50)
    x = signs[:, None, None].expand(100, 16, 1).clone()
    x[:, 5] *= 3
    errors, shares = errors_of_sd(x)
    assert errors.tolist() == pytest.approx([8 / 48])
    assert shares.tolist() == pytest.approx([9 / 24])


def test_independent_draws_know_it_to_one_over_the_root_of_twice_their_number():
    """The estimate comes from 64 chains: within 4 of its own standard errors, a 1 / sqrt(128) each."""
    generator = torch.Generator().manual_seed(0)
    errors, shares = errors_of_sd(7 + torch.randn(200, 64, 1, 5, generator=generator))
    exact = 1 / math.sqrt(2 * 200 * 64)
    assert errors.shape == (5,)
    assert float((errors / exact - 1).abs().max()) < 4 / math.sqrt(128)
    assert float(shares.max()) < 2 / 64


def test_the_widest_chain_is_known_by_the_number_of_its_draws():
    """Chains of +1 and -1; in the widest six draws of +10 and -10, or one of 30: (6 * 100 + 94)^2 / (60,000 + 94)."""
    signs = torch.tensor([1.0, -1.0]).repeat(50)
    x = signs[:, None, None].expand(100, 16, 2).clone()
    x[:6, 7, 0] *= 10
    x[0, 7, 1] = 30
    several, single = draws_of_the_widest(x).tolist()
    assert several == pytest.approx(694**2 / 60094)
    assert 1 < single < 2


def test_a_single_draw_far_out_is_a_heavy_tail_s_own(draws):
    """It makes 200^2 of 200^2 + 6,400; five draws of the same height in a row have lingered no more than that, six have."""

    def far(number):
        return lambda z: torch.cat([z[:number] + 200, z[number:]])

    found = worst_excursion(with_chain(draws, far(1)), ["z"])
    assert found.share == pytest.approx(40_000 / 46_400, abs=0.01)
    assert not found.lingers and "by a few draws far out in a heavy tail" in found.warning()
    assert not worst_excursion(with_chain(draws, far(4)), ["z"]).lingers
    assert worst_excursion(with_chain(draws, far(6)), ["z"]).lingers


def far_tailed(width):
    """A log-normal latent, Gaussian where it moves: sd^2 = (e^(w^2) - 1) e^(w^2)."""
    model = GraphicalModel()
    model.add_site("z", lambda: LogNormal(0.0, width))
    return DCPC(model)


def test_a_heavy_tail_is_drawn_from_longer_and_told_in_one_attempt(monkeypatch):
    """Of width 2 its kurtosis is e^16: no number of draws that is kept knows the standard deviation."""

    def again(*_):
        raise AssertionError("longer trajectories know no tail better")

    monkeypatch.setattr(sampling, "_escalate", again)
    with pytest.warns(ConvergenceWarning, match="a few draws far out in a heavy tail"):
        found = far_tailed(2.0).sample(seed=0)
    assert len(found.warnings) == 1 and found.num_draws == sampling.MOST_DRAWS
    logarithms = found["z"].double().log()
    assert float(logarithms.mean()) == pytest.approx(0, abs=0.1)
    assert float(logarithms.std()) == pytest.approx(2, rel=0.05)


def test_a_tail_that_is_known_is_silent_and_costs_no_further_draws():
    """Of width .5 the kurtosis is 9: a relative error of .5 (9 / N)^(1/2), below .02 for 6,400 draws."""
    found = far_tailed(0.5).sample(seed=0)
    variance = math.exp(0.25) * (math.exp(0.25) - 1)
    assert found.warnings == () and found.num_draws < sampling.MOST_DRAWS
    assert float(found["z"].double().var()) == pytest.approx(variance, rel=0.15)


@pytest.mark.parametrize("known_from, kept", [(0, 100), (250, 300), (1000, 400)])
def test_draws_go_on_until_every_standard_deviation_is_known(known_from, kept, monkeypatch):
    def spread(draws, _):
        return Excursion("z", MOST_ERROR * (0.9 if draws.num_draws >= known_from else 1.1))

    monkeypatch.setattr(sampling, "worst_excursion", spread)
    simple = GraphicalModel()
    simple.add_site("z", lambda: Normal(0.0, 1.0))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = DCPC(simple).sample(seed=0, num_particles=128)
    assert (found.num_draws, len(said)) == (kept, int(known_from > 400))


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_what_never_moves_or_is_no_number_has_no_error(value):
    errors, shares = errors_of_sd(torch.full((10, 16, 1), value))
    assert (errors.tolist(), shares.tolist()) == ([0.0], [0.0])


def test_good_draws_are_silent(draws):
    found = worst_excursion(draws, ["z"])
    assert draws.warnings == ()
    assert found.warning() == ""
    assert 0 < found.error < MOST_ERROR
    assert found.chains == 32


def test_the_site_of_an_excursion_is_named(draws):
    found = worst_excursion(with_chain(draws, lambda z: -10 * z.abs()), ["z"])
    assert found.site == "z"
    assert found.share == pytest.approx(100 / 131, abs=0.1)
    assert found.warning().startswith("site 'z': one of 32 chains makes ")


def test_what_the_model_computes_shows_what_its_latent_does_not(draws):
    """Ten draws of 4.5 among 6,400 are little of the variance of z, and a third of that of exp(z)."""
    moved = with_chain(draws, lambda z: torch.cat([z[:-10], torch.full_like(z[-10:], 4.5)]))
    alone, _ = errors_of_sd(moved["z"])
    assert float(alone.max()) < MOST_ERROR
    found = worst_excursion(moved, ["z"])
    assert found.site == "a"
    assert found.error > MOST_ERROR


def test_functions_of_switches_and_large_ones_are_not_looked_at(draws, monkeypatch):
    seen = []
    monkeypatch.setattr(excursions, "_of_site", lambda n, x: seen.append(n) or Excursion(n))
    worst_excursion(draws, ["z"])
    assert seen == ["z", "a"]
    seen.clear()
    monkeypatch.setattr(excursions, "MOST_NUMBERS", draws.num_draws * 32 * 3 - 1)
    worst_excursion(draws, ["z"])
    assert seen == ["z"]


def test_few_chains_say_nothing(draws):
    values = {name: x[:, :15] for name, x in draws.values.items()}
    few = replace(draws, values=values, log_joint=draws.log_joint[:, :15])
    assert worst_excursion(with_chain(few, lambda z: 10 * z), ["z"]).error == 0


def test_sample_tells_of_it_in_one_sentence(monkeypatch):
    """One chain of 128, its draws twenty times as far out: 400 of 527, in both attempts."""
    finish = sampling._finish

    def planted(sampler, kept, verdict):
        for place in kept.declared:
            place[3, :, 0] *= 20
        return finish(sampler, kept, verdict)

    monkeypatch.setattr(sampling, "_finish", planted)
    simple = GraphicalModel()
    simple.add_site("z", lambda: Normal(0.0, 1.0))
    with pytest.warns(ConvergenceWarning) as said:
        found = DCPC(simple).sample(seed=0, num_particles=128)
    (sentence,) = found.warnings
    assert [str(w.message) for w in said] == [sentence]
    assert sentence.startswith("site 'z': one of 128 chains makes 7")
    assert sentence.endswith("take quantiles in its place, or join the draws of several seeds.")


@pytest.mark.parametrize("other", [{"heavy": "z"}, {"stuck": 0.1}, {"astray": 0.1}, {"r_hat": 1.2}])
def test_a_fault_that_explains_it_is_told_alone(other):
    quiet = sampling.Verdict(1.0, "z", 0.0, 0.0, 0.8, torch.zeros(16, 1))
    doubtful = replace(quiet, excursion=Excursion("z", 0.2, 0.4, 32))
    assert quiet.is_good
    assert len(doubtful.warnings()) == 1
    assert len(replace(doubtful, **other).warnings()) == 1
