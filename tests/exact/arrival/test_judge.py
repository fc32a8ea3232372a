"""Verdicts on draws whose fault is known, and runs in which a fault is planted.

A chain that stands still or lies astray is replaced while warming up; where it comes later, it is reported.
"""

import math
import re
from dataclasses import replace

import pytest
import torch
from arrivals import normals
from clouds import chains_agree
from torch.distributions import Gamma, Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.arrival import sample as sampling
from aif_dcpc.inference.arrival.build import build_sampler
from aif_dcpc.inference.arrival.judge import AIM_R_HAT, MAX_R_HAT, judge, leans_alike
from aif_dcpc.inference.arrival.kept import Kept
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.moves.hamiltonian import Point

STILL = "stand still .* rewrite scale parameters"
ASTRAY = "far below the others in log density: they have not arrived; .* another seed"
MODES = r"separate regions .* use engine.temper\(data\)"
LEANS = "do not average to zero .* narrower than the rest"
SLOW = "mixing is slow; call sample with more max_seconds"


# -- verdicts --------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_draws_that_are_no_numbers_are_reported(lost):
    """One of 12,800, in the block or outside it; what is constant is known exactly."""
    places = [x.clone() for x in draws()["places"]]
    places[1][7, 5, 1, 2] = lost
    (said,) = judge(**draws(places=places)).warnings()
    assert said.startswith("site 'b': some of its draws are infinite or not a number")
    constant = torch.full((200, 32, 2), 3.0)
    assert judge(**draws(outside=[("c", constant)])).is_settled
    constant[7, 5, 1] = lost
    (said,) = judge(**draws(outside=[("c", constant)])).warnings()
    assert said.startswith("site 'c': some of its draws")


def test_where_nothing_is_finite_there_is_no_disagreement_to_tell():
    lost = [torch.full_like(x, math.nan) for x in draws()["places"]]
    verdict = judge(**draws(places=lost))
    assert (verdict.r_hat, verdict.site, verdict.not_finite) == (1.0, "", "a")
    assert len(verdict.warnings()) == 1


def test_an_r_hat_that_is_no_number_is_no_agreement():
    verdict = judge(**draws()).with_ranks({"a": torch.tensor([1.0, math.nan])})
    assert verdict.site == "a" and not verdict.is_good


@pytest.mark.parametrize("lost", ["stuck", "astray"])
def test_a_lost_chain_is_one_cause_and_one_sentence(lost):
    """It disagrees with all others, which agree."""
    places = [x.clone() for x in draws()["places"]]
    for place in places:
        place[:, 5, 1] = 50.0
    flags = one_of(5, torch.zeros(32, 2))
    acceptance = torch.full((32, 2), 0.8).masked_fill(flags & (lost == "stuck"), 0.0)
    log_prob = draws()["log_prob"] - 900.0 * flags * (lost == "astray")
    verdict = judge(**draws(places=places, acceptance=acceptance, log_prob=log_prob))
    (said,) = verdict.warnings()
    assert said.startswith("1.6% of the chains")
    assert verdict.r_hat < AIM_R_HAT


def test_prediction_errors_that_do_not_average_to_zero_are_reported():
    """Means of 32 chains with a standard deviation of 1: the error of their mean is 1 / sqrt(32)."""
    scores = normals(32, 2, 3, seed=5)
    assert judge(**draws(), scores=[scores]).is_settled
    leaning = scores.clone()
    leaning[:, 1, 2] += 12 / math.sqrt(32)
    verdict = judge(**draws(), scores=[scores, leaning])
    (said,) = verdict.warnings()
    assert said.startswith("site 'b': ") and re.search(LEANS, said)
    assert 8 < verdict.lean < 16
    assert leans_alike([leaning], [leaning + 0.1])
    assert not leans_alike([scores], [leaning])


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


# -- how long a run goes on ------------------------------------------------------------------------


def slow_until(number):
    """The verdict of draws that are settled after so many sweeps of either attempt, and slow before."""

    def verdict(kept, block):
        found = judge(**draws())
        return found if kept.sweeps >= number else replace(found, r_hat=1.2, site="z")

    return verdict


def test_with_time_left_slow_chains_go_on_and_draws_are_thinned(monkeypatch):
    """500 sweeps with room for 40 draws: 40, then every 2nd to 80, ..., every 16th to 640 sweeps."""
    monkeypatch.setattr(sampling, "CHUNK", 20)
    monkeypatch.setattr(sampling, "MOST_DRAWS", 40)
    monkeypatch.setattr(Kept, "verdict", slow_until(500))
    kept = []
    finish = sampling._finish
    monkeypatch.setattr(sampling, "_finish", lambda s, k, v: kept.append(k) or finish(s, k, v))
    found = DCPC(model_of(Normal)).sample({"x": torch.zeros(1).double()}, seed=0)
    impatient, patient = kept
    assert (impatient.sweeps, impatient.every, len(impatient)) == (40, 1, 40)
    assert (patient.sweeps, patient.every, len(patient)) == (640, 16, 40)
    assert found.num_draws == 40 and found.warnings == ()


