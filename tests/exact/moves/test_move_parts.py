"""Parts of moves against their formulas: proposals and their ratios, jump processes, chunks, exact draws at step 1."""

import math
from dataclasses import replace

import pytest
import torch
from clouds import agrees
from torch.distributions import Independent, MultivariateNormal, Normal, Poisson

from aif_dcpc.inference import DCPC, GraphicalModel, every, lag
from aif_dcpc.inference.moves import discrete
from aif_dcpc.inference.moves.chunks import Chunks
from aif_dcpc.inference.moves.discrete import DiscreteLangevin, _choose, _transition
from aif_dcpc.inference.moves.independence import MixtureProposal, _log_mixture
from aif_dcpc.inference.moves.proposals import LIMIT, PROPOSALS

STEP = torch.tensor(0.4)


# -- gradient proposals ----------------------------------------------------------------------------


def law(kind, w):
    """Density of u given w."""
    if kind == "ou":
        return lambda u: Normal(STEP * w, (STEP * (2 - STEP)).sqrt()).log_prob(u).sum(-1)
    if kind == "mala":
        return lambda u: (
            Normal(STEP * w.clamp(-LIMIT, LIMIT), (2 * STEP).sqrt()).log_prob(u).sum(-1)
        )
    base = Normal(0.0, (2 * STEP).sqrt())
    return lambda u: (math.log(2) + base.log_prob(u) + torch.nn.functional.logsigmoid(u * w)).sum(
        -1
    )


@pytest.mark.parametrize("kind", PROPOSALS)
def test_ratios_are_those_of_the_laws(kind):
    generator = torch.Generator().manual_seed(0)
    u, w, new_w = (3 * torch.randn(4, 2, 3, 2, generator=generator).double() for _ in range(3))
    expected = law(kind, new_w)(-u) - law(kind, w)(u)
    assert torch.allclose(
        PROPOSALS[kind].log_ratio(u, w, new_w, PROPOSALS[kind].constants(STEP)), expected, atol=1e-4
    )


@pytest.mark.parametrize("kind", PROPOSALS)
def test_draws_follow_the_laws(kind):
    """E over draws of f / p is the integral of f: one, for a Gaussian f whose mean is told by w."""
    w = torch.tensor([-1.5, 0.7]).double().expand(100_000, 1, 1, 2)
    u = PROPOSALS[kind].draw(w, PROPOSALS[kind].constants(STEP), torch.Generator().manual_seed(0))
    for mean in (-0.5, 0.5):
        ratio = (Normal(mean, 0.6).log_prob(u).sum(-1) - law(kind, w)(u)).exp()
        assert abs(ratio.mean() - 1) < 5 * ratio.std() / len(ratio) ** 0.5 < 0.1


def linear(lags=1, size=2, slow=False):
    """A linear-Gaussian series, maybe under a slow level."""
    model = GraphicalModel()
    if slow:
        model.add_site("c", lambda: Independent(Normal(torch.zeros(size), 1.0), 1), scope=every(2))
    turn = 0.5 * torch.tensor([[1.0, 0.4, 0.0], [-0.4, 1.0, 0.1], [0.0, -0.1, 1.0]])[:size, :size]

    def step(*before):
        mean = before[-1] if slow else 0.0
        for number, value in enumerate(before[:lags]):
            mean = mean + value @ turn.T / (1 + number)
        return Independent(Normal(mean, 0.5), 1)

    def first(*before):
        return Independent(Normal(before[0] if before else torch.zeros(size), 1.0), 1)

    parents = [lag("s", number + 1) for number in range(lags)] + ["c"] * slow
    model.add_site("s", step, parents, initial=first, scope="slice")
    model.add_site("o", lambda s: Independent(Normal(s, 0.7), 1), ["s"], scope="slice")
    return model


