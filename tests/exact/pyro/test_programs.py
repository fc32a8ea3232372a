"""Pyro programs as people write them: indices by latents, modules, masks, sequential plates, reading the data.

Densities against Pyro's own; posteriors against enumeration and conjugate formulas, within 5 Monte
Carlo standard errors from independent clouds (see `clouds.agrees`); seeds are fixed.
"""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from clouds import agrees, imported_posterior
from pyro.nn import PyroModule, PyroSample
from pyro.ops.indexing import Vindex
from torch.nn.functional import one_hot

from aif_dcpc.inference import DCPC, GraphicalModel, ModelError

INITIAL = torch.tensor([0.5, 0.3, 0.2])
TRANSITION = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.3, 0.3, 0.4]])
LEVELS = torch.tensor([-1.0, 0.5, 2.0])
TABLE = torch.arange(24.0).reshape(2, 3, 4).sin()


def hidden_markov(y):
    state = pyro.sample("s0", dist.Categorical(INITIAL))
    for t in pyro.markov(range(len(y))):
        state = pyro.sample(f"s{t}", dist.Categorical(TRANSITION[state])) if t else state
        pyro.sample(f"y{t}", dist.Normal(LEVELS[state], 1.0), obs=y[t])


def indices(y):
    """Every way to index with a latent number: alone, first, last, after an ellipsis, from the end, in a pair."""
    i = pyro.sample("i", dist.Bernoulli(0.4)).long()
    j = pyro.sample("j", dist.Categorical(INITIAL))
    means = [
        TABLE[i].sum(),
        TABLE[:, j][0, 1],
        TABLE[..., j],
        TABLE[i - 2, 1:, 2],
        TABLE[0, j, i],
        TABLE[None, i, j],
    ]
    means += [
        TABLE[i, [0, 1], 1:3].sum(),
        TABLE[:, torch.tensor([True, False, True]), j].sum(),
        TABLE[i][j],
    ]
    means += [Vindex(TABLE)[i, j, 1], Vindex(TABLE)[..., i, j, :], one_hot(j, 3).float()]
    for place, mean in enumerate(means):
        pyro.sample(
            f"y{place}", dist.Normal(mean, 1.0).to_event(mean.ndim), obs=torch.zeros(mean.shape)
        )


def written(y):
    """A latent number says where to write."""
    i = pyro.sample("i", dist.Categorical(INITIAL))
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    mean = torch.zeros(3, 2)
    mean[i] = z
    mean[i, 1] += 1.0
    mean[2, -i] = 3.0
    pyro.sample("y", dist.Normal(mean, 1.0).to_event(2), obs=torch.ones(3, 2))


def reads_its_data(y):
    """Numbers in the data and in constants decide on the structure."""
    size = int(y.max().ceil())
    with pyro.plate("levels", size):
        level = pyro.sample("level", dist.Normal(torch.linspace(0, 1, size), 1.0))
    for t in range(torch.tensor([2, 3]).sum().item() - 2):
        if y[t] > 0:
            pyro.sample(f"y{t}", dist.Normal(level[int(y[t]) - 1], 1.0), obs=y[t])


OUTSIDE = dist.Normal(0.0, 1.0, validate_args=True).expand([2]).to_event(1)
MIXED = dist.MixtureSameFamily(
    dist.Categorical(torch.ones(2), validate_args=True),
    dist.Normal(torch.tensor([-1.0, 1.0]), 1.0, validate_args=True),
    validate_args=True,
)


def declared_outside(y):
    """Distributions that were made with validation on."""
    weights = pyro.sample("weights", OUTSIDE)
    other = pyro.sample("other", MIXED)
    pyro.sample("y", dist.Normal(weights.sum() + other, 1.0), obs=y[0])


def sequential_plates(y):
    centre = pyro.sample("centre", dist.Normal(0.0, 1.0))
    for g in pyro.plate("groups", 2):
        group = pyro.sample(f"group{g}", dist.Normal(centre, 1.0))
        for m in pyro.plate(f"members{g}", 2):
            pyro.sample(f"y{g}{m}", dist.Normal(group, 0.5), obs=y[2 * g + m])