def test_more_time_is_asked_for_only_where_time_was_what_lacked(monkeypatch):
    monkeypatch.setattr(sampling, "CHUNK", 20)
    monkeypatch.setattr(sampling, "MOST_DRAWS", 40)
    monkeypatch.setattr(Kept, "verdict", slow_until(math.inf))
    with pytest.warns(ConvergenceWarning, match=SLOW):
        found = DCPC(model_of(Normal)).sample(
            {"x": torch.zeros(1).double()}, seed=0, max_seconds=0.5
        )
    assert found.seconds > 1.0 and found.num_draws <= 40


def test_acceptance_and_prediction_errors_are_means_over_all_sweeps(monkeypatch):
    sampler = build_sampler(DCPC(model_of(Normal)), {"x": torch.zeros(1).double()}, 3, seed=0)
    made = []
    sweep = sampler.sweep
    monkeypatch.setattr(sampler, "sweep", lambda **given: made.append(sweep(**given)) or made[-1])
    kept = Kept(torch.zeros(3, 1))
    assert kept.mean_acceptance.eq(0).all() and kept.unseen == 0
    with torch.no_grad():
        for _ in range(5):
            kept.sweep(sampler)
        kept.thin()
        for _ in range(4):
            kept.sweep(sampler)
    assert len(made) == 9
    least = [torch.stack(list(acceptances.values())).amin(0) for acceptances, _ in made]
    assert torch.allclose(kept.mean_acceptance, torch.stack(least).mean(0))
    for number, chart in enumerate(m.chart for m in sampler.moves):
        scores = torch.stack([points[chart].score for _, points in made])
        assert torch.allclose(kept.mean_scores[number], scores.double().mean(0))


def test_thinned_draws_are_those_of_every_second_sweep():
    kept = Kept(torch.zeros(2, 1))
    engine = DCPC(model_of(Normal))
    sampler = build_sampler(engine, {"x": torch.zeros(1).double()}, 2, seed=0)
    with torch.no_grad():
        for _ in range(6):
            kept.sweep(sampler)
        all_six = list(kept.declared)
        kept.thin()
        for _ in range(4):
            kept.sweep(sampler)
    assert len(kept) == len(kept.declared) == 5 and kept.sweeps == 10
    assert all(torch.equal(a, b) for a, b in zip(kept.declared, all_six[1::2], strict=False))
    assert torch.equal(kept.declared[-1], sampler.declared()[0])


# -- narrow parts and jumps ------------------------------------------------------------------------


def test_a_cliff_at_the_end_of_a_plain_is_explored():
    """Gamma(.01, .01): its logarithm is flat over hundreds, then falls within 1; its mean, 1, lies there.

    Its kurtosis is 603: 12,800 independent draws know its standard deviation, 10, to 11 % only, so that it goes on.
    """
    model = GraphicalModel()
    model.add_site("z", lambda: Gamma(torch.tensor(0.01), torch.tensor(0.01)))
    draws = DCPC(model).sample(batch_size=1, seed=0)
    assert draws.warnings == () and draws["z"].numel() > 12_800
    chains = draws["z"].double().mean(0)
    assert abs(float(chains.mean()) - 1) < 5 * float(chains.std()) / len(chains) ** 0.5
    error = 0.5 * (603 / draws["z"].numel()) ** 0.5
    assert float(draws["z"].double().std()) == pytest.approx(10, rel=4 * error)


def test_a_density_with_a_jump_is_no_fault():
    """A step in z at .3 is seen: prediction errors average to the height of the jump, not to zero."""
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1.0))
    model.add_site("x", lambda z: Normal(2.0 * (z > 0.3), 1.0), ["z"])
    draws = DCPC(model).sample({"x": torch.tensor([1.5])}, seed=0, num_particles=32)
    assert draws.warnings == ()
    grid = torch.linspace(-8, 8, 32001, dtype=torch.float64)
    height = Normal(0.0, 1.0).log_prob(grid) + Normal(2.0 * (grid > 0.3), 1.0).log_prob(
        torch.tensor(1.5)
    )
    weight = torch.softmax(height, 0)
    assert chains_agree(draws["z"], weight @ grid, weight @ (grid - weight @ grid) ** 2)