@pytest.mark.parametrize(
    ("lags", "window", "length", "slow"),
    [
        (1, 1, 7, False),
        (1, 3, 8, False),
        (1, 16, 5, False),
        (2, 2, 9, False),
        (2, 1, 6, False),
        (1, 2, 7, True),
    ],
)
def test_linear_gaussian_chunks_are_drawn_exactly_at_step_one(lags, window, length, slow):
    """The learned precision of every chunk is right: proposals at step 1 are draws of its conditional, always accepted."""
    engine = DCPC(linear(lags, slow=slow), num_particles=64, window=window, warmup=40)
    data = torch.randn(4, length, 2, generator=torch.Generator().manual_seed(0))
    state, _ = engine.run(engine.init({"o": data}, seed=0), 40)
    exact = {
        name: replace(learned, log_steps={key: torch.zeros(()) for key in learned.log_steps})
        for name, learned in state.adaptation.items()
    }
    state = state.replace(adaptation=exact)
    for move in (*engine.schedule(state).moves(0), *engine.schedule(state).moves(2)):
        before = state
        state, accepted = move(state, engine.generator, adapt=False)
        # the curvature of a slower site is an average: its first value has other children than the
        # rest
        assert accepted > (0.99 if move.site == "s" else 0.7)
        assert (state.values[move.site] != before.values[move.site]).any()


def test_a_static_site_is_drawn_exactly_at_step_one():
    model = GraphicalModel()
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]])
    model.add_site("z", lambda: MultivariateNormal(torch.zeros(2), covariance))
    model.add_site("x", lambda z: Normal(z[..., 0] - z[..., 1], 0.3), ["z"])
    engine = DCPC(model, num_particles=64)
    state, _ = engine.run(engine.init({"x": torch.ones(20)}, seed=0), 50)
    exact = replace(
        state.adaptation["z"],
        log_steps={key: torch.zeros(()) for key in state.adaptation["z"].log_steps},
    )
    state = state.replace(adaptation={"z": exact}, sweeps=50)
    state, info = engine.run(state, 1, adapt=False)
    assert info.acceptance["z"] > 0.99
    precision = covariance.inverse() + torch.tensor([[1.0, -1], [-1, 1]]) / 0.09
    mean = precision.inverse() @ torch.tensor([1.0, -1.0]) / 0.09
    draws = state.values["z"].flatten(0, 1)  # 1280 independent draws
    deviation = precision.inverse().diagonal().sqrt()
    assert ((draws.mean(0) - mean).abs() < 5 * deviation / 1280**0.5).all()
    scaled = (torch.cov(draws.T) - precision.inverse()) / (deviation[:, None] * deviation)
    assert scaled.abs().max() < 5 * (2 / 1280) ** 0.5


# -- chunks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "width", "gap", "phase"), [(7, 2, 1, 0), (7, 2, 1, 2), (9, 3, 2, 4), (5, 1, 1, 1)]
)
def test_chunks_by_enumeration(length, width, gap, phase):
    chunks = Chunks.fit(length, width, gap, phase)
    places = [(t + phase) % (width + gap) for t in range(length)]
    numbers = [(t + phase) // (width + gap) for t in range(length)]
    assert chunks.free(torch.device("cpu")).tolist() == [p < width for p in places]
    assert chunks.count == numbers[-1] + 1 and chunks.padded == chunks.count * (width + gap)
    flags = torch.arange(chunks.count)[:, None] % 2 == 0
    assert chunks.spread(flags)[0].tolist() == [n % 2 == 0 for n in numbers]
    series = torch.arange(1.0, length + 1)
    padded = torch.zeros(1, 1, chunks.padded)
    padded[0, 0, phase : phase + length] = series
    sums = [
        sum(float(series[t]) for t in range(length) if numbers[t] == n) for n in range(chunks.count)
    ]
    assert chunks.sum(padded)[:, 0].tolist() == sums
    joined = chunks.join(chunks.cut(padded.unsqueeze(-1)))[0, :, 0]
    assert joined.tolist() == [float(series[t]) if places[t] < width else 0 for t in range(length)]


def test_a_short_series_is_one_chunk():
    assert Chunks.fit(4, 4, 1, 3) == Chunks(4, 4, 0)
    assert Chunks.fit(5, 4, 1, 8) == Chunks(5, 4, 1, 3)


# -- jumps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [-2.0, 0.0, 1.0])
@pytest.mark.parametrize("time", [0.2, 1.0])
def test_jumps_follow_the_matrix_exponential(slope, time):
    """Rates exp(+-slope / 2) to neighbours, offsets below -2 forbidden, run for 4 mean holding times of the fastest."""
    inside = torch.tensor([False, True, True, True, True, True, True])
    rates = torch.zeros(7, 7).double()
    for i in range(7):
        for j, rate in ((i + 1, math.exp(slope / 2)), (i - 1, math.exp(-slope / 2))):
            if 0 <= j < 7 and inside[j]:
                rates[i, j] = rate
    fastest = rates[1:].sum(1).max()
    generator = (rates - torch.diag(rates.sum(1))) * time * 4 / fastest
    expected = torch.matrix_exp(generator)[3]
    found = _transition(torch.tensor([slope]).double(), inside[None], torch.tensor(time).double())[
        0
    ]
    assert abs(found.sum() - 1) < 1e-6 and found[0] == 0
    assert (found - expected).abs().max() < 0.06 * time  # 16 steps of Euler's method over `time`


def test_places_are_drawn_by_their_rows():
    rows = torch.tensor([0.1, 0.0, 0.6, 0.3]).expand(40_000, 4) * 2.0
    found = _choose(rows, torch.Generator().manual_seed(0))
    shares = torch.bincount(found, minlength=4) / 40_000
    assert shares[1] == 0
    assert ((shares - rows[0] / 2).abs() < 5 * 0.5 / 200).all()


def test_jumps_stay_within_bounds_and_reach():
    model = GraphicalModel()
    model.add_site("n", lambda: Poisson(torch.full((3,), 1.5)))
    engine = DCPC(model, num_particles=500)
    state = engine.init(batch_size=4, seed=0)
    moved, accepted = DiscreteLangevin("n")(state, engine.generator, adapt=True)
    jumps = moved.values["n"] - state.values["n"]
    assert (moved.values["n"] >= 0).all() and jumps.abs().max() <= discrete.REACH
    assert (jumps != 0).any() and 0.2 < accepted <= 1
    assert set(moved.adaptation["n"].updates.values()) == {1}


# -- banks -----------------------------------------------------------------------------------------


def test_mixtures_of_a_bank():
    centres = torch.tensor([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]])
    scale = torch.tensor([0.3, 2.0])
    x = torch.randn(4, 2, 1, 2, generator=torch.Generator().manual_seed(0))
    components = torch.stack([Normal(c, scale).log_prob(x).sum(-1) for c in centres], -1)
    expected = torch.logsumexp(components, -1) - math.log(3)
    constant = math.log(2 * math.pi) + scale.log().sum()
    assert torch.allclose(_log_mixture(x, centres, scale), expected + constant, atol=1e-4)


