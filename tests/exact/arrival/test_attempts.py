"""How `sample` shares out its time: a clock that stands, and verdicts that are given."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.arrival import sample as sampling
from aif_dcpc.inference.arrival.judge import Verdict
from aif_dcpc.inference.arrival.kept import Kept
from aif_dcpc.inference.errors import ConvergenceWarning

GOOD = Verdict(1.0, "", 0.0, 0.0, 0.8, torch.zeros(0))
SLOW = replace(GOOD, r_hat=1.2, site="z")
MODES = replace(GOOD, r_hat=9.0, site="z")


def gaussian(charts=1):
    model = GraphicalModel()
    model.add_site("m", lambda: Normal(0.0, 1.0))
    if charts == 2:
        model.add_site("z", lambda m: Normal(m, 1.0), ["m"])
    model.add_site("x", lambda z: Normal(z, 1.0), ["m" if charts == 1 else "z"])
    return model, {"x": torch.zeros(1)}


def coin():
    model = GraphicalModel()
    model.add_site("z", lambda: Bernoulli(0.5))
    model.add_site("x", lambda z: Normal(z, 1.0), ["z"])
    return model, {"x": torch.zeros(1)}


@pytest.fixture
def asked(monkeypatch):
    """What is asked of warming up and of drawing, at 100 s by the clock; draws are a few."""
    found = SimpleNamespace(warm=[], drawn=[], moves=[])
    monkeypatch.setattr(sampling, "time", SimpleNamespace(process_time=lambda: 100.0))

    def warm_up(sampler, deadline, **_):
        found.warm.append(deadline)
        found.moves.append([(m.length, m.most_steps, m.target) for m in sampler.moves])
        return 7

    def draw(sampler, deadline, *, patient):
        found.drawn.append((deadline, patient))
        kept = Kept(torch.zeros_like(sampler.point.log_prob))
        for _ in range(8):
            kept.sweep(sampler)
        return kept, kept.verdict(sampler.block)

    monkeypatch.setattr(sampling, "warm_up", warm_up)
    monkeypatch.setattr(sampling, "_draw", draw)
    return found


def sampled(monkeypatch, verdict, build=gaussian):
    model, data = build()
    monkeypatch.setattr(Kept, "verdict", lambda kept, block: verdict)
    monkeypatch.setattr(Verdict, "with_ranks", lambda self, ranks: self)
    monkeypatch.setattr(sampling, "_least_share", lambda found, kept: 1.0)
    return DCPC(model).sample(data, seed=0, num_particles=4, max_seconds=7.0)


def test_a_good_attempt_is_the_only_one(asked, monkeypatch):
    """Half of the time at most for warming up; whoever may try again is not patient."""
    draws = sampled(monkeypatch, GOOD)
    assert asked.warm == [103.5] and asked.drawn == [(107.0, False)]
    assert draws.warmup_sweeps == 7


@pytest.mark.parametrize("verdict, target", [(SLOW, 0.8), (MODES, 0.95)], ids=["slow", "modes"])
def test_a_second_attempt_has_as_much_time_again(verdict, target, asked, monkeypatch):
    """Four times as long, up to 64 steps, and smaller ones where chains are not merely slow."""
    with pytest.warns(ConvergenceWarning):
        draws = sampled(monkeypatch, verdict)
    assert asked.warm == [103.5, 107.0] and asked.drawn == [(107.0, False), (114.0, True)]
    assert draws.warmup_sweeps == 14
    ((before,), (after,)) = asked.moves
    assert after == (pytest.approx(4 * before[0]), 64, target) and before[2] == 0.8


def test_where_nothing_is_continuous_there_is_one_patient_attempt(asked, monkeypatch):
    with pytest.warns(ConvergenceWarning):
        sampled(monkeypatch, MODES, coin)
    assert asked.warm == [103.5] and asked.drawn == [(107.0, True)]


@pytest.mark.parametrize(
    "charts, chains, expected", [(1, 128, 100), (2, 128, 200), (1, 32, 200), (1, 16, 400)]
)
def test_good_draws_are_a_hundred_for_each_chart_and_6400_in_all(
    charts, chains, expected, monkeypatch
):
    model, data = gaussian(charts)
    monkeypatch.setattr(Kept, "verdict", lambda kept, block: GOOD)
    monkeypatch.setattr(sampling, "warm_up", lambda *given, **_: 0)
    draws = DCPC(model).sample(data, seed=0, num_particles=chains)
    assert draws.num_draws == expected