def masked(y):
    """Masks over observed elements, one of them made by a latent, and one handed to the distribution itself."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with (
        pyro.plate("data", len(y)),
        pyro.poutine.mask(mask=torch.tensor([True, False, True, True])),
    ):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)
        pyro.sample("v", dist.Normal(z, 2.0).mask(z > 0), obs=y + 1)
    with pyro.poutine.mask(mask=False):
        pyro.sample("x", dist.Normal(z, 1.0), obs=y[0])


def filled(y):
    """Densities that write where a condition holds, or by slices from the end, and lists of samples."""
    p = pyro.sample("p", dist.Dirichlet(torch.ones(3)))
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    cuts = pyro.sample("cuts", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    pyro.sample("counts", dist.Multinomial(6, p), obs=torch.tensor([1.0, 2.0, 3.0]))
    with pyro.plate("data", len(y)):
        pyro.sample(
            "y", dist.OrderedLogistic(z, cuts.sort().values), obs=torch.tensor([0, 1, 2, 1])
        )
    loc = torch.tensor([z, 2 * p[0], 1.0])
    loc[loc > 1] = 1
    pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=torch.zeros(3))
    pyro.sample("s", dist.DiscreteHMM(p.log(), torch.eye(3), dist.Normal(LEVELS, 1.0)), obs=y)


SPLINE = pyro.distributions.transforms.spline(1, count_bins=4)


def learned_flow(y):
    """A density that writes into tensors made from parameters alone."""
    pyro.module("spline", SPLINE)
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample(
        "y",
        dist.TransformedDistribution(dist.Normal(z.expand(1), 1.0).to_event(1), [SPLINE]),
        obs=y[:1],
    )


PROGRAMS = [
    learned_flow,
    filled,
    hidden_markov,
    indices,
    written,
    reads_its_data,
    declared_outside,
    sequential_plates,
    masked,
]
DATA = torch.tensor([0.3, 1.6, -0.4, 2.5])


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_densities_are_those_of_the_program(program):
    model, data = GraphicalModel.from_pyro(program, DATA)
    natural = DCPC(model, num_particles=6).init(data, seed=0).natural
    for k in range(6):
        values = {n: v[min(k, v.shape[0] - 1), 0] for n, v in natural.items()}
        trace = pyro.poutine.trace(pyro.condition(program, data=values)).get_trace(DATA)
        trace.compute_log_prob()
        for name, site in model.sites.items():
            found = site.kernel(*(natural[p] for p in site.parents)).log_prob(natural[name])
            expected = trace.nodes[name]["log_prob"].detach()
            assert torch.allclose(found[min(k, found.shape[0] - 1), 0], expected, atol=1e-5), name
    pyro.clear_param_store()


def test_a_hidden_markov_loop_against_enumeration():
    model, data = GraphicalModel.from_pyro(hidden_markov, DATA)
    assert model.sites["s2"].parents == ("s1",) and model.sites["y2"].parents == ("s2",)
    likelihood = dist.Normal(LEVELS, 1.0).log_prob(DATA.unsqueeze(-1)).double()
    paths = torch.tensor(list(itertools.product(range(3), repeat=4)))
    joint = INITIAL.double().log()[paths[:, 0]] + likelihood[torch.arange(4), paths].sum(1)
    joint = joint + TRANSITION.double().log()[paths[:, :-1], paths[:, 1:]].sum(1)
    weights = torch.softmax(joint, 0)
    found = imported_posterior((model, data), names=[f"s{t}" for t in range(4)])
    states = torch.stack([found[f"s{t}"] for t in range(4)], -1)
    for value in range(3):
        assert agrees((states == value).double(), ((paths == value) * weights[:, None]).sum(0))
    evidence = DCPC(model, num_particles=64).log_evidence(data)
    assert abs(evidence - torch.logsumexp(joint, 0)) < 0.05
    same = (paths[:, 1:] == paths[:, :-1]).double()
    assert agrees((states[..., 1:] == states[..., :-1]).double(), (same * weights[:, None]).sum(0))


class Regression(PyroModule):
    def __init__(self):
        super().__init__()
        self.layer = PyroModule[torch.nn.Linear](2, 1)
        self.layer.weight = PyroSample(
            dist.Normal(0.0, 1.0, validate_args=True).expand([1, 2]).to_event(2)
        )
        self.layer.bias = PyroSample(lambda module: dist.Normal(0.0, 1.0).expand([1]).to_event(1))

    def forward(self, x, y):
        mean = self.layer(x).squeeze(-1)
        with pyro.plate("data", len(x)):
            return pyro.sample("y", dist.Normal(mean, 0.7), obs=y)


def test_a_module_with_random_weights_against_the_conjugate_posterior():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 2, generator=generator)
    y = torch.randn(6, generator=generator)
    model, data = GraphicalModel.from_pyro(Regression(), x, y)
    design = torch.cat([x, torch.ones(6, 1)], 1).double()
    covariance = torch.linalg.inv(torch.eye(3).double() + design.T @ design / 0.49)
    mean = covariance @ design.T @ y.double() / 0.49
    found = imported_posterior((model, data), names=["layer.weight", "layer.bias"])
    weights = torch.cat([found["layer.weight"].squeeze(-2), found["layer.bias"]], -1)
    assert agrees(weights, mean)
    outer = weights.unsqueeze(-1) * weights.unsqueeze(-2)
    assert agrees(outer, covariance + torch.outer(mean, mean), floor=0.01)


def test_names_with_dots_are_told_apart():
    def program():
        for name in ("a.b", "a~1b", "a~b", "a.b.c"):
            pyro.sample(name, dist.Normal(pyro.param(f"loc_{name}", torch.zeros(())), 1.0))

    with pyro.get_param_store().scope():
        model, _ = GraphicalModel.from_pyro(program)
    assert len(list(model.parameters())) == 4 and len(model.modules_of_sites) == 4
    assert DCPC(model).init(seed=0).particles["a.b"].shape == (16, 1)


SHOWN = torch.tensor([True, False, True])
Y = torch.tensor([0.5, torch.nan, 2.0])


def partly_observed(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 3):
        value = pyro.sample("y", dist.Normal(z, 1.0), obs=y, obs_mask=SHOWN)
        pyro.sample("x", dist.Normal(value, 1.0), obs=torch.tensor([0.0, 3.0, 1.0]))


def test_partly_observed_values_against_the_conjugate_posterior():
    """What is hidden of y (element 1) is inferred between z and x; what is shown of it is data."""
    model, data = GraphicalModel.from_pyro(partly_observed, Y)
    assert all(v.isfinite().all() for v in data.values())
    found = imported_posterior((model, data), names=["z", "y_unobserved"])
    precision = torch.tensor([[4.0, -1.0], [-1.0, 2.0]]).double()  # of (z, y_1)
    covariance = precision.inverse()
    mean = covariance @ torch.tensor([0.5 + 2.0, 3.0]).double()
    pair = torch.stack([found["z"], found["y_unobserved"][..., 1]], -1)
    assert agrees(pair, mean, floor=0.01)
    outer = pair.unsqueeze(-1) * pair.unsqueeze(-2)
    assert agrees(outer, covariance + torch.outer(mean, mean), floor=0.02)


def test_masked_data_count_nothing():
    def program(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 3), pyro.poutine.mask(mask=SHOWN):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    found = imported_posterior(GraphicalModel.from_pyro(program, Y), names=["z"])["z"]
    assert agrees(found, 2.5 / 3) and agrees(found.square(), 1 / 3 + (2.5 / 3) ** 2)


def test_series_of_different_lengths_against_enumeration():
    """A mask that cuts the end of a series, latents and all."""
    lengths = torch.tensor([1, 3])
    y = torch.tensor([[0.2, 9.0, 9.0], [1.5, 0.1, 2.2]])

    def program(y):
        with pyro.plate("series", 2):
            state = torch.zeros(2, dtype=torch.long)
            for t in pyro.markov(range(3)):
                with pyro.poutine.mask(mask=t < lengths):
                    state = pyro.sample(f"s{t}", dist.Categorical(TRANSITION[state]))
                    pyro.sample(f"y{t}", dist.Normal(LEVELS[state], 1.0), obs=y[:, t])

    found = imported_posterior(GraphicalModel.from_pyro(program, y), names=["s0", "s1", "s2"])
    likelihood = dist.Normal(LEVELS, 1.0).log_prob(y.unsqueeze(-1)).double()
    for series, length in enumerate(lengths.tolist()):
        paths = torch.tensor(list(itertools.product(range(3), repeat=length)))
        whole = torch.cat([torch.zeros(len(paths), 1, dtype=torch.long), paths], 1)
        joint = TRANSITION.double().log()[whole[:, :-1], whole[:, 1:]].sum(1)
        weights = torch.softmax(joint + likelihood[series, torch.arange(length), paths].sum(1), 0)
        for t in range(length):
            for value in range(3):
                expected = ((paths[:, t] == value) * weights).sum()
                assert agrees((found[f"s{t}"][..., series] == value).double(), expected)


def test_correlations_of_an_imported_program_follow_their_density():
    """E r^2 = 1 / (2 concentration + dim - 1) for draws of each site; 20,000 of them, 5 standard errors."""

    def program():
        pyro.sample("factor", dist.LKJCholesky(3, 2.0, validate_args=True))
        pyro.sample("matrix", dist.LKJ(3, 1.0))
        pyro.sample(
            "below", dist.LKJCholesky(3, pyro.sample("eta", dist.Gamma(50.0, 25.0)) * 0 + 2.0)
        )

    model, _ = GraphicalModel.from_pyro(program)
    particles = DCPC(model, num_particles=20000).init(seed=0).particles
    for name, second in (("factor", 1 / 6), ("below", 1 / 6), ("matrix", 1 / 4)):
        drawn = particles[name][:, 0].double()
        squared = (drawn if name == "matrix" else drawn @ drawn.mT)[:, 2, 1].square()
        assert abs(squared.mean() - second) < 5 * squared.std() / 20000**0.5, name


def test_draws_by_rejection_follow_their_density():
    """E cos(x - m) = I_1(2) / I_0(2) for x ~ VonMises(m, 2); 1,000 draws, 5 standard errors."""

    def program():
        m = pyro.sample("m", dist.VonMises(0.0, 4.0))
        pyro.sample("x", dist.VonMises(m, 2.0))

    model, _ = GraphicalModel.from_pyro(program)
    particles = DCPC(model, num_particles=1000).init(seed=0).particles
    cosine = torch.cos(particles["x"] - particles["m"]).double()
    two = torch.tensor(2.0)
    expected = torch.special.i1(two) / torch.special.i0(two)
    assert abs(cosine.mean() - expected) < 5 * cosine.std() / 1000**0.5
    assert particles["x"].unique().numel() > 990


def test_draws_follow_what_is_learned():
    """The prior's location is a parameter: once it is moved to 7, first clouds lie there."""

    def program():
        pyro.sample(
            "z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0).expand([2]).to_event(1)
        )

    with pyro.get_param_store().scope():
        model, _ = GraphicalModel.from_pyro(program)
    with torch.no_grad():
        next(model.parameters()).fill_(7.0)
    z = DCPC(model, num_particles=2000).init(batch_size=2, seed=0).particles["z"]
    assert z.unique().numel() > 7900
    assert (z.mean(0) - 7).abs().max() < 5 / 2000**0.5
    assert (z.var(0) - 1).abs().max() < 5 * (2 / 2000) ** 0.5


