"""Discrete chains against enumeration of every path: tables, marginals, normalisers, and draws by total variation.

Sampled frequencies are compared through a chi-square statistic at a false-alarm rate of 1e-6; seeds
are fixed.
"""

from itertools import pairwise

import pytest
import torch
from models import by_table, every_path, hidden_markov
from scipy.stats import chi2
from torch.distributions import Bernoulli, Categorical, Normal
from torch.utils._python_dispatch import TorchDispatchMode

from aif_dcpc.inference import DCPC, GraphicalModel, MoveError, lag
from aif_dcpc.inference.moves import forward_backward as chains
from aif_dcpc.inference.moves.forward_backward import ChainTables, chain_tables

LENGTH = 4
START = torch.tensor([0.5, 0.3, 0.2])
MILD = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.3, 0.3, 0.4]])
SHARP = torch.tensor([[0.998, 0.001, 0.001], [0.001, 0.998, 0.001], [0.001, 0.001, 0.998]])
EMIT = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4]])
DATA = torch.tensor([[0, 2, 1, 1], [2, 2, 0, 1]])
PATHS = torch.cartesian_prod(*[torch.arange(3)] * LENGTH)


def path_probabilities(move, data):
    """p(path, data) for every path of `PATHS`."""
    paths, joint = every_path(START, move, EMIT[:, data])
    assert torch.equal(paths, PATHS)
    return joint.double()


def fits(draws, probabilities):
    """Chi-square test of path frequencies, cells with small expectation pooled."""
    codes = (draws * 3 ** torch.arange(LENGTH - 1, -1, -1)).sum(-1).flatten()
    counts = torch.bincount(codes, minlength=len(PATHS)).double()
    expected = probabilities / probabilities.sum() * counts.sum()
    if counts[expected == 0].any():
        return False
    large = expected >= 10
    counts = torch.cat([counts[large], counts[~large].sum()[None]])
    expected = torch.cat([expected[large], expected[~large].sum()[None]])
    statistic = ((counts - expected).square() / expected.clamp_min(1e-12)).sum()
    return bool(statistic < chi2.ppf(1 - 1e-6, len(expected) - 1))


@pytest.mark.parametrize("move", [MILD, SHARP], ids=["mild", "sharp"])
@pytest.mark.parametrize("scan", [0, 12], ids=["steps", "scan"])
def test_marginals_normaliser_and_draws(move, scan, monkeypatch):
    monkeypatch.setattr(chains, "MAX_SCAN", scan)
    engine = DCPC(hidden_markov(START, move, by_table(EMIT)), num_particles=5000)
    state = engine.init({"o": DATA}, seed=0)
    tables = chain_tables(state, "s")
    found = engine.marginals(state, "s")
    state, _ = engine.run(state, 1)
    for datum in range(2):
        joint = path_probabilities(move, DATA[datum])
        exact = torch.stack(
            [torch.stack([joint[PATHS[:, t] == m].sum() for t in range(LENGTH)]) for m in range(3)],
            -1,
        )
        assert torch.allclose(found[0, datum].double(), exact / joint.sum(), atol=1e-5)
        assert torch.allclose(
            tables.log_normaliser()[0, datum].double(), joint.sum().log(), atol=1e-5
        )
        assert fits(state.particles["s"][:, datum], joint)
        assert not fits(state.particles["s"][:, datum], path_probabilities(EMIT, DATA[datum]))


def sharp_chain(length):
    """Two values that change once in a hundred steps, without evidence."""
    move = torch.tensor([[0.99, 0.01], [0.01, 0.99]]).log().expand(1, 1, length - 1, 2, 2)
    return ChainTables(torch.zeros(1, 1, length, 2), move)


class Counted(TorchDispatchMode):
    """Counts the operations on tensors."""

    number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += 1
        return function(*args, **(kwargs or {}))


def test_draws_of_long_chains_need_few_operations():
    """A prefix scan: as many more for each doubling of the length, not twice as many."""
    numbers = []
    for length in (64, 128, 256, 512):
        with Counted() as counted:
            sharp_chain(length).sample(3, 1, torch.Generator().manual_seed(0))
        numbers.append(counted.number)
    more = [after - before for before, after in pairwise(numbers)]
    assert more[0] > 0 and more == [more[0]] * 3
    assert numbers[-1] < 512


def test_draws_of_long_chains_change_as_often_as_they_should():
    """300 slices: neighbours differ once in a hundred times, and either value is as likely as the other."""
    paths = sharp_chain(300).sample(2000, 1, torch.Generator().manual_seed(0))
    changes = (paths.diff(dim=-1) != 0).double().mean()
    assert abs(changes - 0.01) < 5 * (0.01 * 0.99 / (2000 * 299)) ** 0.5
    assert abs(paths.double().mean() - 0.5) < 5 * 0.5 / 2000**0.5