def test_proposals_from_a_bank_of_vectors_are_exact():
    """A two-dimensional posterior from a bank that covers it badly; 5 standard errors over 64 copies."""
    model = GraphicalModel()
    model.add_site("z", lambda: Independent(Normal(torch.zeros(2), torch.tensor([1.0, 2.0])), 1))
    model.add_site("x", lambda z: Normal(z.sum(-1), 1.0), ["z"])
    engine = DCPC(model, num_particles=32)
    state = engine.init({"x": torch.full((64,), 2.0)}, seed=0)
    bank = torch.tensor([[0.0, 0.0], [1.0, 3.0], [-1.0, 2.0], [0.5, -1.0]])
    move = MixtureProposal("z", bank, bandwidth=0.8)
    kept = []
    for _ in range(150):
        state, _ = move(state, engine.generator, adapt=False)
        kept.append(state.values["z"])
    trace = torch.stack(kept)[30:].double()
    covariance = (torch.diag(torch.tensor([1.0, 0.25])) + 1).inverse()
    mean = covariance @ torch.tensor([2.0, 2.0])
    for i in range(2):
        for moment, expected in (
            (trace[..., i], mean[i]),
            (trace[..., i] ** 2, mean[i] ** 2 + covariance[i, i]),
        ):
            assert agrees(moment, expected, floor=0)
    moved = (torch.stack(kept[1:]) != torch.stack(kept[:-1])).any(-1).double().mean()
    assert 0.2 < moved < 0.9


def test_draws_from_a_bank_lie_around_its_values():
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1e3))  # flat: nearly everything is accepted
    engine = DCPC(model, num_particles=4000)
    state = engine.init(batch_size=1, seed=0).with_values({"z": torch.zeros(4000, 1)})
    bank = torch.tensor([-10.0, 0.0, 10.0])
    moved, accepted = MixtureProposal("z", bank, bandwidth=0.01)(
        state, engine.generator, adapt=False
    )
    drawn = moved.values["z"].flatten()
    near = [(drawn - b).abs() < 1 for b in bank]
    assert accepted > 0.7 and torch.stack(near).any(0).all()
    spread = (drawn[near[2]] - 10).std() / (bank.std() * 0.01)
    assert abs(spread - 1) < 5 * (0.5 / int(near[2].sum())) ** 0.5
    assert abs(near[2].double().mean() - 1 / 3) < 0.06
