"""CutGraph of the import of Pyro programs: graphs cut to one output, sums over plates, discrete sites drawn within plates."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from clouds import agrees
from torch.fx.experimental.proxy_tensor import make_fx

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.frontends.plated_conditional import onto_plates
from aif_dcpc.inference.frontends.tensor_graphs import REWRITTEN, BatchedGraph, CutGraph, record
from aif_dcpc.inference.moves.user_conditional import UserConditional
from aif_dcpc.inference.queries.evidence import _posterior_trace


def written(a, b):
    """Two outputs: the first needs `a` through a view that is written to, the second needs `b` alone."""
    loc = torch.zeros(3)
    loc[0] = a
    loc.view(3, 1)[2, 0] = 3 * a
    other = torch.ones(2)
    other[1] = b
    return loc * 2, other.sum()


def test_a_part_keeps_what_is_written_through_views():
    graph = make_fx(written)(torch.tensor(1.0), torch.tensor(1.0))
    first, needs = CutGraph(graph)[0]
    assert needs == (0,) and first(torch.tensor(5.0)).tolist() == [10.0, 0.0, 30.0]
    second, needs = CutGraph(graph)[1]
    assert needs == (1,) and second(torch.tensor(5.0)).item() == 6
    assert len(second.graph.nodes) < len(graph.graph.nodes) - 3


def test_a_graph_is_mapped_over_particles_and_data():
    mapped = BatchedGraph(make_fx(lambda a, b: a @ b + 1)(torch.ones(3), torch.ones(3)))
    a = torch.randn(4, 1, 3)
    b = torch.randn(1, 2, 3)
    assert torch.allclose(mapped(a, b), (a * b).sum(-1) + 1)
    assert mapped(a[:1], b[:, :1]).shape == (1, 1)
    assert len(mapped.recorded) == 2 and len(mapped.double().recorded) == 0


def test_random_graphs_draw_for_each_particle_and_datum():
    graph = make_fx(lambda a: a + torch.randn(5))(torch.zeros(5))
    drawn = BatchedGraph(graph, random=True)(torch.zeros(3, 2, 5))
    assert drawn.shape == (3, 2, 5) and drawn.unique().numel() == 30


def test_recordings_hold_no_copies_of_constants_and_no_noise_written_in_place():
    def function(a):
        return (a + torch.tensor([1.0, 2.0]) + torch.empty(2).exponential_(3.0),)

    graph = record(function, [torch.zeros(2)], pure=False, parameters={})
    targets = " ".join(str(node.target) for node in graph.graph.nodes)
    assert "lift_fresh" not in targets and "aten.exponential_" not in targets
    drawn = BatchedGraph(CutGraph(graph)[0][0], random=True)(torch.zeros(3, 2, 2))
    assert drawn.unique().numel() == 12 and (drawn > torch.tensor([1.0, 2.0])).all()


def test_sums_over_the_plates_that_a_site_does_not_have():
    log_prob = torch.randn(2, 3, 4, 5)
    assert torch.allclose(onto_plates(log_prob, ()), log_prob.sum((2, 3)))
    assert torch.allclose(onto_plates(log_prob, (5,)), log_prob.sum(2))
    assert torch.allclose(onto_plates(log_prob, (1, 5)), log_prob.sum(2, keepdim=True))
    assert torch.allclose(onto_plates(log_prob, (4, 1)), log_prob.sum(3, keepdim=True))
    assert torch.equal(onto_plates(log_prob, (4, 5)), log_prob)
    wide = torch.randn(2, 3, 6, 4, 5)
    assert torch.allclose(onto_plates(wide, (5,)), wide.sum((2, 3)))


def families(y):
    """A discrete site per group above a plate of data, and one above everything."""
    kind = pyro.sample("kind", dist.Bernoulli(0.3))
    with pyro.plate("groups", 2, dim=-2):
        which = pyro.sample("which", dist.Categorical(torch.tensor([0.5, 0.3, 0.2])))
        with pyro.plate("members", 3, dim=-1):
            pyro.sample("y", dist.Normal(which + kind, 1.0), obs=y)


def test_discrete_sites_above_plates_by_enumeration():
    y = torch.tensor([[0.0, 1.0, 0.5], [2.0, 3.0, 2.0]])
    model, data = GraphicalModel.from_pyro(families, y)
    copies = 40
    engine = DCPC(model, num_particles=40)
    state = engine.init({n: v.expand(copies, *v.shape[1:]) for n, v in data.items()}, seed=0)
    state, _ = engine.run(state, 15)
    _, info = engine.run(state, 60, record=["kind", "which"])
    levels = torch.arange(3.0)
    prior = torch.tensor([0.5, 0.3, 0.2]).log()
    joint = torch.stack(
        [
            prior + dist.Normal(levels[:, None] + kind, 1.0).log_prob(y[group]).sum(-1)
            for kind in (0.0, 1.0)
            for group in (0, 1)
        ]
    ).unflatten(0, (2, 2))
    evidence = torch.logsumexp(joint, -1).sum(-1) + torch.tensor([0.7, 0.3]).log()
    kind = torch.softmax(evidence, 0)
    assert agrees(info.trace["kind"], kind[1])
    for group in (0, 1):
        expected = (kind[:, None] * torch.softmax(joint[:, group], -1)).sum(0)
        for value in range(3):
            assert agrees(info.trace["which"].flatten(3)[..., group] == value, expected[value])


def coupled(y):
    with pyro.plate("data", 3):
        which = pyro.sample("which", dist.Bernoulli(0.3))
    pyro.sample("total", dist.Normal(which.sum(-1), 0.5), obs=y)


def uncovered(y):
    which = pyro.sample("which", dist.Bernoulli(torch.tensor([0.3, 0.6])).to_event(1))
    pyro.sample("total", dist.Normal(which.sum(-1), 0.5), obs=y)


@pytest.mark.parametrize(
    ("program", "y", "drawn"),
    [
        (families, torch.zeros(2, 3), True),
        (coupled, torch.tensor(1.0), False),
        (uncovered, torch.tensor(1.0), False),
    ],
)
def test_elements_are_drawn_at_once_only_where_nothing_couples_them(program, y, drawn):
    model, _ = GraphicalModel.from_pyro(program, y)
    assert set(model.conditionals) == ({("which",)} if drawn else set())


def coins(y):
    with pyro.plate("coins", 3):
        coin = pyro.sample("coin", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal(2 * coin, 1.0), obs=y)


Y = torch.tensor([0.5, 2.0, 1.5])
PRIOR = math.log(0.3 / 0.7)
# log odds of heads
EVIDENCE = dist.Normal(2.0, 1.0).log_prob(Y) - dist.Normal(0.0, 1.0).log_prob(Y)
SHOWN = torch.tensor([[True, False, True]])
CONDITIONS = {
    "all is seen": ({}, None, PRIOR + EVIDENCE),
    "one datum is hidden": ({"masks": {"y": SHOWN}}, None, PRIOR + EVIDENCE * SHOWN[0]),
    "all is hidden": ({"masks": {"y": torch.tensor([False])}}, None, PRIOR + 0 * EVIDENCE),
    "data are set by hand": ({"do": {"y": Y[None]}}, None, PRIOR + 0 * EVIDENCE),
    "half a likelihood": ({}, 0.5, PRIOR + 0.5 * EVIDENCE),
}


@pytest.mark.parametrize(("setup", "power", "log_odds"), CONDITIONS.values(), ids=CONDITIONS)
def test_plated_draws_count_what_the_state_counts(setup, power, log_odds):
    """Frequencies of 20,000 particles, 5 standard errors: false alarm 2e-6 in all."""
    model, data = GraphicalModel.from_pyro(coins, Y)
    state = DCPC(model, num_particles=20000).init({} if "do" in setup else data, **setup, seed=0)
    state = state.replace(inverse_temperature=None if power is None else torch.tensor([power]))
    drawn, _ = UserConditional(("coin",))(state, torch.Generator().manual_seed(1), adapt=False)
    expected = torch.sigmoid(log_odds)
    error = (expected * (1 - expected) / 20000).sqrt()
    assert ((drawn.values["coin"].mean((0, 1)) - expected).abs() < 5 * error).all()


def test_plated_draws_leave_what_is_known():
    model, _ = GraphicalModel.from_pyro(coins, Y)
    known = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    masks = torch.tensor([True, False])
    engine = DCPC(model, num_particles=2000)
    state = engine.init({"y": Y.expand(2, 3), "coin": known}, masks={"coin": masks}, seed=0)
    drawn, _ = UserConditional(("coin",))(state, torch.Generator().manual_seed(1), adapt=False)
    assert (drawn.values["coin"][:, 0] == known[0]).all()
    expected = torch.sigmoid(PRIOR + EVIDENCE)
    error = (expected * (1 - expected) / 2000).sqrt()
    assert ((drawn.values["coin"][:, 1].mean(0) - expected).abs() < 5 * error).all()
    by_element = model.conditionals["coin",].at(
        state.replace(masks={"coin": SHOWN[None].expand(1, 2, 3)})
    )
    again = by_element(drawn.natural, torch.Generator().manual_seed(2))["coin"]
    assert torch.equal(again[..., 0], drawn.values["coin"][..., 0])
    assert not torch.equal(again[..., 1], drawn.values["coin"][..., 1])


@pytest.mark.parametrize(("wanted", "found"), [(10, 64), (64, 64), (130, 128)])
def test_a_proposal_is_fitted_to_whole_clouds(wanted, found):
    model = GraphicalModel()
    model.add_site("z", lambda: dist.Normal(0.0, 1.0))
    engine = DCPC(model, num_particles=64, warmup=2)
    drawn = _posterior_trace(engine, engine.init(batch_size=2), ["z"], wanted)["z"]
    assert drawn.flatten(0, 1).shape == (found, 2)


def check(drawn, quantiles):
    """Shares below five quantiles, to 5 standard errors."""
    for p in torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95]):
        share = (drawn < quantiles(p)).double().mean()
        assert abs(share - p) < 5 * (p * (1 - p) / len(drawn)) ** 0.5


@pytest.mark.parametrize(
    ("law", "quantiles"),
    [
        (dist.Exponential(4.0), lambda p: -torch.log1p(-p) / 4),
        (dist.Uniform(2.0, 5.0), lambda p: 2 + 3 * p),
        (dist.Cauchy(1.0, 3.0), lambda p: 1 + 3 * torch.tan(math.pi * (p - 0.5))),
        (dist.Normal(1.0, 3.0), lambda p: 1 + 3 * math.sqrt(2) * torch.erfinv(2 * p - 1)),
        (
            dist.LogNormal(1.0, 0.5),
            lambda p: torch.exp(1 + 0.5 * math.sqrt(2) * torch.erfinv(2 * p - 1)),
        ),
    ],
)
def test_draws_of_imported_sites_have_their_quantiles(law, quantiles):
    model, _ = GraphicalModel.from_pyro(lambda: pyro.sample("z", law))
    check(
        DCPC(model, num_particles=20_000).init(batch_size=1, seed=0).particles["z"].flatten(),
        quantiles,
    )


@pytest.mark.parametrize(
    ("name", "arguments", "quantiles"),
    [
        ("exponential_", (4.0,), lambda p: -torch.log1p(-p) / 4),
        ("uniform_", (2.0, 5.0), lambda p: 2 + 3 * p),
        ("uniform_", (), lambda p: p),
        ("cauchy_", (1.0, 3.0), lambda p: 1 + 3 * torch.tan(math.pi * (p - 0.5))),
        ("normal_", (1.0, 3.0), lambda p: 1 + 3 * math.sqrt(2) * torch.erfinv(2 * p - 1)),
    ],
)
def test_noise_written_in_place_has_its_quantiles(name, arguments, quantiles):
    torch.manual_seed(0)
    check(REWRITTEN[name](torch.zeros(20_000), *arguments), quantiles)
