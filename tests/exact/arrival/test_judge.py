"""Verdicts on draws whose fault is known, and runs in which a fault is planted.

A chain that stands still or lies astray is replaced while warming up; where it comes later, it is reported.
"""

import re

import pytest
import torch
from torch.distributions import Cauchy, Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.arrival import sample as sampling
from aif_dcpc.inference.arrival.judge import AIM_R_HAT, MAX_R_HAT, judge
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.moves.hamiltonian import Point

STILL = "stand still .* rewrite scale parameters"
ASTRAY = "far below the others in log density: they have not arrived; .* another seed"
MODES = r"separate regions .* use engine.temper\(data\)"
SLOW = "mixing is slow; call sample with more max_seconds"


# -- verdicts --------------------------------------------------------------------------------------


def normals(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def draws(**changes):
    """Good draws `(S, K, G, D)` of two sites, and what `judge` asks for besides, with changes."""
    places = normals(200, 32, 2, 3)
    good = {
        "places": [places, 2 * places],
        "outside": [],
        "log_prob": -0.5 * places.square().sum(-1),
        "acceptance": torch.full((32, 2), 0.8),
        "sites": ["a", "b", "b"],
    }
    return {**good, **changes}


def one_of(number, like):
    """True for one chain of a datum."""
    flags = torch.zeros_like(like, dtype=torch.bool)
    flags[number, 1] = True
    return flags


def test_good_draws_are_settled_without_a_word():
    verdict = judge(**draws())
    assert verdict.is_good and verdict.is_settled
    assert verdict.warnings() == ()
    assert 0.99 < verdict.r_hat < AIM_R_HAT
    assert (verdict.stuck, verdict.astray) == (0, 0)


def test_a_single_chain_that_stands_still_is_reported():
    acceptance = torch.full((32, 2), 0.8)
    verdict = judge(**draws(acceptance=acceptance.masked_fill(one_of(5, acceptance), 0.02)))
    (said,) = verdict.warnings()
    assert verdict.stuck == 1 / 64
    assert said.startswith("1.6% of the chains stand still (acceptance 0.02 at worst)")


@pytest.mark.parametrize("depth", [10, 1e6])
def test_a_single_chain_far_below_the_others_is_reported(depth):
    log_prob = draws()["log_prob"] - depth * one_of(5, torch.zeros(32, 2))
    verdict = judge(**draws(log_prob=log_prob))
    (said,) = verdict.warnings()
    assert verdict.astray == 1 / 64
    assert said.startswith("1.6% of the chains lie far below")


@pytest.mark.parametrize("chart", [0, 1])
@pytest.mark.parametrize("fault, sentence", [(1.0, SLOW), (8.0, MODES)])
def test_chains_that_disagree_are_reported_by_the_site_and_the_remedy(chart, fault, sentence):
    """In one chart, one coordinate of one datum."""
    places = [x.clone() for x in draws()["places"]]
    places[chart][:, :16, 1, 2] += fault * (1 + chart)
    verdict = judge(**draws(places=places))
    (said,) = verdict.warnings()
    assert verdict.site == "b" and said.startswith("site 'b': ")
    assert re.search(sentence, said)
    assert not verdict.is_good


def test_chains_of_unlike_width_are_reported():
    """Their means agree: only distances from the middle tell."""
    places = [
        x * torch.where(torch.arange(32) < 16, 1.0, 2.0)[:, None, None] for x in draws()["places"]
    ]
    assert judge(**draws(places=places)).r_hat > MAX_R_HAT


def test_sites_outside_the_block_are_judged_as_well():
    label = (normals(200, 32, 2, seed=3) > 0).double()
    assert judge(**draws(outside=[("label", label)])).is_good
    label[:, :8] = 1
    verdict = judge(**draws(outside=[("label", label)]))
    assert verdict.site == "label" and verdict.r_hat > MAX_R_HAT
    alone = draws(places=[], sites=[], outside=[("label", label)])
    assert judge(**alone).site == "label"


def test_ranks_see_what_moments_do_not():
    """A shifted chain under tails so heavy that variances hide it."""
    verdict = judge(**draws())
    ranked = verdict.with_ranks({"a": torch.tensor([1.0, 1.01]), "b": torch.tensor([1.2])})
    assert (ranked.r_hat, ranked.site) == (pytest.approx(1.2), "b")
    assert verdict.with_ranks({"a": torch.tensor([0.9])}) == verdict


def test_slow_mixing_asks_for_more_draws_before_it_is_a_fault():
    places = [x.clone() for x in draws()["places"]]
    places[0][:, :16, 1, 2] += 0.58
    verdict = judge(**draws(places=places))
    assert AIM_R_HAT < verdict.r_hat < MAX_R_HAT
    assert verdict.is_good and not verdict.is_settled


# -- runs with a planted fault ---------------------------------------------------------------------


class Ledge(Normal):
    """A standard normal law that ends, 500 nats below its top, in a level plain without any slope."""

    def log_prob(self, value):
        return super().log_prob(value).clamp_min(-500.0)


class Pit(Normal):
    """A law with an infinitely narrow spike: nobody who stands in it ever leaves."""

    def log_prob(self, value):
        inside = (value - 0.25).abs() < 1e-9
        return super().log_prob(value) + 1000.0 * inside


def model_of(law):
    model = GraphicalModel()
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    model.add_site("z", lambda: law(zero, one))
    model.add_site("x", lambda z: Normal(torch.zeros_like(z), 2.0), ["z"])
    return model


def put(sampler, place):
    """Put the first chain somewhere."""
    moved = sampler.point.place.clone()
    moved[0] = place
    (move,) = sampler.moves
    sampler.point = Point(moved, *move.density(moved))


FAULTS = {"pit": (Pit, 0.25, STILL), "ledge": (Ledge, 600.0, ASTRAY)}


@pytest.mark.parametrize("law, place, _", FAULTS.values(), ids=FAULTS)
def test_a_chain_that_is_lost_is_replaced_while_warming_up(law, place, _, monkeypatch):
    """The run is silent and right: E z = 0, within 5 standard errors of the chains' means."""
    warm_up = sampling.warm_up

    def planted(sampler, *rest, **options):
        put(sampler, place)
        return warm_up(sampler, *rest, **options)

    monkeypatch.setattr(sampling, "warm_up", planted)
    found = DCPC(model_of(law)).sample({"x": torch.zeros(1).double()}, seed=0)
    assert found.warnings == ()
    chains = found["z"].mean(0)
    assert abs(float(chains.mean())) < 5 * float(chains.std()) / len(chains) ** 0.5
    assert float((found["z"][:, 0] - place).abs().min()) > 1e-6


@pytest.mark.parametrize("law, place, sentence", FAULTS.values(), ids=FAULTS)
def test_a_chain_that_gets_lost_later_is_reported(law, place, sentence, monkeypatch):
    """Both attempts: the fault is planted after each warm-up."""
    warm_up = sampling.warm_up

    def planted(sampler, *rest, **options):
        sweeps = warm_up(sampler, *rest, **options)
        put(sampler, place)
        return sweeps

    monkeypatch.setattr(sampling, "warm_up", planted)
    engine = DCPC(model_of(law))
    with pytest.warns(ConvergenceWarning) as said:
        found = engine.sample({"x": torch.zeros(1).double()}, seed=0, max_seconds=0.3)
    assert tuple(str(w.message) for w in said) == found.warnings
    assert found.warnings[0].startswith("0.8% of the chains")
    assert re.search(sentence, found.warnings[0])
    assert all(f"warning: {w}" in str(found) for w in found.warnings)


def two_sided(gap):
    """|z| is seen: the posterior has two modes, at plus and minus what is seen."""
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 10.0))
    model.add_site("x", lambda z: Normal(z.abs(), 0.1), ["z"])
    return model, {"x": torch.tensor([gap])}


def test_modes_that_lie_far_apart_are_reported_with_their_remedy():
    model, observed = two_sided(5.0)
    with pytest.warns(ConvergenceWarning, match=MODES) as said:
        found = DCPC(model).sample(observed, seed=0, max_seconds=0.3)
    assert tuple(str(w.message) for w in said) == found.warnings
    assert len(found.warnings) == 1


def test_modes_that_touch_are_no_fault():
    model, observed = two_sided(0.1)
    found = DCPC(model).sample(observed, seed=0)
    assert found.warnings == ()
    positive = (found["z"] > 0).double().mean(0)
    assert abs(float(positive.mean()) - 0.5) < 5 * float(positive.std()) / len(positive) ** 0.5


def test_tails_too_heavy_to_mix_are_reported():
    model = GraphicalModel()
    model.add_site("z", lambda: Cauchy(0.0, 1.0))
    model.add_site("x", lambda z: Normal(torch.zeros_like(z), 1.0), ["z"])
    with pytest.warns(ConvergenceWarning, match="site 'z': chains disagree"):
        DCPC(model).sample({"x": torch.zeros(1)}, seed=0, max_seconds=1.0)
