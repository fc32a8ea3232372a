"""`P[s]` in kernels, against sums written out particle by particle, and posteriors against enumeration."""

import math

import pytest
import torch
from clouds import agrees
from torch.distributions import Bernoulli, Categorical, Dirichlet, Independent, Normal

from aif_dcpc.inference import DCPC, GraphicalModel, ModelError, every, lag
from aif_dcpc.inference.model.densities import evaluate_all
from aif_dcpc.inference.model.indexing import IndexingCall
from aif_dcpc.inference.model.recording import record

ROWS = torch.tensor([[0.7, 0.3], [0.2, 0.8]])
Y = torch.tensor([[0.3, -1.2, 0.8, 1.9, -0.4], [0.1, 0.5, -2.0, 0.2, 1.1]])


def rows(*shape):
    return Independent(Dirichlet(torch.ones(*shape)), len(shape) - 1)


def normals(*shape):
    return Independent(Normal(torch.zeros(shape), 1.0), len(shape))


def hidden_markov(scope):
    """A chain by a latent table, seen through latent levels; both of one scope."""
    model = GraphicalModel()
    model.add_site("P", lambda: rows(2, 2), scope=scope)
    model.add_site("mu", lambda: normals(2), scope=scope)
    model.add_site(
        "s",
        lambda s, P: Categorical(P[s]),
        parents=[lag("s"), "P"],
        initial=lambda P: Categorical(torch.ones(2)),
        scope="slice",
    )
    model.add_site("y", lambda s, mu: Normal(mu[s], 1.0), parents=["s", "mu"], scope="slice")
    return model


@pytest.mark.parametrize("scope", ["episode", "global"])
def test_a_chain_by_a_latent_table(scope):
    """The log joint, entry by entry."""
    model = hidden_markov(scope)
    engine = DCPC(model, num_particles=3)
    state = engine.init({"y": Y}, seed=0)
    found = {key: v.log_prob for key, v in evaluate_all(state, engine.factor_graph.factors).items()}
    table = state.value("P").expand(3, 2, 2, 2)
    levels = state.value("mu").expand(3, 2, 2)
    s = state.value("s")
    for k in range(3):
        for b in range(2):
            for t in range(5):
                mean = levels[k, b, s[k, b, t]]
                expected = Normal(mean, 1.0).log_prob(Y[b, t])
                assert torch.isclose(found["y"][k, b, t], expected, atol=1e-5)
                if t:
                    expected = table[k, b, s[k, b, t - 1], s[k, b, t]].log()
                    assert torch.isclose(found["s"][k, b, t - 1], expected, atol=1e-4)


def one_by_one(function, values, lead):
    """A function of single particles' values, at every particle, datum and slice."""
    shape = torch.broadcast_shapes(*(v.shape[:lead] for v in values))
    wide = [v.expand(*shape, *v.shape[lead:]).flatten(0, lead - 1) for v in values]
    parts = [function(*(v[i] for v in wide)) for i in range(math.prod(shape))]
    return torch.stack(parts).unflatten(0, shape)


FUNCTIONS = {
    "entry": lambda P, s, w, z: P[s],
    "two indices": lambda P, s, w, z: P[s, w],
    "after each other": lambda P, s, w, z: P[s][w],
    "last axis": lambda P, s, w, z: P[..., s],
    "by dots": lambda P, s, w, z: P[..., s, :],
    "behind a slice": lambda P, s, w, z: P[:, w],
    "with a constant": lambda P, s, w, z: P[s, torch.tensor([2, 0])],
    "elements": lambda P, s, w, z: P[z],
    "elements and an index": lambda P, s, w, z: P[z, w],
    "computed table": lambda P, s, w, z: torch.softmax(1 - 2 * P, -1)[s],
    "computed index": lambda P, s, w, z: P[1 - s, (w + 1).clamp(max=2)],
}


@pytest.mark.parametrize("lead", [2, 3])
@pytest.mark.parametrize("case", list(FUNCTIONS))
def test_indices_are_those_of_every_particle_for_itself(case, lead):
    generator = torch.Generator().manual_seed(0)
    time = (1,) * (lead - 2)
    table = torch.randn(4, 1, *time, 2, 3, generator=generator)
    shape = (4, 5, 6)[:lead]
    s = torch.randint(2, shape, generator=generator)
    w = torch.randint(3, shape, generator=generator)[:1]  # observed
    z = torch.randint(2, (*shape, 7), generator=generator)
    function = FUNCTIONS[case]
    found = IndexingCall(function, lead)(table, s, w, z)
    expected = one_by_one(function, (table, s, w, z), lead)
    assert torch.equal(found.expand(expected.shape), expected)


