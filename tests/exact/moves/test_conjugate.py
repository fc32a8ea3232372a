"""Dirichlet tables drawn by their counts, against the conjugate posterior and against enumeration."""

import itertools
import math

import pytest
import torch
from torch.distributions import Categorical, Dirichlet, Independent, Normal

from aif_dcpc.inference import DCPC, GraphicalModel, MoveError, lag
from aif_dcpc.inference.moves.conjugate import DirichletTable, look_up
from aif_dcpc.inference.smc.annealing import set_inverse_temperature

PRIOR = torch.tensor([[1.0, 2.0, 0.5], [0.7, 0.7, 3.0], [1.0, 1.0, 1.0]])


def chain(scope="global"):
    model = GraphicalModel()
    model.add_site("P", lambda: Independent(Dirichlet(PRIOR), 1), scope=scope)
    model.add_site(
        "s",
        lambda s, table: Categorical(look_up(table, s)),
        [lag("s"), "P"],
        initial=lambda table: Categorical(torch.ones(3)),
        scope="slice",
    )
    return model


def test_rows_are_looked_up():
    table = torch.rand(2, 1, 1, 3, 4, 5)
    a = torch.randint(3, (2, 6, 7))
    b = torch.randint(4, (2, 6, 7))
    found = look_up(table, a, b)
    expected = torch.stack([table[k, 0, 0][a[k], b[k]] for k in range(2)])
    assert torch.equal(found, expected)


@pytest.mark.parametrize("scope", ["global", "episode"])
def test_tables_given_all_values(scope):
    """Mean and variance of Dirichlet(prior + counts); 5 standard errors of 20,000 draws, 18 entries."""
    values = torch.tensor([[0, 1, 2, 2, 1, 0, 0, 1], [2, 2, 2, 0, 1, 1, 1, 1]])
    engine = DCPC(
        chain(scope), num_particles=20_000, moves={"P": DirichletTable("P", "s", rows=("s",))}
    )
    state, info = engine.run(engine.init({"s": values}, seed=0), 1)
    assert info.acceptance["P"] == 1
    counts = torch.zeros(2, 3, 3)
    for datum, series in enumerate(values.tolist()):
        for before, now in itertools.pairwise(series):
            counts[datum, before, now] += 1
    counts = counts.sum(0, keepdim=True) if scope == "global" else counts
    for datum, count in enumerate(counts):
        exact = Dirichlet(PRIOR + count)
        draws = state.particles["P"][:, datum]
        assert ((draws.mean(0) - exact.mean).abs() < 5 * (exact.variance / len(draws)).sqrt()).all()
        assert ((draws.var(0) / exact.variance - 1).abs() < 0.1).all()


def test_missing_values_are_not_counted():
    model = GraphicalModel()
    model.add_site("p", lambda: Dirichlet(torch.ones(2)), scope="global")
    model.add_site("x", lambda p: Categorical(p), ["p"])
    engine = DCPC(model, num_particles=20_000, moves={"p": DirichletTable("p", "x")})
    data = {"x": torch.tensor([1, 1, 1, 0])}
    masks = {"x": torch.tensor([True, True, False, True])}
    state, _ = engine.run(engine.init(data, masks=masks, seed=0), 1)
    # Beta(3, 2)
    assert abs(state.particles["p"][..., 1].mean() - 3 / 5) < 5 * math.sqrt(0.04 / 20_000)


def one_row(prior, number=46, scope="episode", num_particles=20_000):
    """An engine of so many values x that a table of one row governs."""
    model = GraphicalModel()
    model.add_site("p", lambda: Dirichlet(prior), scope=scope)
    model.add_site(
        "x", lambda p: Categorical(p[..., None, :].expand(*p.shape[:-1], number, -1)), ["p"]
    )
    return DCPC(model, num_particles=num_particles, moves={"p": DirichletTable("p", "x")})


def test_counts_of_a_tempered_likelihood_have_its_power():
    """At power b the table is Dirichlet(prior + b counts); 5 standard errors, a false alarm in 300,000 runs."""
    engine = one_row(torch.ones(3))
    counts = torch.tensor([30, 10, 6])
    values = torch.arange(3).repeat_interleave(counts)
    power = torch.tensor([0.25, 1.0])
    state = engine.init({"x": values.expand(2, -1)}, seed=0)
    state, _ = engine.sweep(set_inverse_temperature(state, power))
    for datum, b in enumerate(power):
        exact = Dirichlet(1 + b * counts)
        draws = state.particles["p"][:, datum]
        assert ((draws.mean(0) - exact.mean).abs() < 5 * (exact.variance / len(draws)).sqrt()).all()