def test_switching_linear_system_against_enumeration():
    """Given the continuous path, every regime path is enumerated; sweeps of both sites keep the joint posterior."""
    move = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    slopes = torch.tensor([0.9, -0.5])
    noise = torch.tensor([0.3, 1.0])
    start = torch.tensor([0.5, 0.5])
    length = 3
    data = torch.tensor([0.5, -1.0, 1.5])
    model = GraphicalModel()
    model.add_site(
        "r",
        lambda r: Categorical(move[r]),
        parents=[lag("r")],
        initial=lambda: Categorical(start),
        scope="slice",
    )
    model.add_site(
        "z",
        lambda z, r: Normal(slopes[r] * z, noise[r]),
        parents=[lag("z"), "r"],
        initial=lambda r: Normal(0.0, noise[r]),
        scope="slice",
    )
    model.add_site("o", lambda z: Normal(z, 0.5), parents=["z"], scope="slice")
    paths = torch.cartesian_prod(*[torch.arange(2)] * length)
    weights = []
    means = []
    for path in paths:
        prior = start[path[0]] * move[path[0], path[1]] * move[path[1], path[2]]
        dynamics = torch.eye(3) - torch.diag(slopes[path[1:]], -1)
        covariance = (
            torch.linalg.inv(dynamics) @ torch.diag(noise[path] ** 2) @ torch.linalg.inv(dynamics).T
        )
        seen = covariance + 0.25 * torch.eye(3)
        weights.append(
            prior.log()
            + torch.distributions.MultivariateNormal(torch.zeros(3), seen).log_prob(data)
        )
        means.append(covariance @ torch.linalg.solve(seen, data))
    posterior = torch.stack(weights).softmax(0)
    copies = 40
    # heavier-tailed than the default's proposal
    engine = DCPC(model, num_particles=32, moves={"z": "mala"})
    state, _ = engine.run(engine.init({"o": data.expand(copies, -1)}, seed=0), 60)
    _, info = engine.run(state, 200, record=["r", "z"])
    for path, probability in zip(paths, posterior, strict=True):
        found = (info.trace["r"] == path).all(-1).double().mean((0, 1))
        assert abs(found.mean() - probability) < 5 * found.std() / copies**0.5 + 1e-3
    found = info.trace["z"].double().mean((0, 1))
    expected = (posterior[:, None] * torch.stack(means)).sum(0)
    assert ((found.mean(0) - expected).abs() < 5 * found.std(0) / copies**0.5 + 1e-3).all()


def test_marginals_of_sites_that_are_no_chain():
    model = GraphicalModel()
    model.add_site("c", lambda: Categorical(torch.tensor([0.7, 0.3])))
    model.add_site("f", lambda: Bernoulli(torch.tensor([0.2, 0.6])))
    means = torch.tensor([0.0, 2.0])
    model.add_site("x", lambda c, f: Normal(means[c] + f.sum(-1), 1.0), parents=["c", "f"])
    engine = DCPC(model, num_particles=50)
    state = engine.init({"x": torch.tensor([1.5])}, seed=0)
    c = state.particles["c"]
    f = state.particles["f"]
    found = engine.marginals(state, "c")
    weight = (
        torch.tensor([0.7, 0.3])
        * Normal(means + f.sum(-1, keepdim=True), 1.0).log_prob(torch.tensor(1.5)).exp()
    )
    assert found.shape == (50, 1, 2)
    assert torch.allclose(found, weight / weight.sum(-1, keepdim=True), atol=1e-5)
    found = engine.marginals(state, "f")
    assert found.shape == (50, 1, 2, 2)
    levels = means[c] + f[..., 1]
    one = 0.2 * Normal(levels + 1, 1.0).log_prob(torch.tensor(1.5)).exp()
    zero = 0.8 * Normal(levels, 1.0).log_prob(torch.tensor(1.5)).exp()
    assert torch.allclose(found[:, :, 0, 1], one / (one + zero), atol=1e-5)


def test_shown_slices_are_certain():
    model = hidden_markov(START, MILD, by_table(EMIT))
    model.add_site("e", lambda s: Normal(s.float(), 1.0), parents=["s"], scope="slice")
    shown = torch.tensor([[True, False, True, False]])
    engine = DCPC(model, num_particles=3000)
    data = {"s": torch.tensor([[1, 0, 2, 0]]), "o": DATA[:1], "e": torch.zeros(1, LENGTH)}
    state = engine.init(data, masks={"s": shown}, seed=0)
    kept = (PATHS[:, 0] == 1) & (PATHS[:, 2] == 2)
    joint = (
        path_probabilities(MILD, DATA[0])
        * Normal(PATHS.double(), 1.0).log_prob(torch.tensor(0.0)).sum(1).exp()
        * kept
    )
    exact = torch.stack(
        [torch.stack([joint[PATHS[:, t] == m].sum() for t in range(LENGTH)]) for m in range(3)], -1
    )
    assert torch.allclose(
        engine.marginals(state, "s")[0, 0].double(), exact / joint.sum(), atol=1e-5
    )
    state, _ = engine.run(state, 1)
    assert fits(state.particles["s"][:, 0], joint)


def test_only_chains_of_lag_one_have_tables():
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Categorical(MILD[s]),
        parents=[lag("s", 2)],
        initial=lambda: Categorical(START),
        scope="slice",
    )
    with pytest.raises(MoveError, match="needs a site with chain"):
        DCPC(model, moves={"s": "ffbs"}).run(DCPC(model).init(length=5), 1)
    engine = DCPC(model)
    state = engine.init(length=6)
    with pytest.raises(MoveError, match="lags of at most 1"):
        chain_tables(state, "s")
    assert torch.allclose(engine.marginals(state, "s").sum(-1), torch.ones(16, 1, 6))