def test_what_is_gathered_by_hand_stays_so():
    table = torch.randn(4, 5, 3)
    s = torch.randint(3, (4, 5))
    particles = torch.arange(4)[:, None]

    def by_hand(P, s):
        wide = particles.expand_as(s)
        return P[wide, torch.arange(5), s]

    call = IndexingCall(by_hand, 2)
    expected = table.gather(2, s.unsqueeze(-1)).squeeze(-1)
    assert torch.equal(call(table, s), expected)
    assert call.indexes is False
    flat = IndexingCall(lambda P, s: P.flatten(0, 1)[torch.arange(20).view(4, 5), s], 2)
    assert torch.equal(flat(table, s), expected)
    assert torch.equal(IndexingCall(lambda P, s: ROWS[s % 2], 2)(table, s), ROWS[s % 2])
    z = torch.randint(3, (4, 5, 2))
    assert torch.equal(IndexingCall(lambda P, z: z[..., 0], 2)(table, z), z[..., 0])
    assert torch.equal(IndexingCall(lambda P, z: P[:, :, 1], 2)(table, z), table[:, :, 1])


def test_kernels_without_latent_indices_are_called_as_they_are():
    model = hidden_markov("global")
    engine = DCPC(model, num_particles=2)
    engine.run(engine.init({"y": Y}, seed=0), 2)
    found = {f.key: f.kernel.indexes for f in engine.factor_graph.factors}
    assert found["s"] and found["y"] and not found["mu"] and not found["s@initial"]


def test_slices_before_an_index_with_elements_are_refused():
    with pytest.raises(ModelError, match="movedim"):
        IndexingCall(lambda P, z: P[:, z], 2)(torch.zeros(4, 1, 2, 3), torch.zeros(4, 5, 7).long())


def mixture(*, by_a_site):
    """Five points of two levels; these may be picked by a deterministic site."""
    model = GraphicalModel()
    model.add_site("mu", lambda: normals(2))
    model.add_site("z", lambda: Independent(Categorical(torch.tensor([0.3, 0.7]).expand(5, 2)), 1))
    if by_a_site:
        model.add_deterministic("mean", lambda mu, z: mu[z], ["mu", "z"])
        model.add_site("y", lambda m: Independent(Normal(m, 1.0), 1), parents=["mean"])
    else:
        model.add_site("y", lambda mu, z: Independent(Normal(mu[z], 1.0), 1), parents=["mu", "z"])
    return model


def slow_states():
    """States last two slices, as numbers 0.0 and 1.0."""
    model = GraphicalModel()
    model.add_site("mu", lambda: normals(2))
    model.add_site("z", lambda: Bernoulli(torch.tensor(0.7)), scope=every(2))
    model.add_site("y", lambda mu, z: Normal(mu[z.long()], 1.0), parents=["mu", "z"], scope="slice")
    return model


EVERY_POINT = torch.cartesian_prod(*[torch.arange(2)] * 5)
EVERY_OTHER = torch.cartesian_prod(*[torch.arange(2)] * 3)


@pytest.mark.parametrize(
    ("model", "states", "of_slice"),
    [
        (mixture(by_a_site=False), EVERY_POINT, [0, 1, 2, 3, 4]),
        (mixture(by_a_site=True), EVERY_POINT, [0, 1, 2, 3, 4]),
        (slow_states(), EVERY_OTHER, [0, 0, 1, 1, 2]),
    ],
    ids=["mixture", "by a deterministic site", "slow states"],
)
def test_levels_against_enumeration_of_the_states(model, states, of_slice):
    """E mu and E z over all states, levels integrated out."""
    y = Y[0].double()
    z = states[:, of_slice]
    height = torch.where(states == 1, math.log(0.7), math.log(0.3)).double().sum(1)
    levels = []
    for level in range(2):
        inside = (z == level).double()
        precision = 1 + inside.sum(1)
        linear = inside @ y
        height += -0.5 * precision.log() + 0.5 * linear.square() / precision
        levels.append(linear / precision)
    weights = torch.softmax(height, 0)
    engine = DCPC(model, num_particles=16, warmup=60)
    state, _ = engine.run(engine.init({"y": Y[:1].expand(16, 5)}, seed=0), 60)
    _, info = engine.run(state, 200, record=["mu", "z"])
    assert agrees(info.trace["mu"], (weights[:, None] * torch.stack(levels, 1)).sum(0), floor=0.01)
    assert agrees(info.trace["z"], (weights[:, None] * states).sum(0), floor=0.005)


def test_picking_is_recorded():
    """As a graph of operations that holds at other values and indices too."""
    call = IndexingCall(lambda P, s: torch.log_softmax(P, -1)[s].sum(-1), 2)
    table = torch.randn(4, 1, 2, 3)
    s = torch.randint(2, (4, 5))
    call(table, s)
    graph = record(lambda P, s: (call(P, s),), table, s)
    other = torch.randn(4, 1, 2, 3)
    assert torch.equal(graph(other, 1 - s)[0], call(other, 1 - s))
    assert not torch.equal(graph(other, 1 - s)[0], graph(table, s)[0])
