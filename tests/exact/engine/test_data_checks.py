"""Data that do not fit a model are refused by name; data that fit, up to the kind of number, give the same densities."""

import pytest
import torch
from torch import distributions as d

from aif_dcpc.inference import DCPC, ClampError, GraphicalModel, ModelError, MoveError, lag
from aif_dcpc.inference.images.layers import GreyBernoulli
from aif_dcpc.inference.moves.gibbs import Gibbs


def of(law, scope="episode"):
    """z ~ Normal(0, 1) and x from a law that reads it."""
    model = GraphicalModel()
    model.add_site("z", lambda: d.Normal(0.0, 1.0))
    model.add_site("x", law, ["z"], scope=scope)
    return model


def log_joint(model, x):
    engine = DCPC(model, num_particles=3)
    return engine.log_joint(engine.init({"x": x}, seed=0))


IMPOSSIBLE = {
    "Exponential": (lambda z: d.Exponential(z.exp()), -1.0),
    "Bernoulli": (lambda z: d.Bernoulli(logits=z), 2.0),
    "Poisson": (lambda z: d.Poisson(z.exp()), 1.5),
    "Uniform": (lambda z: d.Uniform(0 * z, 1 + 0 * z), 1.5),
    "Normal": (lambda z: d.Normal(z, 1.0), float("nan")),
    "Categorical": (lambda z: d.Categorical(logits=z.unsqueeze(-1) * torch.arange(3.0)), 7),
    "Binomial": (lambda z: d.Binomial(3, logits=z), 4.0),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_values_are_refused_by_name(name):
    law, value = IMPOSSIBLE[name]
    with pytest.raises(
        ClampError, match=rf"site 'x': found {value}, .*outside its kernel's support"
    ):
        DCPC(of(law)).init({"x": torch.tensor([1 if name == "Categorical" else 1.0, value])})


def test_impossible_values_of_roots_are_refused_before_their_children_read_them():
    model = GraphicalModel()
    table = torch.eye(3)
    model.add_site("c", lambda: d.Categorical(torch.ones(3)))
    model.add_site("z", lambda c: d.Normal(table[c].sum(-1), 1.0), ["c"])
    with pytest.raises(ClampError, match="site 'c': found 7"):
        DCPC(model).init({"c": torch.tensor([1, 7])})


def test_impossible_vectors_are_shown_whole():
    model = of(lambda z: d.Dirichlet(z.exp().unsqueeze(-1).expand(*z.shape, 2)))
    with pytest.raises(ClampError, match=r"found \[0.5, 0.75\]"):
        DCPC(model).init({"x": torch.tensor([[0.5, 0.5], [0.5, 0.75]])})


@pytest.mark.parametrize("shape", [(4, 4), (4, 1), (4, 3, 2)])
def test_events_of_another_shape_are_refused(shape):
    with pytest.raises(ClampError, match=r"site 'x': its kernel draws events of shape \(\)"):
        DCPC(of(lambda z: d.Normal(z, 1.0)), num_particles=4).init({"x": torch.zeros(shape)})
    with pytest.raises(
        ClampError, match=r"site 'x': expected data of shape \(B\) \+ event, found \(\)"
    ):
        DCPC(of(lambda z: d.Normal(z, 1.0))).init({"x": torch.zeros(())})


def test_events_of_a_partly_observed_latent_are_compared_too():
    data = {"z": torch.zeros(2, 3), "x": torch.zeros(2)}
    masks = {"z": torch.tensor([True, False])}
    with pytest.raises(ClampError, match=r"site 'z': its kernel draws events of shape \(\)"):
        DCPC(of(lambda z: d.Normal(z, 1.0))).init(data, masks=masks)


@pytest.mark.parametrize(
    "law",
    [lambda z: d.Bernoulli(logits=z), lambda z: d.Poisson(z.exp()), lambda z: d.Normal(z, 1.0)],
)
def test_integers_and_booleans_count_as_reals_where_the_kernel_draws_reals(law):
    expected = log_joint(of(law), torch.tensor([1.0, 0.0]))
    assert torch.equal(log_joint(of(law), torch.tensor([1, 0])), expected)
    assert torch.equal(log_joint(of(law), torch.tensor([True, False])), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_labels_may_come_as_reals(dtype):
    model = GraphicalModel()
    model.add_site("c", lambda: d.Categorical(torch.ones(3)))
    model.add_site("z", lambda c: d.Normal(torch.arange(3.0)[c], 1.0), ["c"])
    engine = DCPC(model, num_particles=2)
    labels = torch.tensor([2.0, 0.0], dtype=dtype)
    state = engine.init({"c": labels}, seed=0)
    assert state.values["c"].tolist() == [[2, 0]] and state.values["c"].dtype == torch.int64
    state = engine.init({"c": labels}, masks={"c": torch.tensor([True, False])}, seed=0)
    assert state.values["c"].dtype == torch.int64 and (state.values["c"][:, 0] == 2).all()


def test_inputs_in_single_precision_may_stand_beside_data_in_double():
    model = GraphicalModel()
    model.add_input("u")
    model.add_site("z", lambda u: d.Normal(u, 1.0), ["u"], scope="slice")
    model.add_site("x", lambda z: d.Normal(z, 0.5), ["z"], scope="slice")
    engine = DCPC(model, num_particles=4)
    data = {"u": torch.zeros(1, 3), "x": torch.ones(1, 3, dtype=torch.float64)}
    state = engine.init(data, seed=0)
    assert {state.log_weights.dtype, state.log_evidence.dtype} == {torch.float64}
    expected = d.Normal(0.0, 1.0).log_prob(state.values["z"])
    expected = expected + d.Normal(state.values["z"], 0.5).log_prob(torch.tensor(1.0))
    assert torch.allclose(engine.log_joint(state), expected.sum(2))
    assert engine.sample(data, num_particles=4, seed=0)["z"].dtype == torch.float64


EDGES = {
    "grey pixels": (
        lambda z: GreyBernoulli(z[..., None, None, None].expand(*z.shape, 1, 2, 2)),
        torch.rand(2, 1, 2, 2),
    ),
    "edges": (lambda z: d.ContinuousBernoulli(logits=z), torch.tensor([0.0, 1.0])),
    "rounded edges": (lambda z: d.Uniform(0 * z, 1 + 0 * z), torch.tensor([-1e-7, 1 + 1e-6])),
    "rounded simplex": (
        lambda z: d.Dirichlet(z.exp().unsqueeze(-1).expand(*z.shape, 3)),
        torch.tensor([[0.3333, 0.3333, 0.3333], [0.0, 0.5, 0.5]]),
    ),
    "positive": (lambda z: d.LogNormal(z, 1.0), torch.tensor([0.0, 1e30])),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges_of_a_support_are_accepted(name):
    law, x = EDGES[name]
    assert DCPC(of(law)).init({"x": x}, seed=0).values["x"].shape == (1, *x.shape)


def test_a_value_is_possible_if_it_is_for_some_particles():
    model = GraphicalModel()
    model.add_site("a", lambda: d.Gamma(2.0, 1.0))
    model.add_site("x", lambda a: d.Uniform(0 * a, a), ["a"])
    DCPC(model, num_particles=400).init({"x": torch.tensor([3.0])}, seed=0)
    with pytest.raises(ClampError, match="outside"):
        DCPC(model, num_particles=400).init({"x": torch.tensor([-1.0])}, seed=0)


def test_what_is_hidden_is_not_checked():
    model = of(lambda z: d.Gamma(2.0 + 0 * z, z.exp()), scope="slice")
    x = torch.tensor([[-1.0, 2.0, float("nan")]])
    shown = torch.tensor([[False, True, False]])
    state = DCPC(model, num_particles=3).init({"x": x}, masks={"x": shown}, seed=0)
    assert torch.isfinite(DCPC(model).log_joint(state)).all()
    with pytest.raises(ClampError, match=r"found -1\.0"):
        DCPC(model).init({"x": x}, masks={"x": ~shown})


def test_a_site_is_observed_or_set():
    with pytest.raises(ClampError, match="'x' is in data and in do"):
        DCPC(of(lambda z: d.Normal(z, 1.0))).init({"x": torch.zeros(2)}, do={"x": torch.ones(2)})


# -- supports --------------------------------------------------------------------------------------


@pytest.mark.parametrize("particles", [1, 8])
def test_a_support_that_depends_on_parents_is_refused(particles):
    model = GraphicalModel()
    model.add_site("a", lambda: d.Gamma(4.0, 2.0))
    model.add_site("u", lambda a: d.Uniform(torch.zeros_like(a), a), ["a"])
    model.add_site("x", lambda u: d.Normal(u, 0.5), ["u"])
    with pytest.raises(ModelError, match="site 'u': its support depends on its parents"):
        DCPC(model, num_particles=particles).init({"x": torch.tensor([3.0])})


def test_what_to_write_instead_is_exact():
    """a ~ Gamma(4, 2), u = a * fraction, x ~ Normal(a, .5) = 3: the fraction keeps its prior, mean .5 and variance 1/12."""
    model = GraphicalModel()
    model.add_site("a", lambda: d.Gamma(4.0, 2.0))
    model.add_site("fraction", lambda: d.Uniform(0.0, 1.0))
    model.add_deterministic("u", lambda a, fraction: a * fraction, ["a", "fraction"])
    model.add_site("x", lambda a, u: d.Normal(a + 0 * u, 0.5), ["a", "u"])
    engine = DCPC(model, num_particles=1500)
    state, _ = engine.run(engine.init({"x": torch.tensor([3.0])}, seed=0), 40)
    assert abs(state.particles["fraction"].mean() - 0.5) < 5 * (1 / 12 / 1500) ** 0.5


def growing(initial, kernel):
    model = GraphicalModel()
    model.add_site("s", kernel, [lag("s")], initial=initial, scope="slice")
    model.add_site("o", lambda s: d.Normal(s, 0.5), ["s"], scope="slice")
    return model


def test_initial_and_usual_kernel_need_the_same_support():
    model = growing(lambda: d.HalfNormal(1.0), lambda s: d.Normal(s, 1.0))
    with pytest.raises(ModelError, match="site 's': its initial kernel has the support"):
        DCPC(model).init({"o": torch.zeros(1, 3)})
    engine = DCPC(model, num_particles=4)
    state = engine.init({"o": torch.zeros(1, 1)})
    with pytest.raises(ModelError, match="site 's': its initial kernel has the support"):
        engine.append(state, {"o": torch.zeros(1)})
    engine = DCPC(
        growing(lambda: d.LogNormal(0.0, 1.0), lambda s: d.Gamma(2.0 + 0 * s, 1.0)), num_particles=4
    )
    state = engine.append(engine.init({"o": torch.ones(1, 1)}), {"o": torch.ones(1)})
    assert (engine.run(state, 3)[0].particles["s"] > 0).all()


def test_bounds_by_element_are_kept():
    law = d.Uniform(torch.tensor([0.0, 5.0]), torch.tensor([1.0, 7.0]))
    model = GraphicalModel()
    model.add_site("u", lambda: law)
    model.add_site("x", lambda u: d.Normal(u.sum(-1), 1.0), ["u"])
    engine = DCPC(model, num_particles=6)
    state, _ = engine.run(engine.init({"x": torch.tensor([3.0, 9.0])}, seed=0), 5)
    assert law.support.check(state.particles["u"]).all()
    assert (
        engine.log_evidence({"x": torch.tensor([6.0])}, num_samples=500, num_fit=500)
        .isfinite()
        .all()
    )


# -- discrete supports -----------------------------------------------------------------------------


def frequencies(draws, probabilities):
    """Largest distance of frequencies from probabilities, in standard errors."""
    counts = torch.stack([(draws == v).double().mean() for v in range(len(probabilities))])
    return (
        (counts - probabilities).abs()
        / (probabilities * (1 - probabilities) / draws.numel() + 1e-9).sqrt()
    ).max()


def test_counts_out_of_an_unknown_number():
    """n ~ Poisson(3), k | n ~ Binomial(n, .5), x ~ Normal(k, .7): k by enumeration of n."""
    model = GraphicalModel()
    model.add_site("n", lambda: d.Poisson(3.0))
    model.add_site("k", lambda n: d.Binomial(n, torch.full_like(n, 0.5)), ["n"])
    model.add_site("x", lambda k: d.Normal(k, 0.7), ["k"])
    engine = DCPC(model, num_particles=1500)
    state = engine.init({"x": torch.tensor([2.0])}, seed=0)
    assert state.conditioning.bounds["k"] == (0.0, float("inf"))
    assert "k" not in state.conditioning.supports
    state, _ = engine.run(state, 60)
    n = torch.arange(30.0)
    joint = d.Poisson(3.0).log_prob(n)[:, None] + d.Binomial(
        n, torch.tensor(0.5), validate_args=False
    ).log_prob(torch.arange(12.0)[:, None]).mT.masked_fill(
        torch.arange(12.0) > n[:, None], -torch.inf
    )
    joint = joint + d.Normal(torch.arange(12.0), 0.7).log_prob(torch.tensor(2.0))
    posterior = joint.flatten().double().softmax(0).reshape(30, 12)
    assert frequencies(state.particles["k"], posterior.sum(0)[:8]) < 5
    assert frequencies(state.particles["n"], posterior.sum(1)[:10]) < 5


def test_counts_out_of_different_numbers():
    model = GraphicalModel()
    model.add_site("k", lambda: d.Binomial(torch.tensor([3.0, 5.0]), torch.tensor(0.5)))
    model.add_site("x", lambda k: d.Normal(k.sum(-1), 0.7), ["k"])
    engine = DCPC(model, num_particles=1500)
    state, _ = engine.run(engine.init({"x": torch.tensor([2.0])}, seed=0), 60)
    laws = [d.Binomial(n, torch.tensor(0.5)).log_prob(torch.arange(n + 1.0)) for n in (3, 5)]
    joint = (
        laws[0][:, None]
        + laws[1]
        + d.Normal(torch.arange(4.0)[:, None] + torch.arange(6.0), 0.7).log_prob(torch.tensor(2.0))
    )
    posterior = joint.flatten().double().softmax(0).reshape(4, 6)
    assert frequencies(state.particles["k"][..., 0], posterior.sum(1)) < 5
    assert frequencies(state.particles["k"][..., 1], posterior.sum(0)) < 5


@pytest.mark.parametrize(
    "law", [d.Bernoulli(torch.tensor([0.3, 0.6, 0.5])), d.Categorical(torch.eye(3) + 0.5)]
)
def test_elements_of_independent_discrete_vectors_are_drawn_exactly(law):
    model = GraphicalModel()
    model.add_site("z", lambda: d.Independent(law, 1))
    model.add_site("x", lambda z: d.Normal(z.sum(-1).float(), 0.8), ["z"])
    engine = DCPC(model, num_particles=2000)
    state = engine.init({"x": torch.tensor([1.2])}, seed=0)
    assert engine.schedule(state).moves(0) == (Gibbs("z"),)
    state, _ = engine.run(state, 8)
    size = len(state.conditioning.supports["z"])
    every = torch.cartesian_prod(*[torch.arange(size)] * 3).to(state.values["z"].dtype)
    joint = law.log_prob(every).sum(-1) + d.Normal(every.sum(-1).float(), 0.8).log_prob(
        torch.tensor(1.2)
    )
    posterior = joint.double().softmax(0)
    places = torch.tensor([size**2, size, 1])
    assert frequencies((state.particles["z"].long() * places).sum(-1), posterior) < 5


def test_multinomial_latents_need_a_draw_of_their_own():
    model = GraphicalModel()
    model.add_site("z", lambda: d.Multinomial(3, torch.ones(2)))
    engine = DCPC(model)
    with pytest.raises(MoveError, match="neither finite nor ordered; give it a conditional"):
        engine.sweep(engine.init())