# -- refusals --------------------------------------------------------------------------------------


def branching(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    loc = 0.0 if z > 0 else 1.0
    pyro.sample("y", dist.Normal(loc, 1.0), obs=y)


def in_a_list(y):
    which = pyro.sample("which", dist.Categorical(INITIAL))
    loc = [0.0, 1.0, 2.0][which]
    pyro.sample("y", dist.Normal(loc, 1.0), obs=y)


def by_numpy(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    loc = torch.from_numpy(z.numpy())
    pyro.sample("y", dist.Normal(loc, 1.0), obs=y)


def wide_mask(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.poutine.mask(mask=SHOWN):
        pyro.sample("y", dist.Normal(z, 1.0), obs=y[0])


def point(y):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    twice = pyro.sample("twice", dist.Delta(2 * z))
    pyro.sample("y", dist.Normal(twice, 1.0), obs=y)


@pytest.mark.parametrize(
    ("program", "sentences"),
    [
        (branching, ["reads the numbers in a latent", "loc = 0.0 if z > 0 else 1.0"]),
        (in_a_list, ["reads the numbers in a latent", "loc = [0.0, 1.0, 2.0][which]"]),
        (by_numpy, ["reads the numbers in a latent", "loc = torch.from_numpy(z.numpy())"]),
        (wide_mask, ["'y': its mask (3,) is wider"]),
        (point, ["'twice' is a Delta", "pyro.deterministic('twice', value)"]),
    ],
)
def test_refusals_say_why_and_where(program, sentences):
    with pytest.raises(ModelError) as refusal:
        GraphicalModel.from_pyro(program, torch.zeros(2))
    for sentence in sentences:
        assert sentence in str(refusal.value)