@pytest.mark.parametrize("shape", [(40, 1), (2, 20)])
def test_values_that_are_set_are_not_counted(shape):
    """Set values tell nothing: the table keeps its prior, whose variance is 1 / 18; a false alarm in 500,000 runs."""
    engine = one_row(torch.ones(3), shape[1], "global", 2000)
    is_set = (torch.arange(40) < 30).view(shape)
    state = engine.init(do={"x": torch.zeros(shape, dtype=torch.long)}, masks={"x": is_set}, seed=0)
    state, _ = engine.run(state, 1)
    assert abs(state.particles["p"][..., 0].mean() - 1 / 3) < 5 * (1 / 18 / 2000) ** 0.5


def test_a_table_that_is_known_for_some_data_stays_known():
    engine = one_row(torch.ones(3))
    known = torch.tensor([0.2, 0.3, 0.5]).expand(2, -1)
    data = {"p": known, "x": torch.zeros(2, 46, dtype=torch.long)}
    state = engine.init(data, masks={"p": torch.tensor([True, False])}, seed=0)
    state, _ = engine.run(state, 1)
    p = state.particles["p"]
    assert torch.allclose(p[:, 0], known[0]) and (p[:, 1, 0] > 0.5).all()


def test_rows_of_tiny_counts_are_drawn_at_corners():
    """Dirichlet(.001, .001, .001) has less than 1 % of its mass where no share is above .9."""
    engine = one_row(torch.full((3,), 0.001))
    hidden = torch.zeros(1, 46, dtype=torch.bool)
    data = {"x": torch.zeros(1, 46, dtype=torch.long)}
    state, _ = engine.run(engine.init(data, masks={"x": hidden}, seed=0), 1)
    assert (state.particles["p"].amax(-1) > 0.9).double().mean() > 0.99


def test_tables_and_hidden_values_together():
    """A hidden Markov chain of three slices: the table's posterior mean by enumeration of all paths."""
    model = chain()
    model.add_site("o", lambda s: Normal(s.float(), 0.7), ["s"], scope="slice")
    seen = torch.tensor([[0.3, 1.4, 1.1]])
    total = 0.0
    mean = torch.zeros(3, 3)
    for path in itertools.product(range(3), repeat=3):
        counts = torch.zeros(3, 3)
        for before, now in itertools.pairwise(path):
            counts[before, now] += 1
        alpha = PRIOR + counts
        moments = (
            torch.lgamma(alpha).sum(1) - torch.lgamma(alpha.sum(1)) - torch.lgamma(PRIOR).sum(1)
        ).sum()
        weight = math.exp(
            moments
            + torch.lgamma(PRIOR.sum(1)).sum()
            + Normal(torch.tensor(path).float(), 0.7).log_prob(seen).sum()
        )
        total = total + weight
        mean = mean + weight * alpha / alpha.sum(1, keepdim=True)
    engine = DCPC(model, num_particles=4000, moves={"P": DirichletTable("P", "s", rows=("s",))})
    state, _ = engine.run(engine.init({"o": seen}, seed=0), 20)
    _, info = engine.run(state, 40, record=["P"])
    means = info.trace["P"].mean((0, 2))  # of every particle over the sweeps
    error = means.std(0) / math.sqrt(len(means))
    assert ((means.mean(0) - mean / total).abs() < 5 * error).all()


def test_what_is_no_such_table_is_refused():
    model = GraphicalModel()
    model.add_site("p", lambda: Normal(0.0, 1.0), scope="global")
    model.add_site("x", lambda p: Categorical(logits=torch.stack([p, -p], -1)), ["p"])
    engine = DCPC(model, num_particles=2, moves={"p": DirichletTable("p", "x")})
    with pytest.raises(MoveError, match="expected a Dirichlet kernel, found Normal"):
        engine.run(engine.init({"x": torch.ones(3).long()}, seed=0), 1)
    other = DCPC(chain(), num_particles=2, moves={"P": DirichletTable("P", "s", rows=("t",))})
    with pytest.raises(MoveError, match=r"rows=\('t',\), but 's' reads"):
        other.run(other.init({"s": torch.ones(1, 3).long()}, seed=0), 1)
