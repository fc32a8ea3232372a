"""Thresholds of verdicts, looks and diagnoses in figures, from both sides of each."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from arrivals import GOOD, gaussian_sampler, normals

from aif_dcpc.inference.arrival import sample as sampling
from aif_dcpc.inference.arrival import unseen
from aif_dcpc.inference.arrival.climb import climb
from aif_dcpc.inference.arrival.excursions import Excursion
from aif_dcpc.inference.arrival.judge import judge, leaning, own_r_hat
from aif_dcpc.inference.arrival.kept import Kept
from aif_dcpc.inference.arrival.vague_quantiles import VagueQuantile
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.state import Info
from aif_dcpc.inference.queries import diagnostics
from aif_dcpc.inference.queries.diagnostics import is_clustered
from aif_dcpc.inference.queries.looks import Looks, left_behind
from aif_dcpc.inference.queries.ranks import RankDiagnostics

# -- verdicts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, is_good, is_settled, is_slow, may_improve",
    [
        ({"r_hat": 1.03}, True, True, False, False),
        ({"r_hat": 1.031}, True, False, False, False),
        ({"r_hat": 1.05}, True, False, False, False),
        ({"r_hat": 1.051}, False, False, True, True),
        ({"r_hat": 2.0}, False, False, True, True),
        ({"r_hat": 2.01}, False, False, False, True),
        ({"share": 0.1}, True, True, False, False),
        ({"share": 0.099}, True, True, True, True),
        ({"lean": 5.0}, True, True, False, False),
        ({"lean": 5.1}, False, False, False, True),
        ({"astray": 0.01}, False, False, True, True),
        ({"stuck": 0.01}, False, False, False, True),
        ({"stuck": 0.01, "share": 0.01}, False, False, False, True),
        ({"heavy": "z", "share": 0.01}, False, False, False, False),
        ({"not_finite": "z", "share": 0.01}, False, False, False, False),
        ({"unseen": 0.2}, False, False, False, False),
        ({"excursion": Excursion("z", 0.1)}, True, True, False, False),
        ({"excursion": Excursion("z", 0.101)}, False, False, False, False),
        ({"excursion": Excursion("z", 0.101, lingers=True)}, False, False, False, True),
        ({"vague": VagueQuantile("z", 0.05, 0.1)}, True, True, False, False),
        ({"vague": VagueQuantile("z", 0.05, 0.101)}, False, False, False, True),
    ],
)
def test_where_a_word_is_due(changes, is_good, is_settled, is_slow, may_improve):
    verdict = replace(GOOD, **changes)
    assert verdict.is_good is is_good
    assert verdict.is_settled is is_settled
    assert verdict.is_slow is is_slow
    assert verdict.may_improve is may_improve
    assert verdict.wants_more is (is_slow or (is_good and not is_settled))


def test_where_most_chains_are_lost_their_disagreement_is_no_cause_of_its_own():
    lost = replace(GOOD, r_hat=1.5, stuck=0.3, astray=0.2)
    assert len(lost.warnings()) == 3
    assert len(replace(lost, astray=0.21).warnings()) == 2


def test_a_drift_is_the_r_hat_of_a_chains_halves():
    """Halves whose means lie two deviations apart: a between-halves variance of two; of white noise, next to none."""
    noise = normals(400, 16)
    noise = noise - noise.unflatten(0, (2, 200)).mean(1).repeat_interleave(200, 0)
    noise = noise / noise.unflatten(0, (2, 200)).std(1).repeat_interleave(200, 0)
    assert own_r_hat(noise) == pytest.approx(1)
    noise[200:] += 2.0
    assert own_r_hat(noise) == pytest.approx(3**0.5)
    assert own_r_hat(100 * torch.arange(16.0) + normals(400, 16)) < 1.01


@pytest.mark.parametrize("drift, remedy", [(0.0, "several modes"), (0.1, "more max_seconds")])
def test_chains_far_apart_that_move_on_are_slow_and_not_in_modes(drift, remedy):
    places = normals(100, 32, 1, 2)
    places[..., 1] += 50 * torch.arange(32.0)[:, None]
    places[..., 1] += drift * torch.arange(100.0)[:, None, None]
    rates = torch.full((32, 1), 0.8)
    found = judge([places], [], normals(100, 32, 1), rates, ["a", "b"])
    assert found.r_hat > 2 and found.site == "b"
    (said,) = found.warnings()
    assert remedy in said


@pytest.mark.parametrize("acceptance, stuck", [(0.11, 0.0), (0.09, 1 / 16)])
def test_a_chain_stands_still_below_a_tenth(acceptance, stuck):
    rates = torch.full((16, 1), 0.8)
    rates[3] = acceptance
    found = judge([normals(100, 16, 1, 1)], [], normals(100, 16, 1), rates, ["z"])
    assert found.stuck == stuck and found.lowest == pytest.approx(acceptance)


@pytest.mark.parametrize("depth, astray", [(2.8, 0.0), (3.3, 1 / 16)])
def test_a_chain_lies_astray_three_deviations_below_the_median(depth, astray):
    heights = normals(4000, 16, 1)
    heights[:, 3] = heights[:, 3] - heights[:, 3].mean()
    spread = (1 + depth**2 * 15 / 256) ** 0.5  # of all, with one chain lower by depth
    for _ in range(30):
        spread = (1 + (depth * spread) ** 2 * 15 / 256) ** 0.5
    heights[:, 3] -= depth * spread
    places = normals(4000, 16, 1, 1)
    found = judge([places], [], heights, torch.full((16, 1), 0.8), ["z"])
    assert found.astray == astray


@pytest.mark.parametrize("chains, known", [(15, False), (16, True)])
def test_sixteen_chains_know_an_error_of_a_mean(chains, known):
    assert (leaning([1 + normals(chains, 1, 1)], 1) != [0.0]) is known


# -- what looks see --------------------------------------------------------------------------------


@pytest.mark.parametrize("height, seen", [(2.9, 0), (3.1, 1)])
def test_a_point_three_nats_above_all_draws_is_looked_at(height, seen, monkeypatch):
    sampler = gaussian_sampler()
    asked = []
    monkeypatch.setattr(unseen, "climb", lambda *given: asked.append(given) or climb(*given))
    monkeypatch.setattr(unseen._Spike, "at", lambda *given: None)
    place = sampler.point.place
    highest = unseen.Highest(place, torch.full((4, 1), height))
    with no_validation(), torch.no_grad():
        assert unseen.unseen_mass(sampler, highest, place[None], torch.zeros(1, 4, 1)) == 0
    assert len(asked) == seen


@pytest.mark.parametrize("looks, told", [(15, False), (16, True)])
def test_sixteen_looks_are_enough_to_tell_that_particles_stay_apart(looks, told):
    apart = torch.arange(4.0)[:, None] * 100
    clouds = [{"z": apart + normals(4, 1, seed=n)} for n in range(looks)]
    found = Looks(0, 1, 200, clouds, [torch.zeros(4, 1)] * looks)
    roles = SimpleNamespace(latent=("z",), circular=frozenset())
    state = SimpleNamespace(num_particles=4, origin="", conditioning=roles)
    assert bool(found.doubts(state)) is told


def test_clusters_of_one_datum_show_beside_another_that_is_wide():
    """Eight chains whose means of the first datum are spread far and evenly, and of the second sit in two places."""
    trace = normals(40, 8, 2)
    trace[:, :, 0] += (
        100 * torch.linspace(-1, 1, 8).double()[torch.tensor([0, 5, 2, 7, 4, 1, 6, 3])]
    )
    assert not is_clustered(trace)
    trace[:, :, 1] += torch.where(torch.arange(8) < 4, 0.0, 9.0)
    assert is_clustered(trace)


def heights_with_one(depth, spread):
    """Sixteen looks at 99 particles of this robust standard deviation, one of which lies deeper in all."""
    quantiles = torch.special.ndtri((torch.arange(99) + 0.5).double() / 99)
    heights = (spread * quantiles).expand(16, 99).clone()
    heights[:, 0] = -depth
    return heights.unsqueeze(-1)


@pytest.mark.parametrize(
    "depth, spread, behind", [(29, 0.1, 0), (31, 0.1, 1), (97, 10.0, 0), (103, 10.0, 1)]
)
def test_thirty_nats_and_ten_deviations_below_the_others_is_behind(depth, spread, behind):
    assert int(left_behind(heights_with_one(depth, spread)).sum()) == behind


@pytest.mark.parametrize("sweeps, bound", [(1, 240.0), (40, 6.0), (160, 1.5), (1000, 1.5)])
def test_shorter_runs_may_disagree_more(sweeps, bound):
    assert Looks(0, 1, sweeps)._bound() == pytest.approx(bound)


@pytest.mark.parametrize(
    "size, rate, said",
    [(100.0, 0.1, 0), (99.9, 0.1, 1), (100.0, 0.0999, 1)],
)
def test_a_hundred_effective_samples_and_a_tenth_accepted_are_enough(size, rate, said):
    found = diagnostics._scarcity({"z": torch.tensor([500.0, size])}, {"z": rate}, None)
    assert len(found) == said
    assert len(diagnostics._scarce_tails({"z": torch.tensor([500.0, size])})) == int(size < 100)


@pytest.mark.parametrize("rate, said", [(1.1e-4, 0), (0.9e-4, 1)])
def test_a_move_in_ten_thousand_is_a_standstill(rate, said):
    info = Info({"z": torch.tensor(rate), "y": torch.tensor(0.5)}, torch.zeros(4, 1))
    found = diagnostics.low_acceptance(info)
    assert len(found) == said and all("'z'" in sentence for sentence in found)


# -- attempts --------------------------------------------------------------------------------------


def attempt(*said, **changes):
    verdict = replace(GOOD, **changes)
    return sampling.Attempt(SimpleNamespace(warnings=said), verdict, [])


def test_of_two_attempts_the_one_with_less_to_say_is_better():
    quiet = attempt("a", r_hat=9.0)
    loud = attempt("a", "b", r_hat=1.0)
    assert sampling.better(quiet, loud) is quiet and sampling.better(loud, quiet) is quiet
    slow = attempt("a", r_hat=1.06)
    apart = attempt("a", r_hat=2.5)
    assert sampling.better(slow, apart) is apart and sampling.better(apart, slow) is apart
    slower = attempt("a", r_hat=1.3)
    assert sampling.better(slow, slower) is slow and sampling.better(slower, slow) is slow


def test_effective_draws_are_counted_by_sweep_and_chain():
    """The worse of the middle and of tails, of the worst number; where there is none, nothing is slow."""
    kept = Kept(torch.zeros(8, 1))
    kept.sweeps = 50
    found = [
        RankDiagnostics(torch.ones(2), torch.tensor([300.0, 90.0]), torch.tensor([80.0, 200.0])),
        RankDiagnostics(torch.ones(1), torch.tensor([500.0]), torch.tensor([500.0])),
    ]
    assert sampling._least_share(found, kept) == pytest.approx(80 / (50 * 8))
    assert sampling._least_share(found[1:], kept) == pytest.approx(500 / (50 * 8))
    assert sampling._least_share([], kept) == math.inf
