"""Discrete sites summed out and drawn by elimination, against enumeration and a forward filter."""

from itertools import product

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Normal

from aif_dcpc.experiments.evidence.models import ASIA, ASIA_PARENTS, asia
from aif_dcpc.inference import DCPC, GraphicalModel, lag
from aif_dcpc.inference.model.elimination import eliminate, largest_table, obstacle

NUMBER = 20_000


def row(point, name):
    return sum(point[p] * 2**i for i, p in enumerate(reversed(ASIA_PARENTS[name])))


def test_asia_by_enumeration():
    """The sum to 1e-6; shares of exact draws within 5 of their standard errors (a false alarm in 300,000)."""
    known = asia()
    state = DCPC(known.model, num_particles=NUMBER).init(known.data, seed=0)
    found = eliminate(state, set("astlbe"))
    own, shared = found.log_normaliser()
    assert own.shape == (NUMBER, 1) and shared.shape == (NUMBER, 1)
    assert float(own[0] + shared[0]) == pytest.approx(known.log_evidence, abs=1e-6)
    weights = {}
    for values in product((0, 1), repeat=6):
        point = dict(zip("astlbe", values, strict=True), x=1, d=1)
        chance = 1.0
        for name in ASIA_PARENTS:
            one = ASIA[name][row(point, name)]
            chance *= one if point[name] else 1 - one
        weights[values] = chance
    total = sum(weights.values())
    drawn = found.sample(torch.Generator().manual_seed(0))
    pairs = [("t", "l"), ("e", "b"), ("s", "l")]
    for one, other in pairs:
        i = "astlbe".index(one)
        j = "astlbe".index(other)
        exact = sum(w for v, w in weights.items() if v[i] and v[j]) / total
        share = float((drawn[one] * drawn[other]).double().mean())
        assert abs(share - exact) < 5 * (exact * (1 - exact) / NUMBER) ** 0.5 + 1e-9
    assert ((drawn["t"] + drawn["l"] > 0) == (drawn["e"] > 0)).all()  # the gate, without exception


def hidden_chain(start, move, emit):
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Categorical(move[s.long()]),
        [lag("s")],
        initial=lambda: Categorical(start),
        scope="slice",
    )
    model.add_site("o", lambda s: Categorical(emit[s.long()]), ["s"], scope="slice")
    return model


def test_a_chain_by_its_filter():
    start = torch.tensor([0.5, 0.5, 0.0])
    move = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4]])
    emit = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]])
    o = torch.randint(2, (2, 30), generator=torch.Generator().manual_seed(0))
    state = DCPC(hidden_chain(start, move, emit), num_particles=2).init({"o": o}, seed=0)
    message = start.double().expand(2, 3)
    exact = torch.zeros(2).double()
    for t in range(30):
        message = (message @ move.double() if t else message) * emit.double()[:, o[:, t]].T
        exact += message.sum(1).log()
        message = message / message.sum(1, keepdim=True)
    own, _ = eliminate(state, {"s"}).log_normaliser()
    assert torch.allclose(own[0], exact, atol=1e-5)
    assert largest_table(state, {"s"}) == 9
    drawn = eliminate(state, {"s"}).sample(torch.Generator().manual_seed(0))["s"]
    assert drawn.shape == (2, 2, 30)
    assert (move[drawn[..., :-1].long(), drawn[..., 1:].long()] > 0).all()


def test_impossible_data_have_no_evidence():
    still = hidden_chain(
        torch.tensor([0.5, 0.5, 0.0]), torch.eye(3), torch.tensor([[1.0, 0], [0, 1], [0, 1]])
    )
    o = torch.tensor([[0, 1, 0], [0, 0, 0], [1, 1, 1]])
    found = DCPC(still).log_evidence({"o": o}, seed=0)
    assert found.tolist() == [-torch.inf, *[pytest.approx(-0.693147, abs=1e-5)] * 2]


def test_a_global_switch_is_summed_after_all_data():
    """log of .3 prod p(x | 1) + .7 prod p(x | 0), with a switch of each datum's own in between."""
    table = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    model = GraphicalModel()
    model.add_site("g", lambda: Bernoulli(torch.tensor(0.3)), scope="global")
    model.add_site("z", lambda g: Bernoulli(table[g.long(), 1]), ["g"])
    model.add_site("x", lambda z: Normal(2 * z, 1.0), ["z"])
    x = torch.tensor([0.0, 1.0, 2.5])
    density = Normal(torch.tensor([0.0, 2.0]), 1.0).log_prob(x[:, None]).exp()  # (B, z)
    each = (table[:, None] * density).sum(-1).log().sum(1)  # (g,)
    exact = torch.logsumexp(each + torch.tensor([0.7, 0.3]).log(), 0)
    found = DCPC(model).log_evidence({"x": x}, seed=0)
    assert found.shape == (1,) and float(found) == pytest.approx(float(exact), abs=1e-5)


def test_wide_tables_are_refused():
    model = GraphicalModel()
    names = [f"b{i}" for i in range(5)]
    for name in names:
        model.add_site(name, lambda: Bernoulli(torch.tensor(0.5)))
    model.add_site("x", lambda *b: Normal(sum(b), 1.0), names)
    state = DCPC(model).init({"x": torch.zeros(1)}, seed=0)
    assert obstacle(state, set(names)) == ""
    assert "a table of 32 values (at most 31)" in obstacle(state, set(names), 31)
    assert "no small table" in obstacle(
        state.replace(values={**state.values, "b0": torch.zeros(1, 1, 4)}), {"b0"}
    )


def test_shown_values_are_kept():
    known = asia()
    shown = {"s": torch.tensor([True])}
    data = {**known.data, "s": torch.tensor([1.0])}
    engine = DCPC(known.model)
    masked = engine.log_evidence(data, masks=shown, seed=0)
    assert torch.allclose(masked, engine.log_evidence(data, seed=0))
